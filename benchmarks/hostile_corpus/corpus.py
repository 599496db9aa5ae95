"""All hostile files in one order that depends on a seed alone."""

from collections.abc import Iterator
from functools import cache

from hostile_corpus.bombs import bombs
from hostile_corpus.hostile_file import HostileFile
from hostile_corpus.mutations import mutations
from hostile_corpus.oddities import oddities
from hostile_corpus.strangers import strangers

SIZE = 2500
"""How many files a whole pass has, if not told otherwise."""


def corpus(count: int = SIZE, seed: int = 0) -> Iterator[HostileFile]:
    """Yield ``count`` files: every one that was made by hand, and as many mutations as there is room for."""
    made = made_by_hand()
    yield from made[:count]
    yield from mutations(max(0, count - len(made)), seed)


@cache
def made_by_hand() -> tuple[HostileFile, ...]:
    """Yield what no seed changes."""
    return *bombs(), *strangers(), *oddities()


def spread(count: int, seed: int = 0) -> list[HostileFile]:
    """Return ``count`` files from all over the corpus."""
    everything = list(corpus(seed=seed))
    step = len(everything) / count
    return [everything[int(number * step)] for number in range(count)]
