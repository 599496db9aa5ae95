"""The whole way from pictures to detections.

Letters for shapes: R regions, C classes (background is the last of C+1), D detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import batched_nms

from detector.boxes import Boxes, clip, decode
from detector.checkpoints import Checkpoint
from detector.classes import ClassList
from detector.engine import Engine
from detector.errors import CheckpointError, ParameterError
from detector.proposals import MultiBox, Profile, Proposals, Proposer
from detector.proposals.multibox import MAX_BOXES
from detector.region_network import RegionNetwork
from detector.regions import normalise, reduced, warp
from detector.results import Detections

SCORE_THRESHOLD = 0.3
"""Below this a detection is more often wrong than right; evaluation uses 0."""

MAX_DETECTIONS = 100
NMS_IOU = 0.3


@dataclass(frozen=True)
class RegionScores:
    """What the network says of one picture's regions.

    boxes [R,4] float32: each region moved by its offsets and cut to the picture; probabilities [R,C]
    float32, one column a class, background left out.
    """

    boxes: Boxes
    probabilities: NDArray[np.float32]


class Detector:
    """Finds objects in pictures: proposals, the network on each region, suppression class by class.

    A picture is uint8 [H,W,3] RGB, upright. Boxes come back in its pixels.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
    ) -> None:
        """``profile`` and ``max_proposals`` say how pictures are looked at where a call does not; left out,
        the profile is ``balanced`` with a MultiBox head and ``search`` without, and keeps as many boxes as it
        is meant to. Raises CheckpointError if the checkpoint is a mere classifier, ParameterError for a
        profile that it cannot serve.
        """
        network, metadata = checkpoint.network, checkpoint.metadata
        if not isinstance(network, RegionNetwork) or metadata.detection is None:
            raise CheckpointError(
                f"{metadata.name} classifies whole pictures and cannot detect; "
                "make a detector of it with training/finetune_det.py --init"
            )
        self.name = metadata.name
        self.classes: ClassList = metadata.detection
        self.metadata = metadata
        self.max_proposals = max_proposals
        self._preprocessing = metadata.preprocessing
        multibox = None
        if checkpoint.multibox is not None:
            multibox = MultiBox(
                network.backbone.features,
                checkpoint.multibox,
                metadata.preprocessing,
                device=device,
                precision=precision,
            )
        self._proposer = Proposer(metadata.preprocessing, multibox)
        self.profile = self._proposer.check_profile(profile)
        self._engine = Engine(
            network.backbone.features,
            network,
            lambda maps: _probabilities_and_deltas(network, maps),
            device=device,
            precision=precision,
        )

    def detect(
        self,
        images: Sequence[NDArray[np.uint8]],
        *,
        profile: Profile | str | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
    ) -> list[Detections]:
        """Detections of each picture [H,W,3], best first; ``profile`` says where to look.

        Raises ParameterError for a bad picture or setting.
        """
        return [
            self.select(
                self.score(image, self.propose(image, profile)),
                score_threshold=score_threshold,
                max_detections=max_detections,
            )
            for image in images
        ]

    @property
    def has_multibox(self) -> bool:
        """Whether the weights hold a MultiBox head: without one, ``search`` is the only profile."""
        return self._proposer.multibox is not None

    def propose(
        self,
        image: NDArray[np.uint8],
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
    ) -> Proposals:
        """Where to look in a picture [H,W,3]. Raises ParameterError for a profile that cannot be served."""
        return self._proposer.propose(image, profile or self.profile, max_proposals or self.max_proposals)

    def multibox(self, image: NDArray[np.uint8], max_boxes: int = MAX_BOXES) -> Proposals:
        """The proposals of MultiBox alone. Raises ParameterError where the weights hold no head."""
        self._proposer.check_profile(Profile.FAST)
        assert self._proposer.multibox is not None
        return self._proposer.multibox.propose(image, max_boxes)

    def score(self, image: NDArray[np.uint8], proposals: Proposals) -> RegionScores:
        """The network's word on each proposal of a picture [H,W,3]."""
        height, width = image.shape[:2]
        work, factors = reduced(image, self._preprocessing)
        picture = normalise(work, self._preprocessing, self._engine.device)
        crops = warp(picture, proposals.boxes * factors, self._preprocessing)
        probabilities, deltas = self._engine.run(crops)
        boxes = clip(decode(proposals.boxes, deltas.numpy()), width, height)
        return RegionScores(boxes, probabilities[:, :-1].numpy())

    def select(
        self,
        regions: RegionScores,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
    ) -> Detections:
        """Regions over the threshold, without those that a better one of the same class overlaps."""
        return select(regions, score_threshold=score_threshold, max_detections=max_detections)


def select(
    regions: RegionScores, *, score_threshold: float, max_detections: int, nms_iou: float = NMS_IOU
) -> Detections:
    """Greedy suppression class by class (R-CNN, arXiv 1311.2524, section 2), then the best of all classes.

    Raises ParameterError for a threshold outside 0..1 or no detections asked for.
    """
    if not 0 <= score_threshold <= 1:
        raise ParameterError(f"score_threshold must lie in 0..1, got {score_threshold}")
    if max_detections < 1:
        raise ParameterError(f"max_detections must be at least 1, got {max_detections}")
    region, label = np.nonzero(regions.probabilities >= score_threshold)
    boxes = torch.from_numpy(regions.boxes[region])
    scores = torch.from_numpy(regions.probabilities[region, label])
    kept = batched_nms(boxes, scores, torch.from_numpy(label), nms_iou)[:max_detections].numpy()
    return Detections(boxes.numpy()[kept], label[kept], scores.numpy()[kept])


def _probabilities_and_deltas(network: RegionNetwork, maps: Tensor) -> tuple[Tensor, Tensor]:
    output = network.heads(maps)
    return output.logits.softmax(dim=1), output.deltas
