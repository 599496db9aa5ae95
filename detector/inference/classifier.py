"""Classification of whole images with the backbone's own classifier.

Letters for shapes: M members, C classes, K crops of an image.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.engine import Engine, InferenceNetwork, Outputs
from detector.inference.ensemble import Ensemble, SharedTrunk
from detector.inference.executor import Executor, ForwardRequest, run_directly, without_callers_context
from detector.inference.region_crops import ImageView
from detector.inference.test_time_crops import SCALES, crop_windows
from detector.io.decoding import ImageInput, check_several
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint
from detector.options import CROP_COST
from detector.structures.classes import ClassList
from detector.structures.detections import Classification

# Twice what the largest of the scales of 144 crops asks for: nothing that a crop shows is lost, and a
# photograph of 50 megapixels takes no more memory than another.
VIEW_SIDE = 2 * SCALES[-1]


class Classifier:
    """Names what an image shows. Images, the caller's settings of torch, and what a fork does to it are as
    with :class:`detector.inference.detector.Detector`.

    A detector's checkpoint serves too if it kept the whole-image classes: they are the first outputs of its
    linear classifier, or those of a second one for whole images alone.
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Sequence[Checkpoint] | Ensemble,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
    ) -> None:
        """Make a classifier of copies of the checkpoints' networks, or of an Ensemble, which is not copied.

        The softmax of several is averaged. ``device`` and ``precision`` say where copies run; an Ensemble
        runs where it was placed. ``batch`` is how many crops the network takes at once, if not as many as are
        best for the device.

        Raises CheckpointError if a checkpoint holds no classification classes, or other ones than the first,
        or sees images prepared otherwise.
        """
        ensemble = (
            checkpoint
            if isinstance(checkpoint, Ensemble)
            else Ensemble.place(checkpoint, device=device, precision=precision)
        )
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
        backbones = [member.backbone for member in ensemble.members]
        trunk = SharedTrunk([backbone.features for backbone in backbones])
        heads = ClassifierHeads(backbones, len(self.classes))
        self._engine = Engine(InferenceNetwork(trunk, heads), batch=batch)
        self._members = len(backbones)

    @without_callers_context
    def classify(self, images: Sequence[ImageInput], *, top: int = 5, crops: int = 1) -> list[Classification]:
        """Return the ``top`` likeliest classes of each image; ``crops`` is 1, 10 or 144."""
        if not 1 <= top <= len(self.classes):
            raise ParameterError(f"top must lie in 1..{len(self.classes)}, got {top}")
        return [
            best(self.probabilities(image, crops=crops), top) for image in check_several(images, "classify")
        ]

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
        size, device = self._preprocessing.size, self._engine.device

        def make_crops(first: int, last: int) -> Tensor:
            pixels = view.crops(chosen.windows[first:last], size, device)  # n x 3 x 224 x 224
            mirrored = torch.from_numpy(chosen.mirrored[first:last]).to(device)
            pixels[mirrored] = pixels[mirrored].flip(3)
            return pixels

        outputs = executor(ForwardRequest(self._engine, len(chosen.windows), make_crops, cost=CROP_COST))
        each = [outputs[f"{member}.probabilities"] for member in range(self._members)]
        return torch.stack(each).mean(dim=1).numpy()  # M x K x C -> M x C


class ClassifierHeads(nn.Module):
    """The classifiers of M backbones.

    Maps [M*K,1024,7,7], member after member -> of member m ``m.probabilities`` [K,C], the softmax over its
    first C outputs.
    """

    def __init__(self, backbones: Sequence[Backbone], num_classes: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.num_classes = num_classes

    def forward(self, maps: Tensor) -> Outputs:
        parts = zip(self.backbones, maps.chunk(len(self.backbones)), strict=True)
        return {
            f"{index}.probabilities": backbone.classify_whole(part)[:, : self.num_classes].softmax(dim=1)  # type: ignore[operator]
            for index, (backbone, part) in enumerate(parts)
        }


def best(probabilities: NDArray[np.float32], top: int) -> Classification:
    """Return the ``top`` likeliest classes of probabilities [C]."""
    order = np.argsort(-probabilities, kind="stable")[:top]
    return Classification(order, probabilities[order])
