"""MultiBox proposals: one pass of the network over the whole image says where objects may be.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), as GoogLeNet used it (arXiv
1409.4842, section 8), at several scales of the image (Szegedy et al., arXiv 1412.1441). It reads the maps
that regions are cut out of. Letters for shapes: K anchors, R proposals.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.executor import Executor, run_directly
from detector.inference.image_maps import ImageMaps, MapsAtScale
from detector.inference.image_scales import STRIDE
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.io.decoding import ImageInput
from detector.models.multibox_spec import MultiBoxSpec
from detector.proposals.selective_search.ranking import order_by_coverage
from detector.structures.boxes import Boxes, clip, decode
from detector.structures.nms import suppress
from detector.structures.proposals import Proposals, Source

MAX_BOXES = 200
"""As many as GoogLeNet's detector took (arXiv 1409.4842, section 8)."""

NEAR_DUPLICATE_IOU = 0.85
"""Of two boxes that overlap by more the less certain one is dropped: they show the same thing."""

_LIKELIEST = 1500
_CANDIDATES = 500
_MIN_SIDE = 4.0

# Objectness in whole numbers, as the order by coverage takes weights.
_PARTS_OF_OBJECTNESS = 1 << 12


class MultiBox:
    """Proposes boxes of images from the trunk's maps of them at every scale."""

    def __init__(self, spec: MultiBoxSpec, maps: ImageMaps, preprocessing: Preprocessing) -> None:
        """``spec`` is that of the head whose outputs ``maps`` makes, ``preprocessing`` the detector's."""
        self._spec, self._maps, self._preprocessing = spec, maps, preprocessing

    def propose(
        self,
        image: ImageInput | ImageView,
        max_boxes: int = MAX_BOXES,
        *,
        executor: Executor = run_directly,
    ) -> Proposals:
        """Return at most ``max_boxes`` boxes of an image [H,W,3], best first, without near-duplicates.

        The likeliest comes first; after it always the box that adds most to how well the likely objects are
        covered, so that a prefix is a good budget: a second box around a sure object comes after the first
        around a doubtful one. Raises ParameterError for no boxes asked for, or an array that is no image.
        """
        if max_boxes < 1:
            raise ParameterError(f"max_boxes must be at least 1, got {max_boxes}")
        view = ImageView.of(image, self._preprocessing)
        boxes, objectness = self._likeliest(self._maps.of(view, executor=executor))
        boxes = clip(boxes / view.factors, view.width, view.height)
        kept = without_near_duplicates(boxes, objectness)[:_CANDIDATES]
        kept = kept[by_coverage(boxes[kept], objectness[kept], max_boxes)]
        return Proposals(boxes[kept], np.full(len(kept), Source.MULTIBOX, np.int8), objectness[kept])

    def _likeliest(self, scales: Sequence[MapsAtScale]) -> tuple[Boxes, NDArray[np.float32]]:
        """Return the likeliest boxes [R,4] of all scales, in the pixels of the view, and their objectness."""
        found = []
        for maps in scales:
            confidences, offsets = (maps.outputs[name][0] for name in ("objectness", "offsets"))
            fine, coarse = ((maps.height // stride, maps.width // stride) for stride in (STRIDE // 2, STRIDE))
            moved, objectness = likeliest(self._spec.anchors(fine, coarse), offsets, confidences)
            found.append(((moved - self._spec.image.padding) / maps.factors, objectness))
        boxes = np.concatenate([boxes for boxes, _ in found])
        objectness = np.concatenate([objectness for _, objectness in found])
        order = np.argsort(-objectness, kind="stable")[:_LIKELIEST]
        return boxes[order], objectness[order]


def likeliest(
    anchors: Boxes, offsets: NDArray[np.float32], objectness: NDArray[np.float32]
) -> tuple[Boxes, NDArray[np.float32]]:
    """Return boxes [R,4] in the pixels of anchors [K,4], moved by offsets [K,4], and their objectness [R].

    The likeliest comes first; what cannot come among the first few hundred is left out.
    """
    order = np.argsort(-objectness, kind="stable")[:_LIKELIEST]
    return decode(anchors[order], offsets[order]), objectness[order]


def without_near_duplicates(
    boxes: Boxes, objectness: NDArray[np.float32], iou: float = NEAR_DUPLICATE_IOU
) -> NDArray[np.int64]:
    """Return the indices of those of boxes [R,4], likeliest first, that no likelier one nearly equals.

    Boxes of less than four pixels a side are left out: nothing can be seen in them.
    """
    large = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] >= _MIN_SIDE).all(axis=1))
    return large[suppress(boxes[large], objectness[large], iou)]


def by_coverage(boxes: Boxes, objectness: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the indices of ``count`` of boxes [R,4], given likeliest first, in the order in which they cover
    likely objects: the rule that orders selective search's boxes."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    weights = np.round(objectness * _PARTS_OF_OBJECTNESS).astype(np.int32)
    return order_by_coverage(boxes, weights, count)
