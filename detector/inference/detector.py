"""The whole way from pictures to detections.

Letters for shapes: R regions, C classes (background is the last of C+1), D detections.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.ensemble import (
    RegionEnsemble,
    RegionPrediction,
    averaged,
    check_members,
    ensemble_name,
)
from detector.inference.image_view import View
from detector.inference.isolation import isolated
from detector.inference.looks import Steps, complete
from detector.inference.postprocess import RegionScores, refined, select, worth_a_second_look
from detector.inference.region_crops import add_context
from detector.inference.scoring import Scoring, class_posterior
from detector.io.decoding import ImageInput, check_several
from detector.models.checkpoint import Checkpoint
from detector.models.region_network import RegionNetwork
from detector.options import MAX_DETECTIONS, SCORE_THRESHOLD, Profile
from detector.proposals.multibox import MAX_BOXES, MultiBox
from detector.proposals.profiles import Proposer
from detector.structures.boxes import Boxes, clip, decode
from detector.structures.classes import ClassList
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals

__all__ = ["MAX_DETECTIONS", "SCORE_THRESHOLD", "Detector", "RegionScores", "select"]


class Detector:
    """Finds objects in pictures: proposals, the network on each region, suppression class by class.

    The network may be several, whose words are averaged: proposals are made and warped once. A picture is
    an array uint8 [H,W,3] RGB, upright, or the path or the bytes of a picture file, or a Pillow image
    (:func:`detector.io.decoding.as_rgb`). Boxes come back in the upright picture's pixels. What the caller
    has set
    of torch (autocast, gradients, default dtype and device) neither changes a result nor is changed.

    Not to be used in a process that was forked after a Detector was loaded: torch's threads and a GPU's
    context do not survive a fork, and the child waits for ever. Load one in each process, or start processes
    by "spawn" (``multiprocessing.get_context("spawn")``).
    """

    def __init__(
        self,
        checkpoint: Checkpoint | Sequence[Checkpoint],
        *,
        scoring: Scoring | None = None,
        device: str = "auto",
        precision: str = "auto",
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """Several checkpoints make an ensemble; the first with a MultiBox head proposes for all, and
        ``scoring`` is the first one's unless given.

        ``profile`` and ``max_proposals`` say how pictures are looked at where a call does not; left out,
        the profile is ``balanced`` with a MultiBox head and ``search`` without, and keeps as many boxes as it
        is meant to. ``batch`` is how many regions the network takes at once, if not as many as are best for
        the device; ``compile`` is for long runs, see :class:`detector.inference.engine.Engine`.

        Raises CheckpointError if a checkpoint is a mere classifier, or unlike the others in its classes or
        pictures; ParameterError for a profile or scoring that these weights cannot serve.
        """
        checkpoints = [checkpoint] if isinstance(checkpoint, Checkpoint) else list(checkpoint)
        networks = [_region_network(member) for member in checkpoints]
        check_members(checkpoints, "detection")
        metadata = checkpoints[0].metadata
        assert metadata.detection is not None
        self.members = tuple(member.metadata.name for member in checkpoints)
        self.classes: ClassList = metadata.detection
        self.metadata = metadata
        self.max_proposals = max_proposals
        self.scoring = metadata.scoring if scoring is None else scoring
        self._preprocessing = metadata.preprocessing
        self._ensemble = RegionEnsemble(
            networks, device=device, precision=precision, batch=batch, compile=compile
        )
        if self.scoring.fit_power and not self._ensemble.predicts_fit:
            raise ParameterError(
                f"{self.name} has no fit head to weigh scores by: use a Scoring with fit_power=0, or train "
                "one with training/finetune_det.py"
            )
        multibox = None
        for member in checkpoints:
            if member.multibox is not None:
                multibox = MultiBox(
                    member.backbone.features,
                    member.multibox,
                    metadata.preprocessing,
                    device=device,
                    precision=precision,
                )
                break
        self._proposer = Proposer(metadata.preprocessing, multibox)
        self.profile = self._proposer.check_profile(profile)

    @isolated
    def detect(
        self,
        images: Sequence[ImageInput],
        *,
        profile: Profile | str | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
    ) -> list[Detections]:
        """Detections of each picture [H,W,3], best first; ``profile`` says where to look.

        Raises ParameterError for a bad picture or setting.
        """
        found = []
        for image in check_several(images, "detect"):
            regions = complete(self._to_regions(self.view(image), profile))
            found.append(self.select(regions, score_threshold=score_threshold, max_detections=max_detections))
        return found

    def view(self, image: ImageInput) -> View:
        """A picture [H,W,3] as the steps below look at it. Raises ParameterError for what is none."""
        return View(image, self._preprocessing)

    def proposing(
        self, view: View, profile: Profile | str | None = None, max_proposals: int | None = None
    ) -> Steps[Proposals]:
        """Steps to where to look. Raises ParameterError for a profile that cannot be served."""
        return self._proposer.proposing(
            view,
            self.profile if profile is None else profile,
            self.max_proposals if max_proposals is None else max_proposals,
        )

    def scoring_regions(self, view: View, proposals: Proposals) -> Steps[RegionScores]:
        """Steps to the network's last word on each proposal: the second look included, if scores ask for
        one."""
        (regions,) = yield from self._looking_first([len(self.members)], view, proposals)
        return (yield from self._refining(view, regions))

    def _to_regions(self, view: View, profile: Profile | str | None) -> Steps[RegionScores]:
        proposals = yield from self.proposing(view, profile)
        return (yield from self.scoring_regions(view, proposals))

    @property
    def name(self) -> str:
        """The members' names, as replies state them."""
        return ensemble_name(self.members)

    @property
    def tails(self) -> list[nn.Module]:
        """The stages of the trunk that each member has for itself."""
        return self._ensemble.tails

    def first(self, count: int) -> "Detector":
        """The first ``count`` members as a detector that proposes as this one does; weights are shared."""
        part = copy.copy(self)
        part.members = self.members[:count]
        part._ensemble = self._ensemble.first(count)
        return part

    @property
    def has_multibox(self) -> bool:
        """Whether the weights hold a MultiBox head: without one, ``search`` is the only profile."""
        return self._proposer.multibox is not None

    @isolated
    def propose(
        self,
        image: ImageInput,
        profile: Profile | str | None = None,
        max_proposals: int | None = None,
    ) -> Proposals:
        """Where to look in a picture [H,W,3]. Raises ParameterError for a profile that cannot be served."""
        return complete(self.proposing(self.view(image), profile, max_proposals))

    @isolated
    def multibox(self, image: ImageInput, max_boxes: int = MAX_BOXES) -> Proposals:
        """The proposals of MultiBox alone. Raises ParameterError where the weights hold no head."""
        self._proposer.check_profile(Profile.FAST)
        assert self._proposer.multibox is not None
        return self._proposer.multibox.propose(image, max_boxes)

    @isolated
    def score(self, image: ImageInput, proposals: Proposals) -> RegionScores:
        """The network's word on each proposal of a picture [H,W,3], and on the whole picture if scores go by
        that."""
        (regions,) = self.score_first([len(self.members)], image, proposals)
        return regions

    @isolated
    def score_first(
        self, counts: Sequence[int], image: ImageInput, proposals: Proposals
    ) -> list[RegionScores]:
        """As :meth:`score`, by the first so many members for each of ``counts``: every member looks once."""
        return complete(self._looking_first(counts, self.view(image), proposals))

    @isolated
    def refine(self, image: ImageInput, regions: RegionScores) -> RegionScores:
        """The same regions, the best looked at again where they were moved to, if the scoring asks for it."""
        return complete(self._refining(self.view(image), regions))

    @isolated
    def select(
        self,
        regions: RegionScores,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        max_detections: int = MAX_DETECTIONS,
        classes: Sequence[int] | None = None,
    ) -> Detections:
        """Regions over the threshold, without those that a better one of the same class overlaps; of some
        ``classes`` alone, if their labels are given."""
        return select(
            regions,
            score_threshold=score_threshold,
            max_detections=max_detections,
            scoring=self.scoring,
            classes=classes,
        )

    def _looking_first(
        self, counts: Sequence[int], view: View, proposals: Proposals
    ) -> Steps[list[RegionScores]]:
        looks = yield from self._looking(
            view, proposals.boxes, counts, whole=bool(self.scoring.context_power)
        )
        return [replace(regions, proposals=proposals) for regions in looks]

    def _refining(self, view: View, regions: RegionScores) -> Steps[RegionScores]:
        if not self.scoring.refine or not self._ensemble.moves_boxes or not len(regions):
            return regions
        rows = worth_a_second_look(regions, self.scoring)
        (second,) = yield from self._looking(view, regions.boxes[rows], [len(self.members)])
        return refined(regions, second, rows)

    def _looking(
        self, view: View, boxes: Boxes, counts: Sequence[int], *, whole: bool = False
    ) -> Steps[list[RegionScores]]:
        """Steps to what the first so many networks say of boxes [R,4] of a picture and, if asked for, of the
        whole of it."""
        windows = add_context(boxes * view.factors, self._preprocessing)
        if whole:
            windows = np.concatenate([windows, view.whole])
        size, device = self._preprocessing.size, self._ensemble.device
        each = yield from self._ensemble.looking(
            len(windows),
            lambda first, last: view.crops(windows[first:last], size, device),
            flip=self.scoring.flip,
        )
        image_size = view.width, view.height
        return [
            self._region_scores(averaged(each[:count]), boxes, image_size, whole=whole) for count in counts
        ]

    def _region_scores(
        self, said: RegionPrediction, boxes: Boxes, size: tuple[int, int], *, whole: bool
    ) -> RegionScores:
        """A prediction of boxes [R,4], with ``whole`` one row longer, in a picture of a width and height."""
        count = len(boxes)
        if said.deltas is not None and self.scoring.box_regression:
            boxes = decode(boxes, said.deltas[:count].numpy())
        return RegionScores(
            clip(boxes, *size),
            said.probabilities[:count, :-1].numpy(),
            fit=said.fit[:count].numpy() if said.fit is not None else None,
            image=class_posterior(said.probabilities[count].numpy()) if whole else None,
        )


def _region_network(checkpoint: Checkpoint) -> RegionNetwork:
    network, metadata = checkpoint.network, checkpoint.metadata
    if not isinstance(network, RegionNetwork) or metadata.detection is None:
        raise CheckpointError(
            f"{metadata.name} classifies whole pictures and cannot detect; "
            "make a detector of it with training/finetune_det.py --init"
        )
    return network
