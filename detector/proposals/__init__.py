"""Proposals: class-agnostic boxes that may hold an object."""

from detector.proposals.reference import reference_selective_search
from detector.proposals.result import Proposals, Source
from detector.proposals.selective_search import selective_search

__all__ = ["Proposals", "Source", "reference_selective_search", "selective_search"]
