"""Classification of whole pictures with the backbone's own classifier.

Letters for shapes: N pictures, C classes, K crops of a picture.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from detector.checkpoints import Checkpoint
from detector.classes import ClassList
from detector.crops import crops_of
from detector.engine import Engine
from detector.errors import CheckpointError, ParameterError
from detector.regions import normalise, warp
from detector.results import Classification


class Classifier:
    """Names what a picture shows. A picture is uint8 [H,W,3] RGB, upright.

    A detector's checkpoint serves too if it kept the classifier's rows: they stand first.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> None:
        """Raises CheckpointError if the checkpoint holds no classification classes."""
        metadata, backbone = checkpoint.metadata, checkpoint.backbone
        if metadata.classification is None:
            raise CheckpointError(
                f"{metadata.name} was made for detection alone and has no classes of whole pictures"
            )
        self.name = metadata.name
        self.classes: ClassList = metadata.classification
        self.metadata = metadata
        self._preprocessing = replace(metadata.preprocessing, context=0)
        count = len(self.classes)
        self._engine = Engine(
            backbone.features,
            backbone,
            lambda maps: (backbone.pool(maps)[:, :count].softmax(dim=1),),
            device=device,
            precision=precision,
        )

    def classify(
        self, images: Sequence[NDArray[np.uint8]], *, top: int = 5, crops: int = 1
    ) -> list[Classification]:
        """The ``top`` likeliest classes of each picture; ``crops`` is 1, 10 or 144."""
        if not 1 <= top <= len(self.classes):
            raise ParameterError(f"top must lie in 1..{len(self.classes)}, got {top}")
        return [_best(self.probabilities(image, crops=crops), top) for image in images]

    def probabilities(self, image: NDArray[np.uint8], *, crops: int = 1) -> NDArray[np.float32]:
        """Softmax [C] of one picture [H,W,3], averaged over its crops (arXiv 1409.4842, section 7)."""
        chosen = crops_of(image.shape[1], image.shape[0], crops)
        picture = normalise(image, self._preprocessing, self._engine.device)
        pixels = warp(picture, chosen.boxes, self._preprocessing)  # K x 3 x 224 x 224
        mirrored = torch.from_numpy(chosen.mirrored).to(pixels.device)
        pixels[mirrored] = pixels[mirrored].flip(3)
        (softmax,) = self._engine.run(pixels)
        return softmax.mean(dim=0).numpy()


def _best(probabilities: NDArray[np.float32], top: int) -> Classification:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Classification(order, probabilities[order])
