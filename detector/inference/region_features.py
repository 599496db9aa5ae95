"""Where the features of regions come from: each region warped and run through the whole network, or cut out
of maps of the whole image.

Both predict the same outputs from the same arguments; a checkpoint says which of them its heads were trained
for. Letters for shapes: R regions, M members of an ensemble, K channels of maps.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detector.inference.arrays import Array, Arrays
from detector.inference.engine import MAPS
from detector.inference.ensemble import Ensemble, RegionEnsemble, RegionPrediction
from detector.inference.executor import Executor
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
        size, arrays = self._preprocessing.size, self._ensemble.engine.arrays

        def make_crops(first: int, last: int) -> Array:
            return view.crops(windows[first:last], size, arrays)

        return self._ensemble.predict(len(windows), make_crops, flip=mirrored, executor=executor)


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
        self._parts: list[tuple[ImageMaps, RegionEnsemble, list[int]]] = []
        for members in ensemble.alike_through(settings.stage):
            proposes = multibox in members
            reader = multibox if multibox is not None and proposes else members[0]
            trunk = ensemble.image_engine(reader, settings.stage, multibox=proposes)
            engine = ensemble.region_engine(members, after=settings.stage, batch=batch, compile=compile)
            maps = ImageMaps(trunk, settings, preprocessing)
            self._parts.append((maps, RegionEnsemble(engine, len(members), cost=1), members))

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
        # Those of one scale follow each other: rows of several would have to be put in order again, all maps.
        factors = [part.factors for part in self._parts[0][0].of(view, executor=executor)]
        order = np.argsort(nearest_scale(windows, factors, self._preprocessing.size), kind="stable")
        place, windows = np.argsort(order, kind="stable"), windows[order]
        for maps, ensemble, members in self._parts:
            arrays = ensemble.engine.arrays
            make_plain = self._rows(maps.of(view, executor=executor), windows, arrays)
            make_mirrored = None
            if mirrored:
                turned = flip(windows, view.pixels.shape[1])
                turned_maps = maps.of(view, mirrored=True, executor=executor)
                make_mirrored = self._rows(turned_maps, turned, arrays)
            outputs = ensemble.predict(
                len(windows), make_plain, flip=mirrored, make_mirrored=make_mirrored, executor=executor
            )
            predictions.update(zip(members, [output.rows(place) for output in outputs], strict=True))
        return [predictions[index] for index in sorted(predictions)]

    def _rows(self, maps: Sequence[MapsAtScale], windows: Boxes, arrays: Arrays) -> "_AlignedRows":
        factors, cells = [part.factors for part in maps], [part.outputs[MAPS] for part in maps]
        return _AlignedRows(cells, windows, factors, self._settings, self._preprocessing.size, arrays)


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


def _windows(view: ImageView, boxes: Boxes, preprocessing: Preprocessing, *, whole: bool) -> Boxes:
    """Return the windows of boxes with context in the view's pixels, and last that of the whole image."""
    windows = add_context(boxes * view.factors, preprocessing)
    return np.concatenate([windows, view.whole]) if whole else windows
