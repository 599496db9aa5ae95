"""Profiles: which methods propose boxes, and how many of these are kept."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from detector.errors import ParameterError
from detector.inference.executor import Executor, run_directly
from detector.inference.preprocessing import Preprocessing, resize_to_short_side
from detector.inference.region_crops import ImageView
from detector.io.decoding import ImageInput
from detector.options import Profile
from detector.proposals.fusion import fuse
from detector.proposals.multibox import MAX_BOXES, MultiBox
from detector.proposals.selective_search.search import selective_search
from detector.structures.boxes import clip
from detector.structures.proposals import Proposals
from detector.threads import available_threads

FUSION_SUPERPIXEL_SCALE = 2.0
"""GoogLeNet (arXiv 1409.4842, section 8) doubled the superpixels, and so halved the boxes."""

SEARCH_SIDE = 240
"""Shorter side in pixels of the image that selective search runs on where the network sees a larger one: its
time grows with the area, and what it adds to MultiBox are the larger objects."""

_MAX_THREADS = 4  # selective search has as many independent parts; never more than the network may use

BUDGETS: dict[Profile, int | None] = {
    Profile.FAST: 60,
    Profile.BALANCED: 120,
    Profile.THOROUGH: 300,
    Profile.PAPER: None,
    Profile.SEARCH: 120,
}
"""Boxes of an image that a profile keeps unless told otherwise; None keeps all."""


class Proposer:
    """Proposes boxes of images by profile, at the size of image that the network is used to."""

    def __init__(
        self, preprocessing: Preprocessing, multibox: MultiBox | None, *, searches_small: bool = False
    ) -> None:
        """``searches_small``: selective search runs on an image reduced to :data:`SEARCH_SIDE`, however large
        the network sees it."""
        self.multibox = multibox
        self._preprocessing = preprocessing
        self._search_side = SEARCH_SIDE if searches_small else None

    @property
    def default_profile(self) -> Profile:
        """``balanced`` where there is a MultiBox head, else ``search``."""
        return Profile.BALANCED if self.multibox is not None else Profile.SEARCH

    def propose(
        self,
        image: ImageInput | ImageView,
        profile: Profile | str | None = None,
        max_boxes: int | None = None,
        *,
        executor: Executor = run_directly,
    ) -> Proposals:
        """Return boxes of an image [H,W,3] in its pixels, best first; ``max_boxes`` overrides the profile's.

        Raises ParameterError for an unknown profile, or one that needs a MultiBox head where there is none.
        """
        profile = self.check_profile(profile)
        if max_boxes is not None and max_boxes < 1:
            raise ParameterError(f"max_boxes must be at least 1, got {max_boxes}")
        budget = max_boxes or BUDGETS[profile]
        view = ImageView.of(image, self._preprocessing)
        if profile is Profile.SEARCH:
            return self._search(view, 1.0, budget, available_threads())
        assert self.multibox is not None
        if profile is Profile.FAST:
            return self.multibox.propose(view, budget or MAX_BOXES, executor=executor)
        searched = self.begin(view, profile, max_boxes)
        assert searched is not None
        multibox = self.multibox.propose(view, executor=executor)
        return fuse(searched.result(), multibox).first(budget)

    def begin(
        self, view: ImageView, profile: Profile | str | None = None, max_boxes: int | None = None
    ) -> Future[Proposals] | None:
        """Start selective search of an image on a thread of its own, if the profile fuses both methods:
        :meth:`propose` takes what it finds. So it runs beside the trunk, not before it."""
        profile = self.check_profile(profile)
        if profile in (Profile.SEARCH, Profile.FAST):
            return None
        budget = max_boxes or BUDGETS[profile]
        threads = available_threads()  # of the caller: the thread that searches does not know

        def start() -> Future[Proposals]:
            thread = ThreadPoolExecutor(1, "search")
            found = thread.submit(self._search, view, FUSION_SUPERPIXEL_SCALE, budget, threads)
            thread.shutdown(wait=False)  # the thread ends when it has searched
            return found

        return view.keep((self, "search", budget), start)

    def _search(self, view: ImageView, scale: float, budget: int | None, threads: int) -> Proposals:
        """Run selective search on the reduced image; return its boxes in the pixels of the image."""
        smaller = replace(self._preprocessing, short_side=self._search_side)
        pixels, factors = resize_to_short_side(view.pixels, smaller)
        threads = min(threads, _MAX_THREADS)
        proposals = selective_search(pixels, superpixel_scale=scale, max_boxes=budget, threads=threads)
        boxes = clip(proposals.boxes / (view.factors * factors), view.width, view.height)
        return replace(proposals, boxes=boxes)

    def check_profile(self, profile: Profile | str | None) -> Profile:
        """Return the profile of a name, the default for None. Raises ParameterError as :meth:`propose`."""
        if profile is None:
            return self.default_profile
        if profile not in tuple(Profile):
            raise ParameterError(f"profile must be one of {', '.join(Profile)}, got {profile!r}")
        profile = Profile(profile)
        if profile is not Profile.SEARCH and self.multibox is None:
            raise ParameterError(
                f"profile {profile} needs a MultiBox head, which these weights lack: use profile "
                f"{Profile.SEARCH}, or give them one with `detector train multibox --init`"
            )
        return profile
