"""Where the features of regions come from: each region warped and run through the whole network, or cut out
of maps of the whole image.

Both predict the same outputs from the same arguments; a checkpoint says which of them its heads were trained
for. Letters for shapes: R regions, M members of an ensemble, K channels of maps.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detector.inference.arrays import Array, Arrays
from detector.inference.engine import MAPS
from detector.inference.ensemble import Ensemble, LastMaps, RegionEnsemble, RegionPrediction
from detector.inference.executor import Executor, MakeCrops
from detector.inference.image_maps import ImageMaps, MapsAtScale
from detector.inference.preprocessing import Preprocessing, add_context
from detector.inference.region_crops import ImageView
from detector.inference.shared_maps import SharedMaps, align, nearest_scale
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

    def last_maps(
        self, view: ImageView, boxes: Boxes, *, mirrored: bool, executor: Executor
    ) -> list[list[NDArray[np.float32]]]:
        """Return each member's last maps [R,1024,7,7] of boxes [R,4] of an image, which its heads read: those
        of the image, and with ``mirrored`` those of the image turned left to right, turned back."""


class WarpedRegions:
    """R-CNN's way (arXiv 1311.2524): each region with its context is warped to a crop, the crop is run."""

    def __init__(
        self,
        ensemble: Ensemble,
        preprocessing: Preprocessing,
        *,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """``batch`` and ``compile`` are those of :meth:`Ensemble.region_engine`."""
        self._preprocessing = preprocessing
        members = range(len(ensemble.members))
        engine = ensemble.region_engine(members, batch=batch, compile=compile)
        self._ensemble = RegionEnsemble(engine, len(members))
        self._last_maps = LastMaps(ensemble.last_maps_engine(members, batch=batch), len(members))

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
        make_crops = self._rows(view, windows)
        return self._ensemble.predict(len(windows), make_crops, flip=mirrored, executor=executor)

    def last_maps(
        self, view: ImageView, boxes: Boxes, *, mirrored: bool, executor: Executor
    ) -> list[list[NDArray[np.float32]]]:
        windows = _windows(view, boxes, self._preprocessing, whole=False)
        make_crops = self._rows(view, windows)
        return self._last_maps.of(len(windows), make_crops, flip=mirrored, executor=executor)

    def _rows(self, view: ImageView, windows: Boxes) -> MakeCrops:
        size, arrays = self._preprocessing.size, self._ensemble.engine.arrays
        return lambda first, last: view.crops(windows[first:last], size, arrays)


class SharedRegions:
    """Fast R-CNN's way (arXiv 1504.08083): the first stages run once over the image, the others a region."""

    def __init__(
        self,
        ensemble: Ensemble,
        preprocessing: Preprocessing,
        settings: SharedMaps,
        *,
        multibox: int | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """Take networks that have their stages through ``settings.stage`` in common or not.

        ``multibox`` is the number of the member whose MultiBox head reads its maps at these scales. ``batch``
        and ``compile`` are those of :meth:`detector.inference.ensemble.Ensemble.region_engine`. Raises
        ParameterError where the trunk has no such stage.
        """
        self._preprocessing, self._settings = preprocessing, settings
        self._parts: list[_Part] = []
        for members in ensemble.alike_through(settings.stage):
            proposes = multibox in members
            reader = multibox if multibox is not None and proposes else members[0]
            trunk = ensemble.image_engine(reader, settings.stage, multibox=proposes)
            engine = ensemble.region_engine(members, after=settings.stage, batch=batch, compile=compile)
            ends_early = ensemble.last_maps_engine(members, after=settings.stage, batch=batch)
            self._parts.append(
                _Part(
                    ImageMaps(trunk, settings, preprocessing),
                    RegionEnsemble(engine, len(members), cost=1),
                    LastMaps(ends_early, len(members), cost=1),
                    members,
                )
            )

    @property
    def image_cost(self) -> int:
        return sum(part.maps.cost for part in self._parts)

    @property
    def region_cost(self) -> int:
        return sum(part.ensemble.region_cost for part in self._parts)

    def maps_of_member(self, index: int) -> ImageMaps:
        """Return the maker of the maps that a network's regions are cut out of."""
        return next(part.maps for part in self._parts if index in part.members)

    def prepare(self, view: ImageView, *, mirrored: bool, executor: Executor) -> None:
        for part in self._parts:
            for turned in (False, True)[: 1 + mirrored]:
                part.maps.of(view, mirrored=turned, executor=executor)

    def predict(
        self, view: ImageView, boxes: Boxes, *, whole: bool, mirrored: bool, executor: Executor
    ) -> list[RegionPrediction]:
        windows = _windows(view, boxes, self._preprocessing, whole=whole)
        predictions: dict[int, RegionPrediction] = {}
        # Those of one scale follow each other: rows of several would have to be put in order again, all maps.
        factors = [scale.factors for scale in self._parts[0].maps.of(view, executor=executor)]
        order = np.argsort(nearest_scale(windows, factors, self._preprocessing.size), kind="stable")
        place, windows = np.argsort(order, kind="stable"), windows[order]
        for part in self._parts:
            make_plain, make_mirrored = self._makers(part, view, windows, mirrored, executor)
            outputs = part.ensemble.predict(
                len(windows), make_plain, flip=mirrored, make_mirrored=make_mirrored, executor=executor
            )
            predictions.update(zip(part.members, [output.rows(place) for output in outputs], strict=True))
        return [predictions[index] for index in sorted(predictions)]

    def last_maps(
        self, view: ImageView, boxes: Boxes, *, mirrored: bool, executor: Executor
    ) -> list[list[NDArray[np.float32]]]:
        windows = _windows(view, boxes, self._preprocessing, whole=False)
        found: dict[int, list[NDArray[np.float32]]] = {}
        for part in self._parts:
            make_plain, make_mirrored = self._makers(part, view, windows, mirrored, executor)
            maps = part.last_maps.of(
                len(windows), make_plain, flip=mirrored, make_mirrored=make_mirrored, executor=executor
            )
            found.update(zip(part.members, maps, strict=True))
        return [found[index] for index in sorted(found)]

    def _makers(
        self, part: "_Part", view: ImageView, windows: Boxes, mirrored: bool, executor: Executor
    ) -> tuple[MakeCrops, MakeCrops | None]:
        """Return what makes the rows of windows [R,4] for a part's networks, and what makes those of the
        image turned left to right, if it is looked at."""
        arrays = part.ensemble.engine.arrays
        make_plain = self._rows(part.maps.of(view, executor=executor), windows, arrays)
        if not mirrored:
            return make_plain, None
        turned = flip(windows, view.pixels.shape[1])
        turned_maps = part.maps.of(view, mirrored=True, executor=executor)
        return make_plain, self._rows(turned_maps, turned, arrays)

    def _rows(self, maps: Sequence[MapsAtScale], windows: Boxes, arrays: Arrays) -> "_AlignedRows":
        factors, cells = [part.factors for part in maps], [part.outputs[MAPS] for part in maps]
        return _AlignedRows(cells, windows, factors, self._settings, self._preprocessing.size, arrays)


class _Part(NamedTuple):
    """Networks of an ensemble, by their numbers, whose regions are cut out of the same maps."""

    maps: ImageMaps
    ensemble: RegionEnsemble
    last_maps: LastMaps
    members: list[int]


class _AlignedRows:
    """Makes the maps of windows [R,4] of an image, some rows at a time."""

    def __init__(
        self,
        maps: Sequence[Array],
        windows: Boxes,
        factors: Sequence[NDArray[np.float32]],
        settings: SharedMaps,
        crop: int,
        arrays: Arrays,
    ) -> None:
        self._maps, self._windows, self._factors = maps, windows, factors
        self._settings, self._crop, self._arrays = settings, crop, arrays

    def __call__(self, first: int, last: int) -> Array:
        windows = self._windows[first:last]
        return align(self._maps, windows, self._factors, self._settings, self._crop, self._arrays)


def seen_regions(view: ImageView, boxes: Boxes, preprocessing: Preprocessing) -> Boxes:
    """Return what the network sees of boxes [R,4] of an image: each with its context, in the image's own
    pixels. It may reach beyond the image."""
    return _windows(view, boxes, preprocessing, whole=False) / view.factors


def _windows(view: ImageView, boxes: Boxes, preprocessing: Preprocessing, *, whole: bool) -> Boxes:
    """Return the windows of boxes with context in the view's pixels, and last that of the whole image."""
    windows = add_context(boxes * view.factors, preprocessing)
    return np.concatenate([windows, view.whole]) if whole else windows
