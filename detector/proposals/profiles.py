"""Ways to propose: how much time is spent on where to look."""

from dataclasses import replace

import torch

from detector.errors import ParameterError
from detector.inference.image_view import View
from detector.inference.looks import Steps, complete
from detector.inference.region_crops import Preprocessing
from detector.io.decoding import ImageInput
from detector.options import Profile
from detector.proposals.fusion import union
from detector.proposals.multibox import MAX_BOXES, MultiBox
from detector.proposals.selective_search.search import selective_search
from detector.structures.boxes import clip
from detector.structures.proposals import Proposals

UNION_SUPERPIXEL_SCALE = 2.0
"""GoogLeNet (arXiv 1409.4842, section 8) doubled the superpixels, and so halved the boxes."""


# Selective search has as many independent parts; threads are as many as the network may use.
_MAX_THREADS = 4


BUDGETS: dict[Profile, int | None] = {
    Profile.FAST: 60,
    Profile.BALANCED: 120,
    Profile.PAPER: None,
    Profile.SEARCH: 120,
}
"""Boxes of a picture that a profile keeps unless told otherwise; None keeps all."""


class Proposer:
    """Proposes boxes of pictures by profile, at the size of picture that the network is used to."""

    def __init__(self, preprocessing: Preprocessing, multibox: MultiBox | None) -> None:
        self.multibox = multibox
        self._preprocessing = preprocessing

    @property
    def default_profile(self) -> Profile:
        """``balanced`` where there is a MultiBox head, else ``search``."""
        return Profile.BALANCED if self.multibox is not None else Profile.SEARCH

    def propose(
        self, image: ImageInput, profile: Profile | str | None = None, max_boxes: int | None = None
    ) -> Proposals:
        """Boxes of a picture [H,W,3] in its pixels, best first; ``max_boxes`` overrides the profile's number.

        Raises ParameterError for an unknown profile, or one that needs a MultiBox head where there is none.
        """
        return complete(self.proposing(View(image, self._preprocessing), profile, max_boxes))

    def proposing(
        self, view: View, profile: Profile | str | None = None, max_boxes: int | None = None
    ) -> Steps[Proposals]:
        """Steps to the same, of a picture that others look at as well."""
        profile = self.check_profile(profile)
        if max_boxes is not None and max_boxes < 1:
            raise ParameterError(f"max_boxes must be at least 1, got {max_boxes}")
        budget = max_boxes or BUDGETS[profile]
        if profile is Profile.SEARCH:
            return _search(view, 1.0, budget)
        assert self.multibox is not None
        if profile is Profile.FAST:
            return (yield from self.multibox.proposing(view, budget or MAX_BOXES))
        search = _search(view, UNION_SUPERPIXEL_SCALE, budget)
        return union(search, (yield from self.multibox.proposing(view))).first(budget)

    def check_profile(self, profile: Profile | str | None) -> Profile:
        """The profile that is meant, the default one for None. Raises ParameterError as :meth:`propose`."""
        if profile is None:
            return self.default_profile
        if profile not in tuple(Profile):
            raise ParameterError(f"profile must be one of {', '.join(Profile)}, got {profile!r}")
        profile = Profile(profile)
        if profile is not Profile.SEARCH and self.multibox is None:
            raise ParameterError(
                f"profile {profile} needs a MultiBox head, which these weights lack: use profile "
                f"{Profile.SEARCH}, or give them one with training/train_multibox.py --init"
            )
        return profile


def _search(view: View, scale: float, budget: int | None) -> Proposals:
    threads = min(torch.get_num_threads(), _MAX_THREADS)
    found = selective_search(view.pixels, superpixel_scale=scale, max_boxes=budget, threads=threads)
    return replace(found, boxes=clip(found.boxes / view.factors, view.width, view.height))
