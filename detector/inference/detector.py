"""The whole way from images to detections.

Letters for shapes: R regions, C classes (background is the last of C+1), D detections.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from numbers import Real
from typing import NoReturn, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from detector.errors import CheckpointError, ParameterError
from detector.inference.ensemble import Ensemble, Member, RegionPrediction, average
from detector.inference.executor import Executor, run_directly, without_callers_context
from detector.inference.explanation import check_explain, explain
from detector.inference.image_maps import ImageMaps
from detector.inference.placement import Networks, place
from detector.inference.postprocess import (
    RegionScores,
    check_selection,
    score_regions,
    select,
)
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.inference.region_features import RegionFeatures, SharedRegions, WarpedRegions
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps, with_finer_scale
from detector.inference.streaming import stream
from detector.inference.thresholds import Thresholds
from detector.inference.tiles import check_tile, merge_tiles, tiles_of
from detector.io.decoding import RGB, ImageInput, as_rgb, as_several
from detector.options import AUTO, MAX_DETECTIONS, SCORE_THRESHOLD, Profile, ScoreThreshold
from detector.proposals.multibox import MAX_BOXES, MultiBox
from detector.proposals.profiles import Proposer
from detector.structures.boxes import Boxes
from detector.structures.class_choice import labels_of
from detector.structures.classes import ClassList
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals

__all__ = ["MAX_DETECTIONS", "SCORE_THRESHOLD", "Detector", "RegionScores", "select"]


@dataclass(frozen=True)
class Steps:
    """How a profile looks at an image: ``preprocessing`` says how large its view is, ``proposer`` and
    ``features`` read it. ``multibox_maps`` are those that MultiBox alone reads, if there are such."""

    preprocessing: Preprocessing
    proposer: Proposer
    features: RegionFeatures
    multibox_maps: ImageMaps | None

    @property
    def warps(self) -> bool:
        """Whether each region is warped to a crop of its own."""
        return isinstance(self.features, WarpedRegions)


@dataclass(frozen=True)
class _Request:
    """What a call asks for: parameters of :meth:`Detector.detect`, the classes by their labels."""

    profile: Profile | str | None
    score_threshold: float | NDArray[np.float64]
    max_detections: int
    labels: tuple[int, ...] | None
    tile: int | None
    explain: int


class Finder(Protocol):
    """Finds objects in one image."""

    def __call__(self, image: ImageInput, *, executor: Executor = run_directly) -> Detections:
        """Return the detections of an image; ``executor`` runs the network."""


class Detector:
    """Finds objects in images: proposals, the network on each region, suppression class by class.

    ``detect`` takes all steps: ``propose``, ``score``, ``select``, each of which can be called
    alone. Those that need a network take an ``executor``, which runs it; left out, it is run at once. The
    network may be an ensemble, whose outputs are averaged: proposals are made and warped once. ``stream``
    takes any number of images. Several threads may use one Detector.

    An image is an array uint8 [H,W,3] RGB, upright, or the path or the bytes of an image file, an open file,
    or a Pillow image (:func:`detector.io.decoding.as_rgb`), or a :meth:`view` of one, which steps share.
    Boxes are in the upright image's pixels. What the caller has set of torch (autocast, gradients, default
    dtype and device) neither changes a result nor is changed.

    Not to be used in a process that was forked after a Detector was loaded: torch's threads and a GPU's
    context do not survive a fork, and the child waits for ever. Load one in each process, or start processes
    by "spawn" (``multiprocessing.get_context("spawn")``).
    """

    def __init__(
        self,
        networks: Networks | Ensemble,
        *,
        scoring: Scoring | None = None,
        engine: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """Make a detector of checkpoints, or of an Ensemble, which is not copied.

        Several checkpoints are averaged; the first with a MultiBox head proposes for all, and ``scoring`` is
        the first one's unless given. ``engine``, ``device`` and ``precision`` say how they run
        (:func:`detector.inference.placement.place`); an Ensemble runs as it was placed.

        ``profile`` and ``max_proposals`` say how images are looked at where a call does not; left out, the
        profile is ``balanced`` with a MultiBox head and ``search`` without, and keeps as many boxes as it is
        meant to. ``batch`` is how many regions the network takes at once, if not as many as are best for the
        device; ``compile`` is for long runs, see
        :meth:`detector.inference.ensemble.Ensemble.region_engine`.

        Raises CheckpointError if a checkpoint is a mere classifier, or unlike the others in its classes or
        images; ParameterError for a profile or scoring that these weights cannot serve.
        """
        ensemble = place(networks, engine=engine, device=device, precision=precision)
        for member in ensemble.members:
            _check_detects(member)
        ensemble.check_alike("detection")
        metadata = ensemble.members[0].metadata
        assert metadata.detection is not None
        self.ensemble = ensemble
        self.name = ensemble.name
        self.members = tuple(member.metadata.name for member in ensemble.members)
        self.classes: ClassList = metadata.detection
        self.metadata = metadata
        self.max_proposals = max_proposals
        self._batch, self._compile = batch, compile
        self.scoring = metadata.scoring if scoring is None else scoring
        preprocessing, shared = metadata.preprocessing, metadata.shared_maps
        specs = {index: member.metadata.multibox for index, member in enumerate(ensemble.members)}
        proposing, spec = next(
            ((index, spec) for index, spec in specs.items() if spec is not None), (0, None)
        )
        own_maps = None  # of images, that MultiBox alone reads
        if spec is not None and (shared is None or spec.image != shared.image):
            own = ensemble.image_engine(proposing, None, multibox=True)
            own_maps = ImageMaps(own, spec.image, preprocessing)

        def proposer(maps: ImageMaps | None, view: Preprocessing) -> Proposer:
            multibox = None
            if spec is not None and maps is not None:
                multibox = MultiBox(spec, maps, view)
            return Proposer(view, multibox, searches_small=shared is not None)

        def sharing(settings: SharedMaps) -> Steps:
            """Have regions cut out of maps, and proposed from them if the head reads the same."""
            regions = SharedRegions(
                ensemble,
                preprocessing,
                settings,
                multibox=proposing if spec is not None and own_maps is None else None,
                batch=batch,
                compile=compile,
            )
            maps = own_maps or regions.maps_of_member(proposing)
            larger = max(settings.scales[-1], preprocessing.short_side or 0)
            view = preprocessing if settings is shared else replace(preprocessing, short_side=larger)
            return Steps(view, proposer(maps, view), regions, own_maps)

        warped = WarpedRegions(ensemble, preprocessing, batch=batch, compile=compile)
        if shared is None:
            usual = Steps(preprocessing, proposer(own_maps, preprocessing), warped, own_maps)
            thorough = paper = usual
        else:
            usual, thorough = sharing(shared), sharing(with_finer_scale(shared))
            assert isinstance(usual.features, SharedRegions)
            maps = own_maps or usual.features.maps_of_member(proposing)
            paper = replace(usual, features=warped, multibox_maps=maps)
        self._steps = dict.fromkeys(Profile, usual) | {
            Profile.THOROUGH: thorough,
            Profile.PAPER: paper,
        }
        self._proposer = usual.proposer
        self.profile = self._proposer.check_profile(profile)
        if self.scoring.fit_power and not all(member.predicts_iou for member in ensemble.members):
            raise ParameterError(
                f"{self.name} predicts no IoU to weigh scores by: use a Scoring with fit_power=0, or train a "
                "head that does with `detector train location`"
            )

    @property
    def has_multibox(self) -> bool:
        """Whether the weights hold a MultiBox head: without one, ``search`` is the only profile."""
        return self._proposer.multibox is not None

    @overload
    def detect(  # type: ignore[overload-overlap]
        self,
        images: ImageInput,
        *,
        profile: Profile | str | None = None,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: str | Sequence[str] | None = None,
        tile: int | None = None,
        explain: int = 0,
    ) -> Detections: ...

    @overload
    def detect(
        self,
        images: Sequence[ImageInput],
        *,
        profile: Profile | str | None = None,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: str | Sequence[str] | None = None,
        tile: int | None = None,
        explain: int = 0,
    ) -> list[Detections]: ...

    @without_callers_context
    def detect(
        self,
        images: ImageInput | Sequence[ImageInput],
        *,
        profile: Profile | str | None = None,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: str | Sequence[str] | None = None,
        tile: int | None = None,
        explain: int = 0,
    ) -> Detections | list[Detections]:
        """Return the detections of an image, best first, or those of each of several.

        ``profile`` says where to look; ``classes`` which to keep, by names or ids. ``score_threshold`` is the
        least score that is kept, or ``"auto"``: for each class that from which on as large a share is right
        as was wanted when these weights were measured (:attr:`thresholds`). With ``tile`` an image
        that is larger is also looked at in overlapping squares of so many pixels a side, for objects that are
        too small in the whole. The best ``explain`` of them have a
        :class:`detector.structures.explanation.Explanation` each, which takes a second look at their regions;
        not together with ``tile``. Raises ParameterError for a bad image or setting.
        """
        find = self.finder(
            profile=profile,
            score_threshold=score_threshold,
            max_detections=max_detections,
            classes=classes,
            tile=tile,
            explain=explain,
        )
        several, alone = as_several(images)
        found = [find(image) for image in several]
        return found[0] if alone else found

    def stream(
        self,
        images: Iterable[ImageInput],
        *,
        profile: Profile | str | None = None,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: str | Sequence[str] | None = None,
        tile: int | None = None,
        explain: int = 0,
        return_exceptions: bool = False,
    ) -> Iterator[Detections]:
        """Yield the detections of each image as they are found, in order: of any number, also without end.

        Several images are under way at once and share the batches of the network, which takes less time than
        one after the other. An image that cannot be read raises its error when it is its turn, or with
        ``return_exceptions`` is the error that is yielded in place of its detections. Raises ParameterError
        for a bad setting at once, and for one image alone.
        """
        if as_several(images)[1]:  # type: ignore[arg-type]  # a path would be taken letter by letter
            raise ParameterError("stream takes an iterable of images: for one alone there is detect")
        find = self.for_streams.finder(
            profile=profile,
            score_threshold=score_threshold,
            max_detections=max_detections,
            classes=classes,
            tile=tile,
            explain=explain,
        )

        def results() -> Iterator[Detections]:
            def work(image: ImageInput, executor: Executor) -> Detections:
                return find(image, executor=executor)

            for _, found in stream(images, work, streams=self.ensemble.streams):
                if isinstance(found, Exception) and not return_exceptions:
                    raise found
                yield found  # type: ignore[misc]

        return results()

    def __reduce__(self) -> NoReturn:
        """Raises ParameterError: what is loaded stays in its process."""
        raise ParameterError(
            "a loaded detector can be neither copied nor sent to another process: send a "
            "detector.inference.settings.DetectorSettings and load() it there; threads may share one"
        )

    @cached_property
    def for_streams(self) -> "Detector":
        """The same detector, of the same weights in memory, that runs several batches beside each other, each
        on one thread: what :func:`detector.inference.streaming.stream` asks."""
        return type(self)(
            self.ensemble.with_streams(self.ensemble.streams),
            scoring=self.scoring,
            profile=self.profile,
            max_proposals=self.max_proposals,
            batch=self._batch,
            compile=self._compile,
        )

    def finder(
        self,
        *,
        profile: Profile | str | None = None,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: str | Sequence[str] | None = None,
        tile: int | None = None,
        explain: int = 0,
    ) -> "Finder":
        """Return a function from an image to its detections, its settings checked once: parameters are those
        of :meth:`detect`. Several threads may call it."""
        if tile is not None:
            check_tile(tile)
        self.steps(profile)  # says what is wrong with it
        check_explain(explain, tile)
        labels = None if classes is None else labels_of(classes, self.classes)
        least = self.least_scores(score_threshold)
        check_selection(least, max_detections)
        request = _Request(profile, least, max_detections, labels, tile, explain)
        return partial(self._find, request=request)

    @without_callers_context
    def _find(self, image: ImageInput, *, request: _Request, executor: Executor = run_directly) -> Detections:
        def look(part: ImageInput) -> Detections:
            view = self.view(part, request.profile)
            self.prepare(view, request.profile, executor=executor)
            proposals = self.propose(view, request.profile, executor=executor)
            regions = self.score(view, proposals, request.profile, executor=executor)
            found = self._select(regions, request.score_threshold, request.max_detections, request.labels)
            if not request.explain:
                return found
            return self.explain(view, regions, found, request.explain, request.profile, executor=executor)

        if request.tile is None:
            return look(image)
        return self.find_in_tiles(image, request.tile, look, request.max_detections)

    def find_in_tiles(
        self, image: ImageInput, tile: int, find: Callable[[RGB], Detections], max_detections: int
    ) -> Detections:
        """Look at an image and at its tiles by ``find``; return what both find, merged.

        Raises ParameterError for an image that has too many of them.
        """
        pixels = as_rgb(image)
        height, width = pixels.shape[:2]
        tiles = tiles_of(width, height, tile)
        parts = [find(pixels[y1:y2, x1:x2]) for x1, y1, x2, y2 in tiles.astype(int).tolist()]
        merged = merge_tiles(
            find(pixels),
            tiles,
            parts,
            width,
            height,
            nms_iou=self.scoring.nms_iou,
            max_detections=max_detections,
        )
        return replace(merged, classes=self.classes)

    def view(self, image: ImageInput, profile: Profile | str | None = None) -> ImageView:
        """Reduce an image [H,W,3] once for all steps of a profile. Raises ParameterError for what is no
        image."""
        return ImageView(image, self.steps(profile).preprocessing)

    @without_callers_context
    def prepare(
        self, view: ImageView, profile: Profile | str | None = None, *, executor: Executor = run_directly
    ) -> None:
        """Run what all regions of an image share, which the first of them does otherwise, nothing where each
        region is warped; and start selective search beside it."""
        steps = self.steps(profile)
        steps.proposer.begin(view, self.profile if profile is None else profile, self.max_proposals)
        steps.features.prepare(view, mirrored=self.scoring.flip, executor=executor)

    @without_callers_context
    def propose(
        self,
        image: ImageInput | ImageView,
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
        *,
        executor: Executor = run_directly,
    ) -> Proposals:
        """Propose where to look in an image [H,W,3].

        Raises ParameterError for a profile that cannot be served.
        """
        return self.steps(profile).proposer.propose(
            self._view_of(image, profile),
            self.profile if profile is None else profile,
            self.max_proposals if max_proposals is None else max_proposals,
            executor=executor,
        )

    @without_callers_context
    def multibox(self, image: ImageInput, max_boxes: int = MAX_BOXES) -> Proposals:
        """Propose by MultiBox alone. Raises ParameterError where the weights hold no head."""
        self._proposer.check_profile(Profile.FAST)
        assert self._proposer.multibox is not None
        return self._proposer.multibox.propose(image, max_boxes)

    @without_callers_context
    def score(
        self,
        image: ImageInput | ImageView,
        proposals: Proposals,
        profile: Profile | str | None = None,
        *,
        executor: Executor = run_directly,
    ) -> RegionScores:
        """Run the network on each proposal of an image [H,W,3], and on the whole image if scores go by that.

        Boxes come back moved by their offsets, if the scoring asks for it. The profile says how regions are
        looked at.
        """
        view, scoring = self._view_of(image, profile), self.scoring
        predictions = self.steps(profile).features.predict(
            view,
            proposals.boxes,
            whole=bool(scoring.context_power),
            mirrored=scoring.flip,
            executor=executor,
        )
        regions = score_regions(average(predictions), proposals.boxes, view.width, view.height, scoring)
        return replace(regions, proposals=proposals)

    @without_callers_context
    def select(
        self,
        regions: RegionScores,
        *,
        score_threshold: ScoreThreshold = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: Sequence[int] | None = None,
    ) -> Detections:
        """Return regions over the threshold, without those that a better one of the same class overlaps; of
        some ``classes`` alone, if their labels are given. Raises ParameterError for a bad setting."""
        return self._select(regions, self.least_scores(score_threshold), max_detections, classes)

    def _select(
        self,
        regions: RegionScores,
        least: float | NDArray[np.float64],
        max_detections: int,
        classes: Sequence[int] | None,
    ) -> Detections:
        found = select(
            regions,
            score_threshold=least,
            max_detections=max_detections,
            scoring=self.scoring,
            classes=classes,
        )
        return replace(found, classes=self.classes)

    @without_callers_context
    def explain(
        self,
        image: ImageInput | ImageView,
        regions: RegionScores,
        detections: Detections,
        count: int,
        profile: Profile | str | None = None,
        *,
        executor: Executor = run_directly,
    ) -> Detections:
        """Return detections that :meth:`select` made of the regions of an image, the first ``count`` of them
        explained: the factors of their scores, and where the evidence lies.

        The network looks at their regions once more. Raises ParameterError for detections or regions of
        other origin, and for too many of them.
        """
        check_explain(count)
        steps, view = self.steps(profile), self._view_of(image, profile)
        explanations = explain(
            self.ensemble, steps.features, view, regions, detections[:count], self.scoring, executor=executor
        )
        rest = [None] * (len(detections) - len(explanations))
        return replace(detections, explanations=(*explanations, *rest))

    @property
    def thresholds(self) -> Thresholds | None:
        """The thresholds that ``score_threshold="auto"`` stands for: those of the weights, None where none
        were measured. They hold for one network under its own scoring."""
        alone = len(self.members) == 1 and self.scoring == self.metadata.scoring
        return self.metadata.thresholds if alone else None

    def least_scores(self, score_threshold: ScoreThreshold) -> float | NDArray[np.float64]:
        """Return the least score that is kept, or of ``auto`` that of each class [C].

        Raises ParameterError for ``auto`` where no thresholds were measured.
        """
        if isinstance(score_threshold, Real) and not isinstance(score_threshold, bool):
            return float(score_threshold)
        if score_threshold != AUTO:
            raise ParameterError(
                f"score_threshold must be a number in 0..1 or 'auto', got {score_threshold!r}"
            )
        if self.thresholds is None:
            why = "was never measured for them"
            if self.metadata.thresholds is not None:
                why = "has none for several networks together, or under another scoring"
            raise ParameterError(
                f"score_threshold 'auto' goes by thresholds of the classes, and {self.name} {why}: give a "
                "number in 0..1, or measure thresholds for one file of weights with `detector evaluate "
                "--thresholds-to`"
            )
        return self.thresholds.least

    @without_callers_context
    def predict(
        self,
        image: ImageInput | ImageView,
        boxes: Boxes,
        *,
        whole: bool = False,
        flip: bool = False,
        profile: Profile | str | None = None,
        executor: Executor = run_directly,
    ) -> list[RegionPrediction]:
        """Return the raw outputs of every member for boxes [R,4] of an image [H,W,3], no scoring applied.

        With ``whole`` a last row is that of the whole image. With ``flip`` every region is also seen
        mirrored, and both are averaged. The profile says whether regions are warped.
        """
        view = self._view_of(image, profile)
        features = self.steps(profile).features
        return features.predict(view, boxes, whole=whole, mirrored=flip, executor=executor)

    def cost(self, profile: Profile | str | None, regions: int) -> int:
        """Return what an image of 3:4 with so many proposals takes the network, in regions of shared maps
        that take as long. One that is explained counts as one proposal more."""
        chosen = self._proposer.check_profile(self.profile if profile is None else profile)
        steps, scoring = self.steps(chosen), self.scoring
        looks = 2 if scoring.flip else 1
        rows = regions + (scoring.context_power > 0)
        maps = steps.multibox_maps if chosen is not Profile.SEARCH else None
        alone = maps.cost if maps is not None else 0
        return looks * (steps.features.image_cost + rows * steps.features.region_cost) + alone

    def steps(self, profile: Profile | str | None) -> Steps:
        """Return how a profile looks at images: those that look alike share the view and its maps.

        Raises ParameterError for a profile that cannot be served.
        """
        return self._steps[self._proposer.check_profile(self.profile if profile is None else profile)]

    def _view_of(self, image: ImageInput | ImageView, profile: Profile | str | None) -> ImageView:
        return ImageView.of(image, self.steps(profile).preprocessing)


def _check_detects(member: Member) -> None:
    """Raises CheckpointError for a member that is no detector."""
    if not member.detects:
        raise CheckpointError(
            f"{member.metadata.name} classifies whole pictures and cannot detect; "
            "make a detector of it with `detector train --init`"
        )
