"""Why a detection has its score: the factors of it, and where in its region the evidence lies."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACTOR_NAMES = ("probability", "predicted_iou", "objectness", "context")
"""What a score may be made of, in order (:class:`detector.inference.scoring.Scoring`): the class's
probability given the region, the predicted IoU of the region and its object, that there is an object at all
(MultiBox's confidence), and that the image as a whole shows the class."""


_WORDS = {"predicted_iou": "predicted IoU"}


@dataclass(frozen=True)
class Factor:
    """One factor of a score: ``value`` in 0..1, and the ``power`` that it has in the score."""

    name: str
    value: float
    power: float

    @property
    def contribution(self) -> float:
        """What the score is multiplied by for it: the value to its power."""
        return self.value**self.power

    def __str__(self) -> str:
        """Return it for people: its name, its value, and its power if that is not 1."""
        power = "" if self.power == 1 else f"^{self.power:.3g}"
        return f"{_WORDS.get(self.name, self.name)} {self.value:.3g}{power}"


def product_of(factors: Iterable[Factor]) -> str:
    """Write factors as a product in one line."""
    return " x ".join(map(str, factors))


@dataclass(frozen=True, eq=False)
class Explanation:
    """The factors of a detection's score, and the class activation map of its region.

    The product of the factors' contributions is the score. A factor that the scoring leaves out, or that is
    not known, is not among them.

    ``activation`` [7,7] float32 is what each place of the region adds to the class's logit (Zhou et al.,
    arXiv 1512.04150): the logit is the map's mean and ``offset``. ``region`` is where the map lies, in pixels
    of the upright image, its cells side by side: the proposal with its context, as the network saw it. It may
    reach beyond the image.
    """

    factors: tuple[Factor, ...]
    region: tuple[float, float, float, float]
    activation: NDArray[np.float32]
    offset: float

    @property
    def score(self) -> float:
        """The product of all contributions."""
        return prod(factor.contribution for factor in self.factors)

    @property
    def line(self) -> str:
        """The factors in one line: ``probability 0.93 x predicted IoU 0.71^0.5``."""
        return product_of(self.factors)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON knows it: ``factors``, each with ``name``, ``value``, ``power`` and
        ``contribution``; ``region`` x1, y1, x2, y2; ``activation``, the map's rows from the top."""
        return {
            "factors": [
                {
                    "name": factor.name,
                    "value": round(factor.value, 6),
                    "power": round(factor.power, 6),
                    "contribution": round(factor.contribution, 6),
                }
                for factor in self.factors
            ],
            "region": [round(side, 1) for side in self.region],
            "activation": [[round(value, 2) for value in row] for row in self.activation.tolist()],
        }
