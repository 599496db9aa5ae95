"""Where the features of regions come from: each region warped and run through the whole network, or cut out
of maps of the whole image.

Both predict the same outputs from the same arguments; a checkpoint says which of them its heads were trained
for. Letters for shapes: R regions, M members of an ensemble, K channels of maps.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detector.inference.ensemble import RegionEnsemble, RegionPrediction, count_shared_stages
from detector.inference.executor import Executor
from detector.inference.image_maps import ImageMaps, ImageNetwork, MapsAtScale
from detector.inference.region_crops import ImageView, Preprocessing, add_context
from detector.inference.shared_maps import SharedMaps, align, stages_through
from detector.models.multibox_head import MultiBoxHead
from detector.models.region_network import RegionNetwork
from detector.structures.boxes import Boxes, flip


class RegionFeatures(Protocol):
    """Predicts the regions of an image."""

    @property
    def image_cost(self) -> int:
        """What all regions of an image of 3:4 share takes, in regions of shared maps that take as long."""

    @property
    def region_cost(self) -> int:
        """What a region takes, likewise."""

    def prepare(self, view: ImageView, *, mirrored: bool, executor: Executor) -> None:
        """Run what all regions of an image share, and keep it with the view."""

    def predict(
        self, view: ImageView, boxes: Boxes, *, whole: bool, mirrored: bool, executor: Executor
    ) -> list[RegionPrediction]:
        """Return each member's outputs for boxes [R,4] of an image, in its own pixels.

        With ``whole`` a last row is that of the whole image. With ``mirrored`` the image is also seen turned
        left to right, and both are averaged.
        """


class WarpedRegions:
    """R-CNN's way (arXiv 1311.2524): each region with its context is warped to a crop, the crop is run."""

    def __init__(
        self,
        networks: Sequence[RegionNetwork],
        preprocessing: Preprocessing,
        *,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """``batch`` and ``compile`` are those of :class:`detector.inference.engine.Engine`."""
        self._preprocessing = preprocessing
        self._ensemble = RegionEnsemble(networks, batch=batch, compile=compile)

    @property
    def image_cost(self) -> int:
        return 0

    @property
    def region_cost(self) -> int:
        return self._ensemble.region_cost

    def prepare(self, view: ImageView, *, mirrored: bool, executor: Executor) -> None:
        """Do nothing: regions share nothing."""

    def predict(
        self, view: ImageView, boxes: Boxes, *, whole: bool, mirrored: bool, executor: Executor
    ) -> list[RegionPrediction]:
        windows = _windows(view, boxes, self._preprocessing, whole=whole)
        size, device = self._preprocessing.size, self._ensemble.device

        def make_crops(first: int, last: int) -> Tensor:
            return view.crops(windows[first:last], size, device)

        return self._ensemble.predict(len(windows), make_crops, flip=mirrored, executor=executor)


class SharedRegions:
    """Fast R-CNN's way (arXiv 1504.08083): the first stages run once over the image, the others a region."""

    def __init__(
        self,
        networks: Sequence[RegionNetwork],
        preprocessing: Preprocessing,
        settings: SharedMaps,
        *,
        multibox: tuple[int, MultiBoxHead] | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """Take networks that have their stages through ``settings.stage`` in common or not.

        ``multibox`` is a MultiBox head with the number of the network whose maps it reads at these scales.
        ``batch`` and ``compile`` are those of :class:`detector.inference.engine.Engine`, for the regions.
        Raises ParameterError where the trunk has no such stage.
        """
        self._preprocessing, self._settings = preprocessing, settings
        names = [name for name, _ in networks[0].backbone.features.named_children()]
        cut = stages_through(names, settings.stage)
        self._parts: list[tuple[ImageMaps, RegionEnsemble, list[int]]] = []
        for members in _by_trunk(networks, cut):
            some = [networks[index] for index in members]
            reader, head = multibox if multibox is not None and multibox[0] in members else (members[0], None)
            network = ImageNetwork(networks[reader].backbone.features, stage=settings.stage, head=head)
            maps = ImageMaps(network, settings, preprocessing)
            ensemble = RegionEnsemble(some, first_stage=cut, batch=batch, compile=compile)
            self._parts.append((maps, ensemble, members))

    @property
    def image_cost(self) -> int:
        return sum(maps.cost for maps, _, _ in self._parts)

    @property
    def region_cost(self) -> int:
        return sum(ensemble.region_cost for _, ensemble, _ in self._parts)

    def maps_of_member(self, index: int) -> ImageMaps:
        """Return the maker of the maps that a network's regions are cut out of."""
        return next(maps for maps, _, members in self._parts if index in members)

    def prepare(self, view: ImageView, *, mirrored: bool, executor: Executor) -> None:
        for maps, _, _ in self._parts:
            for turned in (False, True)[: 1 + mirrored]:
                maps.of(view, mirrored=turned, executor=executor)

    def predict(
        self, view: ImageView, boxes: Boxes, *, whole: bool, mirrored: bool, executor: Executor
    ) -> list[RegionPrediction]:
        windows = _windows(view, boxes, self._preprocessing, whole=whole)
        predictions: dict[int, RegionPrediction] = {}
        for maps, ensemble, members in self._parts:
            make_plain = self._rows(maps.of(view, executor=executor), windows)
            make_mirrored = None
            if mirrored:
                turned = flip(windows, view.pixels.shape[1])
                make_mirrored = self._rows(maps.of(view, mirrored=True, executor=executor), turned)
            outputs = ensemble.predict(
                len(windows), make_plain, flip=mirrored, make_mirrored=make_mirrored, executor=executor
            )
            predictions.update(zip(members, outputs, strict=True))
        return [predictions[index] for index in sorted(predictions)]

    def _rows(self, maps: Sequence[MapsAtScale], windows: Boxes) -> "_AlignedRows":
        factors, cells = [part.factors for part in maps], [part.outputs["maps"] for part in maps]
        return _AlignedRows(cells, windows, factors, self._settings, self._preprocessing.size)


class _AlignedRows:
    """Makes the maps of windows [R,4] of an image, some rows at a time."""

    def __init__(
        self,
        maps: Sequence[Tensor],
        windows: Boxes,
        factors: Sequence[NDArray[np.float32]],
        settings: SharedMaps,
        crop: int,
    ) -> None:
        self._maps, self._windows, self._factors = maps, windows, factors
        self._settings, self._crop = settings, crop

    def __call__(self, first: int, last: int) -> Tensor:
        return align(self._maps, self._windows[first:last], self._factors, self._settings, self._crop)


def _by_trunk(networks: Sequence[RegionNetwork], cut: int) -> list[list[int]]:
    """Group networks, by their numbers, whose first ``cut`` stages are the same."""
    groups: list[list[int]] = []
    for index, network in enumerate(networks):
        for group in groups:
            trunks = [networks[group[0]].backbone.features, network.backbone.features]
            if count_shared_stages(trunks) >= cut:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _windows(view: ImageView, boxes: Boxes, preprocessing: Preprocessing, *, whole: bool) -> Boxes:
    """Return the windows of boxes with context in the view's pixels, and last that of the whole image."""
    windows = add_context(boxes * view.factors, preprocessing)
    return np.concatenate([windows, view.whole]) if whole else windows
