"""Whose turn it is: fair between requests, deadline first.

Every request has a right to an equal share of the device. A request that took its quantum of rows waits until
the others had theirs; among those whose turn it is, the earliest deadline goes first, and one that was passed
over for a whole quantum before all of them. An ordinary request fits one quantum, so that ordinary requests
run whole, one after the other, while a huge one neither holds them up for longer than its quantum nor is
starved by them. (Virtual time as in Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First",
1995.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

_numbers = count()

_ROUNDING = 1e-9  # virtual time is a sum of fractions


@dataclass(eq=False)
class Requester:
    """Who asks: all that one request wants of the device shares its turns.

    ``deadline`` is a time of ``time.monotonic``. ``on_first_row`` is called once, by the device's thread,
    when the first rows that are not urgent go to the device. The scheduler keeps the rest up to date.
    """

    deadline: float
    on_first_row: Callable[[], None] | None = None
    cancelled: bool = False
    turn: float = 0.0
    taken: int = 0
    number: int = field(default_factory=_numbers.__next__)


class Waiting(Protocol):
    """What stands in the queue."""

    @property
    def requester(self) -> Requester:
        """Whose it is."""


W = TypeVar("W", bound=Waiting)


class FairQueue(Generic[W]):
    """What waits for the device. One thread at a time may use it."""

    def __init__(self, quantum: int) -> None:
        """``quantum``: rows that a request may take before the others have their turn."""
        self._quantum = quantum
        self._now = 0.0  # virtual time: how many quanta a request that always waited would have had
        self._waiting: list[W] = []
        self._served: Requester | None = None  # whose quantum is not over

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        return iter(list(self._waiting))

    def add(self, one: W) -> None:
        """Let one wait. A requester that comes for the first time, or again after a pause, has its turn."""
        one.requester.turn = max(one.requester.turn, self._now)
        self._waiting.append(one)

    def remove(self, one: W) -> None:
        """Let one wait no longer."""
        self._waiting.remove(one)

    def next(self, wanted: Callable[[W], bool]) -> W | None:
        """Of those that are ``wanted``, the one whose turn it is; it stays in the queue."""
        candidates = [one for one in self._waiting if wanted(one)]
        for one in candidates:
            if one.requester is self._served:
                return one  # to the end of its quantum
        return min(candidates, key=self._rank, default=None)

    def _rank(self, one: W) -> tuple[int, float, int]:
        requester = one.requester
        ahead = requester.turn - self._now
        if ahead <= -1:  # passed over
            return 0, requester.turn, requester.number
        if ahead <= _ROUNDING:
            return 1, requester.deadline, requester.number
        return 2, requester.turn, requester.number

    def left_of_quantum(self, one: W) -> int:
        """Rows that one may take before it is another's turn."""
        return self._quantum - one.requester.taken

    def took(self, one: W, rows: int) -> None:
        """Note that one, still in the queue, took so many rows, at most what was left of its quantum."""
        requester = one.requester
        requesters = {id(other.requester) for other in self._waiting}
        self._now += rows / (self._quantum * len(requesters))
        requester.taken += rows
        self._served = requester
        if requester.taken >= self._quantum:
            self._served = None
            requester.taken = 0
            requester.turn += 1
