"""Classification of whole pictures with the backbone's own classifier.

Letters for shapes: N pictures, C classes, K crops of a picture.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.engine import Engine
from detector.inference.ensemble import SharedTrunk, check_members, ensemble_name
from detector.inference.image_view import View
from detector.inference.isolation import isolated
from detector.inference.looks import Look, Steps, complete
from detector.inference.test_time_crops import SCALES, crops_of
from detector.io.decoding import ImageInput, check_several
from detector.models.checkpoint import Checkpoint
from detector.structures.classes import ClassList
from detector.structures.detections import Classification

# Twice what the largest of the scales of 144 crops asks for: nothing that a crop shows is lost, and a
# photograph of 50 megapixels takes no more memory than another.
_SHORT_SIDE = 2 * SCALES[-1]


class Classifier:
    """Names what a picture shows. Pictures, the caller's settings of torch, and what a fork does to it are as
    with :class:`detector.inference.detector.Detector`.

    A detector's checkpoint serves too if it kept the classifier's rows: they stand first.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Sequence[Checkpoint],
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
    ) -> None:
        """Several checkpoints make an ensemble, whose softmax is averaged; ``batch`` is how many crops the
        network takes at once, if not as many as are best for the device.

        Raises CheckpointError if a checkpoint holds no classification classes, or other ones than the first,
        or sees pictures prepared otherwise.
        """
        checkpoints = [checkpoint] if isinstance(checkpoint, Checkpoint) else list(checkpoint)
        for member in checkpoints:
            if member.metadata.classification is None:
                raise CheckpointError(
                    f"{member.metadata.name} was made for detection alone and has no classes of whole "
                    "pictures"
                )
        check_members(checkpoints, "classification")
        metadata = checkpoints[0].metadata
        assert metadata.classification is not None
        self.name = ensemble_name([member.metadata.name for member in checkpoints])
        self.classes: ClassList = metadata.classification
        self.metadata = metadata
        self._preprocessing = replace(metadata.preprocessing, context=0, short_side=_SHORT_SIDE)
        count = len(self.classes)
        backbones = [member.backbone for member in checkpoints]

        def softmax(maps: Tensor) -> tuple[Tensor, ...]:
            parts = maps.chunk(len(backbones))
            each = [
                backbone.pool(part)[:, :count].softmax(dim=1)
                for backbone, part in zip(backbones, parts, strict=True)
            ]
            return (torch.stack(each).mean(dim=0),)

        self._engine = Engine(
            SharedTrunk([backbone.features for backbone in backbones]),
            nn.ModuleList(backbones),
            softmax,
            device=device,
            precision=precision,
            batch=batch,
        )

    @isolated
    def classify(self, images: Sequence[ImageInput], *, top: int = 5, crops: int = 1) -> list[Classification]:
        """The ``top`` likeliest classes of each picture; ``crops`` is 1, 10 or 144."""
        if not 1 <= top <= len(self.classes):
            raise ParameterError(f"top must lie in 1..{len(self.classes)}, got {top}")
        return [
            best(self.probabilities(image, crops=crops), top) for image in check_several(images, "classify")
        ]

    @isolated
    def probabilities(self, image: ImageInput, *, crops: int = 1) -> NDArray[np.float32]:
        """Softmax [C] of one picture [H,W,3], averaged over its crops (arXiv 1409.4842, section 7)."""
        return complete(self.looking(image, crops=crops))

    def looking(self, image: ImageInput, *, crops: int = 1) -> Steps[NDArray[np.float32]]:
        """Steps to the same."""
        view = View(image, self._preprocessing)
        height, width = view.pixels.shape[:2]
        chosen = crops_of(width, height, crops)
        size, device = self._preprocessing.size, self._engine.device

        def views(first: int, last: int) -> Tensor:
            pixels = view.crops(chosen.boxes[first:last], size, device)  # n x 3 x 224 x 224
            mirrored = torch.from_numpy(chosen.mirrored[first:last]).to(device)
            pixels[mirrored] = pixels[mirrored].flip(3)
            return pixels

        (softmax,) = yield Look(self._engine, len(chosen.boxes), views)
        return softmax.mean(dim=0).numpy()


def best(probabilities: NDArray[np.float32], top: int) -> Classification:
    """The ``top`` likeliest classes of probabilities [C]."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Classification(order, probabilities[order])
