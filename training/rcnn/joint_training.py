"""Training of the whole detector at once: trunk, MultiBox head and region heads, from pixels to losses.

Fast R-CNN (arXiv 1504.08083, section 2.3): a minibatch is some images and many regions of each, and the
gradient of the regions reaches the trunk through RoIAlign. The regions are proposed by the MultiBox head in
training, as in Faster R-CNN's approximate joint training (arXiv 1506.01497, section 3.2). Letters for shapes:
N images, S scales, R regions of the minibatch, K channels, C classes, A anchors of all scales.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.ops import batched_nms

from detector.inference.image_scales import STRIDE
from detector.inference.preprocessing import Preprocessing, add_context
from detector.inference.roi_align import roi_align
from detector.inference.shared_maps import SharedMaps, nearest_scale, place_windows
from detector.models.backbone import LAST_STAGES
from detector.models.multibox_head import MultiBoxHead, objectness_and_offsets
from detector.models.region_network import RegionNetwork
from detector.structures.boxes import Boxes, clip
from training.multibox.anchors import anchors_of
from training.multibox.losses import MultiBoxLossWeights, ObjectsAtScales, decode, multibox_losses
from training.rcnn.dataloader import BatchSettings, RegionSampler
from training.rcnn.losses import LossWeights, RegionWeights, Targets, region_losses, region_weights
from training.rcnn.sampling import Regions, SamplingSettings, sample_regions
from training.rcnn.training_module import keep_statistics
from training.scaled_images import ImageBatch
from training.trainer.distributed import ProcessGroup

_LIKELIEST = 1000  # anchors of an image that become proposals, before suppression
_PROPOSALS = 300  # proposals of an image that regions are sampled from
_NMS_IOU = 0.8


class JointLosses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    fit: Tensor
    distillation: Tensor
    objectness: Tensor
    location: Tensor


class Teacher:
    """The backbone before training, whose knowledge of images is kept: no part of the module in training."""

    def __init__(self, network: RegionNetwork, frozen: int, cut: int, classes: int) -> None:
        """Copy the backbone, whose stages from number ``frozen`` on are run; ``classes`` are the sub-classes
        that are kept."""
        self._backbone = copy.deepcopy(network.backbone).eval().requires_grad_(False)
        self._trunk, self._rest = self._backbone.features[frozen:cut], self._backbone.features[cut:]
        self.classes = classes

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Teacher":
        return self  # an average of the module in training needs no second one

    def to(self, device: torch.device) -> "Teacher":
        """Move it to a device."""
        self._backbone.to(device).to(memory_format=torch.channels_last)
        return self

    @torch.no_grad()
    def trunk(self, maps: Tensor) -> Tensor:
        """Compute from the maps of the frozen stages those [N,K,h,w] that regions are cut out of."""
        return self._trunk(maps)

    @torch.no_grad()
    def logits(self, cells: Tensor) -> Tensor:
        """Compute from cells [R,K,size,size] of regions the logits [R,classes] of the sub-classes that are
        kept."""
        return self._backbone.pool(self._rest(cells).float())[:, : self.classes].float()


class JointTrainingModule(nn.Module):
    """The region network and the MultiBox head on the trunk that they share."""

    def __init__(
        self,
        network: RegionNetwork,
        multibox: MultiBoxHead,
        frozen: int,
        shared: SharedMaps,
        preprocessing: Preprocessing,
        *,
        sampling: SamplingSettings,
        batch: BatchSettings,
        weights: LossWeights,
        multibox_weights: MultiBoxLossWeights,
        distilled_classes: int,
        seed: int,
        world: ProcessGroup,
    ) -> None:
        """Take networks of which the first ``frozen`` stages keep their weights.

        ``distilled_classes`` are the first sub-classes of the classifier that are distilled, 0 for none.
        """
        super().__init__()
        features = network.backbone.features
        features[:frozen].requires_grad_(False)
        self.network, self.multibox = network, multibox
        network.to(memory_format=torch.channels_last)
        multibox.to(memory_format=torch.channels_last)
        names = [name for name, _ in features.named_children()]
        cut = 1 + names.index(shared.stage)
        self._frozen, self._cut = frozen, cut
        self._read = [shared.stage, *multibox.spec.stages]
        self._shared, self._preprocessing = shared, preprocessing
        self._sampling, self._batch, self._seed, self._world = sampling, batch, seed, world
        self._weights, self._multibox_weights = weights, multibox_weights
        self.teacher = Teacher(network, frozen, cut, distilled_classes) if distilled_classes else None

    def train(self, mode: bool = True) -> "JointTrainingModule":
        """Set the mode of all parts but batch normalisation, which keeps its statistics."""
        super().train(mode)
        keep_statistics(self)
        return self

    def forward(self, batch: ImageBatch, precision: torch.dtype) -> JointLosses:
        """Compute the losses of a minibatch of images; the trunk runs in ``precision``, the heads' losses in
        float32."""
        device = self.network.backbone.classifier.weight.device
        features = self.network.backbone.features
        mixed = precision != torch.float32
        pixels = [
            scale.normalised(self._shared, self._preprocessing, device).to(precision)
            for scale in batch.scales
        ]
        with torch.autocast(device.type, precision, enabled=mixed):
            with torch.no_grad():
                frozen = [self._run(x, 0, self._frozen) for x in pixels]
            begun = [x for x, _ in frozen]
            maps = [{**read, **self._run(x, self._frozen, self._cut)[1]} for x, read in frozen]
            fine, coarse = self.multibox.spec.stages
            outputs = [self.multibox(part[fine], part[coarse]) for part in maps]  # N x k x 5 each
        anchors = anchors_of(self.multibox.spec, [scale.size for scale in batch.scales], device)
        factors = [scale.factors for scale in batch.scales]
        objects = ObjectsAtScales.of(batch.records, factors, self._shared.padding, device)
        proposing = multibox_losses(outputs, anchors, objects, self._multibox_weights, self._world)
        proposals = self._propose([output.detach() for output in outputs], anchors, batch)
        image, regions = self._sample(batch, proposals)
        cells = self._align([part[self._shared.stage].float() for part in maps], image, regions, factors)
        targets = self._targets(begun, image, regions, factors, precision)
        with torch.autocast(device.type, precision, enabled=mixed):
            read = features[self._cut : -LAST_STAGES](cells.to(precision))
            last = features[-LAST_STAGES:](read)
        output = self.network.heads(last.float(), read.float())
        background = self.network.pooling.num_classes
        sums = region_weights(targets, background, self._weights.uncertain).sums()
        sums = RegionWeights(*self._world.total(torch.stack(sums)))
        losses = region_losses(self.network, output, targets, self._weights, sums=sums)
        total = losses.total + self._weights.multibox * proposing.total
        return JointLosses(
            total,
            losses.classification,
            losses.box,
            losses.fit,
            losses.distillation,
            proposing.confidence,
            proposing.location,
        )

    def parameter_groups(self, rate: float, head_rate: float, stage_decay: float) -> list[dict[str, object]]:
        """Group the parameters for the optimizer, each group with its ``lr``.

        A stage's rate is ``stage_decay`` times that of the next one with weights, the heads' is
        ``head_rate``.
        """
        groups: list[dict[str, object]] = []
        for stage in reversed(list(self.network.backbone.features.children())):
            weights = [weight for weight in stage.parameters() if weight.requires_grad]
            if weights:
                groups.append({"params": weights, "lr": rate * stage_decay ** len(groups)})
        trunk = {id(weight) for weight in self.network.backbone.features.parameters()}
        heads = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in trunk]
        return [*groups, {"params": heads, "lr": head_rate}]

    def _run(self, x: Tensor, first: int, last: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Run stages ``first`` to before ``last`` -> the last one's maps [N,K,h,w], and by stage those that
        are read."""
        maps = {}
        for name, stage in list(self.network.backbone.features.named_children())[first:last]:
            x = stage(x)
            if name in self._read:
                maps[name] = x
        return x, maps

    @torch.no_grad()
    def _propose(
        self, outputs: Sequence[Tensor], anchors: Sequence[Tensor], batch: ImageBatch
    ) -> list[Boxes]:
        """Return the proposals [R,4] of each image, in its pixels."""
        parts = []
        for output, some, scale in zip(outputs, anchors, batch.scales, strict=True):
            objectness, offsets = objectness_and_offsets(output.float())
            top = objectness.topk(min(_LIKELIEST, len(some)), dim=1)
            rows = torch.arange(len(output), device=output.device)[:, None]
            boxes = decode(some[top.indices], offsets[rows, top.indices]) - self._shared.padding
            parts.append((boxes / scale.factors.to(output.device)[:, None], top.values))
        boxes = torch.cat([boxes for boxes, _ in parts], dim=1)  # N x P x 4
        objectness = torch.cat([values for _, values in parts], dim=1)
        top = objectness.topk(min(_LIKELIEST, objectness.shape[1]), dim=1)
        n, count = top.indices.shape
        rows = torch.arange(n, device=boxes.device)
        boxes, scores = boxes[rows[:, None], top.indices].flatten(0, 1), top.values.flatten()
        image = rows.repeat_interleave(count)
        kept = batched_nms(boxes, scores, image, _NMS_IOU)
        chosen, image_of = boxes[kept].cpu().numpy(), image[kept].cpu().numpy()
        proposals = []
        for index, record in enumerate(batch.records):
            own = clip(chosen[image_of == index][:_PROPOSALS], record.width, record.height)
            proposals.append(own[((own[:, 2:] - own[:, :2]) >= 2).all(axis=1)])
        return proposals

    def _sample(self, batch: ImageBatch, proposals: Sequence[Boxes]) -> tuple[NDArray[np.int64], Regions]:
        """Draw the regions of a minibatch -> the image [R] of each, and the regions."""
        background = self.network.pooling.num_classes
        pool, image = [], []
        for index, (record, place, boxes) in enumerate(
            zip(batch.records, batch.places, proposals, strict=True)
        ):
            rng = np.random.default_rng([self._seed, batch.iteration, 3, place])
            regions = sample_regions(record, boxes, background, self._sampling, rng)
            pool.append(regions.mirrored_alike(False).with_whole_image(record))
            image.append(np.full(len(pool[-1].labels), index))
        regions = Regions.joined(pool)
        share = replace(
            self._batch,
            **{
                name: -(-getattr(self._batch, name) // self._world.size)
                for name in ("positives", "background", "whole", "unknown")
            },
        )
        sampler = RegionSampler(
            regions.labels,
            regions.overlaps,
            background,
            replace(share, mined=0.0),
            self._seed + self._world.rank,
            certain=regions.certain,
        )
        drawn, _ = sampler.draw(batch.iteration)
        drawn = np.sort(drawn)
        return np.concatenate(image)[drawn], regions.rows(drawn)

    def _align(
        self,
        maps: Sequence[Tensor],
        image: NDArray[np.int64],
        regions: Regions,
        factors: Sequence[Tensor],
    ) -> Tensor:
        """Cut regions out of the maps [N,K,h,w] of each scale -> cells [R,K,size,size]."""
        crop = self._preprocessing.size
        windows = np.where(
            regions.whole[:, None], regions.boxes, add_context(regions.boxes, self._preprocessing)
        )
        level = np.zeros(len(windows), np.int64)
        at_scales = [part.numpy() for part in factors]
        for index in np.unique(image):
            rows = image == index
            level[rows] = nearest_scale(windows[rows], [part[index] for part in at_scales], crop)
        parts, order = [], []
        for scale, cells in enumerate(maps):
            rows = np.flatnonzero(level == scale)
            if not len(rows):
                continue
            placed = place_windows(windows[rows], at_scales[scale][image[rows]], self._shared, crop)
            regions_of = torch.from_numpy(
                np.concatenate([image[rows, None], placed], axis=1, dtype=np.float32)
            )
            parts.append(roi_align(cells, regions_of.to(cells.device), self._shared.size, 1 / STRIDE))
            order.append(rows)
        back = torch.from_numpy(np.argsort(np.concatenate(order), kind="stable"))
        return torch.cat(parts).index_select(0, back.to(parts[0].device))

    @torch.no_grad()
    def _targets(
        self,
        begun: Sequence[Tensor],
        image: NDArray[np.int64],
        regions: Regions,
        factors: Sequence[Tensor],
        precision: torch.dtype,
    ) -> Targets:
        """Return the targets of regions; the teacher sees whole images and objects alone."""
        device = begun[0].device
        count = self.teacher.classes if self.teacher is not None else 0
        teacher = torch.zeros(len(regions.labels), count, device=device)
        rows = np.flatnonzero(regions.labels != self.network.pooling.num_classes)
        if self.teacher is not None and len(rows):
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                maps = [self.teacher.trunk(x).float() for x in begun]
                cells = self._align(maps, image[rows], regions.rows(rows), factors)
                teacher[torch.from_numpy(rows).to(device)] = self.teacher.logits(cells.to(precision))
        labels, overlaps, deltas, certain = (
            torch.from_numpy(part)
            for part in (regions.labels, regions.overlaps, regions.deltas, regions.certain)
        )
        return Targets(labels, overlaps, deltas, certain, teacher).to(device)
