"""MultiBox proposals: one look of the network at the whole picture says where objects may be.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), as GoogLeNet used it (arXiv
1409.4842, section 8). It costs what one region costs. Letters for shapes: K priors, R proposals.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import nms

from detector.errors import ParameterError
from detector.inference.engine import Engine
from detector.inference.image_view import View
from detector.inference.looks import Look, Steps, complete
from detector.inference.region_crops import Preprocessing
from detector.io.decoding import ImageInput
from detector.models.multibox_head import MultiBoxHead, MultiBoxNetwork, split_output
from detector.proposals.selective_search.ranking import placed_by_coverage
from detector.structures.boxes import Boxes, clip, decode
from detector.structures.proposals import Proposals, Source

MAX_BOXES = 200
"""As many as GoogLeNet's detector took (arXiv 1409.4842, section 8)."""

NEAR_DUPLICATE_IOU = 0.85
"""Two boxes that overlap by more show the same thing: the less certain one is dropped."""

_LIKELIEST = 1500
_CANDIDATES = 500
_MIN_SIDE = 4.0

# Objectness in whole numbers, as the order by coverage takes weights.
_PARTS_OF_OBJECTNESS = 1 << 12


class MultiBox:
    """Proposes boxes of pictures with a head and the trunk that it reads, shared with the detector."""

    def __init__(
        self,
        features: nn.Sequential,
        head: MultiBoxHead,
        preprocessing: Preprocessing,
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Raises ParameterError if the trunk has no such stages as the head reads."""
        self.priors = head.spec.priors()
        self._preprocessing = replace(preprocessing, size=head.spec.size, context=0)
        network = MultiBoxNetwork(features, head)
        self._engine = Engine(network, network, split_output, device=device, precision=precision)

    def propose(self, image: ImageInput, max_boxes: int = MAX_BOXES) -> Proposals:
        """At most ``max_boxes`` boxes of a picture [H,W,3], best first, near-duplicates left out.

        The likeliest comes first; after it always the box that adds most to how well the likely objects are
        covered, so that a prefix is a good budget: a second box around a sure object comes after the first
        around a doubtful one. Raises ParameterError for no boxes asked for, or an array that is no picture.
        """
        return complete(self.proposing(View(image, self._preprocessing), max_boxes))

    def proposing(self, view: View, max_boxes: int = MAX_BOXES) -> Steps[Proposals]:
        """Steps to the same, of a picture that others look at as well."""
        if max_boxes < 1:
            raise ParameterError(f"max_boxes must be at least 1, got {max_boxes}")
        size, device = self._preprocessing.size, self._engine.device

        def crop(first: int, last: int) -> Tensor:
            """The whole picture stretched to the head's square input."""
            return view.crops(view.whole[first:last], size, device)

        objectness, offsets = yield Look(self._engine, 1, crop)
        boxes, confidence = likeliest(self.priors, offsets[0], objectness[0])
        scale = np.array([view.width, view.height] * 2, np.float32) / np.float32(size)
        boxes = clip(boxes * scale, view.width, view.height)
        kept = without_near_duplicates(boxes, confidence)[:_CANDIDATES]
        kept = kept[by_coverage(boxes[kept], confidence[kept], max_boxes)]
        return Proposals(boxes[kept], np.full(len(kept), Source.MULTIBOX, np.int8), confidence[kept])


def likeliest(priors: Boxes, offsets: Tensor, objectness: Tensor) -> tuple[Boxes, NDArray[np.float32]]:
    """Boxes [R,4] in the pixels of priors [K,4], moved by offsets [K,4], and their objectness [R], the
    likeliest first; what cannot come among the first few hundred is left out."""
    order = torch.argsort(objectness, descending=True, stable=True)[:_LIKELIEST].numpy()
    return decode(priors[order], offsets.numpy()[order]), objectness.numpy()[order]


def without_near_duplicates(
    boxes: Boxes, objectness: NDArray[np.float32], iou: float = NEAR_DUPLICATE_IOU
) -> NDArray[np.int64]:
    """Indices of those of boxes [R,4], likeliest first, that no likelier one nearly equals.

    Boxes of less than four pixels a side are left out: nothing can be seen in them.
    """
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(axis=1))
    kept = nms(torch.from_numpy(boxes[large]), torch.from_numpy(objectness[large]), iou)
    return large[kept.numpy()]


def by_coverage(boxes: Boxes, objectness: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of ``count`` of boxes [R,4], likeliest first, in the order in which they cover likely objects:
    the rule that orders selective search's boxes."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    weights = np.round(objectness * _PARTS_OF_OBJECTNESS).astype(np.int32)
    return placed_by_coverage(boxes, weights, count)
