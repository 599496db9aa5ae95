"""Proposals: class-agnostic boxes that may hold an object."""

from detector.options import Profile
from detector.proposals.multibox import MultiBox
from detector.proposals.profiles import Proposer
from detector.proposals.reference import reference_selective_search
from detector.proposals.result import Proposals, Source
from detector.proposals.selective_search import selective_search
from detector.proposals.union import union

__all__ = [
    "MultiBox",
    "Profile",
    "Proposals",
    "Proposer",
    "Source",
    "reference_selective_search",
    "selective_search",
    "union",
]
