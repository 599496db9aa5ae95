"""Classification of whole images with the backbone's own classifier.

Letters for shapes: M members, C classes, K crops of an image.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from detector.errors import CheckpointError, ParameterError
from detector.inference.arrays import Array
from detector.inference.ensemble import Ensemble
from detector.inference.executor import Executor, ForwardRequest, run_directly, without_callers_context
from detector.inference.placement import Networks, place
from detector.inference.region_crops import ImageView
from detector.inference.test_time_crops import SCALES, crop_windows
from detector.io.decoding import ImageInput, as_several
from detector.options import CROP_COST
from detector.structures.classes import ClassList
from detector.structures.detections import Classification

# Twice what the largest of the scales of 144 crops asks for: nothing that a crop shows is lost, and a
# photograph of 50 megapixels takes no more memory than another.
VIEW_SIDE = 2 * SCALES[-1]


class Namer(Protocol):
    """Names what one image shows."""

    def __call__(self, image: ImageInput, *, executor: Executor = run_directly) -> Classification:
        """Return the likeliest classes of an image; ``executor`` runs the network."""


class Classifier:
    """Names what an image shows. Images, the caller's settings of torch, and what a fork does to it are as
    with :class:`detector.inference.detector.Detector`.

    A detector's checkpoint serves too if it kept the whole-image classes: they are the first outputs of its
    linear classifier, or those of a second one for whole images alone.
    """

    def __init__(
        self,
        networks: Networks | Ensemble,
        *,
        engine: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
    ) -> None:
        """Make a classifier of checkpoints, or of an Ensemble, which is not copied.

        The softmax of several is averaged. ``engine``, ``device`` and ``precision`` say how they run
        (:func:`detector.inference.placement.place`); an Ensemble runs as it was placed. ``batch`` is how many
        crops the network takes at once, if not as many as are best for the engine.

        Raises CheckpointError if a checkpoint holds no classification classes, or other ones than the first,
        or sees images prepared otherwise.
        """
        ensemble = place(networks, engine=engine, device=device, precision=precision)
        for member in ensemble.members:
            if member.metadata.classification is None:
                raise CheckpointError(
                    f"{member.metadata.name} was made for detection alone and has no classes of whole "
                    "pictures"
                )
        ensemble.check_alike("classification")
        self.metadata = ensemble.members[0].metadata
        assert self.metadata.classification is not None
        self.name = ensemble.name
        self.classes: ClassList = self.metadata.classification
        self._preprocessing = replace(self.metadata.preprocessing, context=0, short_side=VIEW_SIDE)
        self._engine = ensemble.classifier_engine(batch=batch)
        self._members = len(ensemble.members)

    @overload
    def classify(  # type: ignore[overload-overlap]
        self, images: ImageInput, *, top: int = 5, crops: int = 1
    ) -> Classification: ...

    @overload
    def classify(
        self, images: Sequence[ImageInput], *, top: int = 5, crops: int = 1
    ) -> list[Classification]: ...

    @without_callers_context
    def classify(
        self, images: ImageInput | Sequence[ImageInput], *, top: int = 5, crops: int = 1
    ) -> Classification | list[Classification]:
        """Return the ``top`` likeliest classes of an image, or of each of several; ``crops`` is 1, 10 or
        144."""
        name = self.namer(top=top, crops=crops)
        several, alone = as_several(images)
        found = [name(image) for image in several]
        return found[0] if alone else found

    def __reduce__(self) -> NoReturn:
        """Raises ParameterError: what is loaded stays in its process."""
        raise ParameterError(
            "a loaded classifier can be neither copied nor sent to another process: send the paths of its "
            "weights and call load_classifier there; threads may share one"
        )

    def namer(self, *, top: int = 5, crops: int = 1) -> "Namer":
        """Return a function from an image to its likeliest classes, its settings checked once: parameters are
        those of :meth:`classify`. Several threads may call it."""
        if not 1 <= top <= len(self.classes):
            raise ParameterError(f"top must lie in 1..{len(self.classes)}, got {top}")

        def name(image: ImageInput, *, executor: Executor = run_directly) -> Classification:
            found = best(self.probabilities(image, crops=crops, executor=executor), top)
            return replace(found, classes=self.classes)

        return name

    def view(self, image: ImageInput) -> ImageView:
        """Reduce an image [H,W,3] once. Raises ParameterError for what is no image."""
        return ImageView(image, self._preprocessing)

    @without_callers_context
    def probabilities(
        self, image: ImageInput | ImageView, *, crops: int = 1, executor: Executor = run_directly
    ) -> NDArray[np.float32]:
        """Return the softmax [C] of an image [H,W,3], averaged over its crops and over the members (arXiv
        1409.4842, section 7).

        ``executor`` runs the network; left out, it is run at once.
        """
        return self.member_probabilities(image, crops=crops, executor=executor).mean(axis=0)

    @without_callers_context
    def member_probabilities(
        self, image: ImageInput | ImageView, *, crops: int = 1, executor: Executor = run_directly
    ) -> NDArray[np.float32]:
        """Return the softmax [M,C] of each member, averaged over the crops of an image [H,W,3].

        What members have in common runs once for all: an evaluation that measures members alone and together
        looks at each image once. The mean over the members is :meth:`probabilities`.
        """
        view = ImageView.of(image, self._preprocessing)
        height, width = view.pixels.shape[:2]
        chosen = crop_windows(width, height, crops)
        size, arrays = self._preprocessing.size, self._engine.arrays

        def make_crops(first: int, last: int) -> Array:
            windows = chosen.windows[first:last]

            def turned_or_not(mirrored: int, rows: NDArray[np.int64]) -> Array:
                crops = view.crops(windows[rows], size, arrays)  # n x 3 x 224 x 224
                return arrays.mirror(crops) if mirrored else crops

            return arrays.in_groups(chosen.mirrored[first:last].astype(np.int64), turned_or_not)

        outputs = executor(ForwardRequest(self._engine, len(chosen.windows), make_crops, cost=CROP_COST))
        each = [outputs[f"{member}.probabilities"].mean(axis=0) for member in range(self._members)]
        return np.stack(each)  # M x C


def best(probabilities: NDArray[np.float32], top: int) -> Classification:
    """Return the ``top`` likeliest classes of probabilities [C]."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Classification(order, probabilities[order])
