"""A checkpoint's networks as torch modules of the inputs and outputs that exported graphs have.

They are what such a graph is verified against, and what ``torch.export`` writes.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from detector.errors import ParameterError
from detector.inference.image_scales import STRIDE
from detector.inference.shared_maps import stages_through
from detector.models.backbone import LAST_STAGES
from detector.models.checkpoint import Checkpoint
from detector.models.image_trunk import MULTIBOX, ImageTrunk
from detector.models.multibox_head import objectness_and_offsets
from detector.models.region_network import RegionNetwork


class ExportableDetector(nn.Module):
    """A detector whose regions share maps, at one scale: see
    :func:`detector.graphs.networks.detector_graph`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises ParameterError for weights that are no such detector."""
        super().__init__()
        network, shared = checkpoint.network, checkpoint.metadata.shared_maps
        if not isinstance(network, RegionNetwork) or shared is None:
            raise ParameterError(f"{checkpoint.metadata.name} is no detector whose regions share maps")
        features, head = network.backbone.features, checkpoint.multibox
        if head is not None and head.spec.image != shared.image:
            head = None
        cut = stages_through([name for name, _ in features.named_children()], shared.stage)
        self.trunk = ImageTrunk(features, shared.stage, head)
        self.rest = features[cut:-LAST_STAGES]
        self.network = network
        self.size = shared.size

    def forward(self, image: Tensor, windows: Tensor) -> dict[str, Tensor]:
        """Predict windows [R,4] of an image [1,3,H,W]: the outputs by their names."""
        outputs = self.trunk(image)
        if MULTIBOX in outputs:
            outputs["objectness"], outputs["offsets"] = objectness_and_offsets(outputs.pop(MULTIBOX))
        boxes = torch.cat([windows.new_zeros(windows.shape[0], 1), windows], dim=1)  # of the one image
        cells = roi_align(
            outputs["maps"], boxes, self.size, spatial_scale=1 / STRIDE, sampling_ratio=1, aligned=True
        )
        regions = self.network.outputs_of(self.rest(cells))
        outputs["probabilities"] = regions.logits.softmax(dim=1)
        if self.network.moves_boxes:
            outputs["deltas"] = regions.deltas
        if regions.predicted_iou is not None:
            outputs["predicted_iou"] = regions.predicted_iou.sigmoid()
        return outputs


class ExportableRegions(nn.Module):
    """A detector that warps each region: crops [R,3,224,224] to the outputs by their names."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        network = checkpoint.network
        assert isinstance(network, RegionNetwork)
        self.network = network

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        regions = self.network(rows)
        outputs = {"0.probabilities": regions.logits.softmax(dim=1)}
        if self.network.moves_boxes:
            outputs["0.deltas"] = regions.deltas
        if regions.predicted_iou is not None:
            outputs["0.predicted_iou"] = regions.predicted_iou.sigmoid()
        return outputs


class ExportableClassifier(nn.Module):
    """A classifier of whole images: crops [K,3,224,224] to ``0.probabilities`` [K,C]."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises ParameterError for weights that were made for detection alone."""
        super().__init__()
        classes = checkpoint.metadata.classification
        if classes is None:
            raise ParameterError(f"{checkpoint.metadata.name} has no classes of whole images")
        self.backbone = checkpoint.backbone
        self.count = len(classes)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        logits = self.backbone.classify_whole(self.backbone.features(rows))
        return {"0.probabilities": logits[:, : self.count].softmax(dim=1)}
