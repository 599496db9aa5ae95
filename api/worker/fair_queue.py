"""Whose turn it is: fair between clients, then between the requests of a client, deadline first.

Every client has a right to an equal share of the device, and each of its requests to an equal part of that
share. Whoever took a quantum of rows waits until the others had theirs; among those whose turn it is, the
earliest deadline goes first, and one that was passed over for a whole quantum before all of them. Ordinary
requests fit one quantum, so that they run whole, one after the other, while a huge one, or a client with
many, neither holds the others up for longer than its quantum nor is starved by them. (Virtual time
as in Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995, on two levels.)
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

_numbers = count()

_ROUNDING = 1e-9  # virtual time is a sum of fractions


@dataclass(eq=False)
class Requester:
    """Who asks. All of a ``client`` share its turns, and all of one ``request`` those of the request.

    ``deadline`` is a time of ``time.monotonic``. ``on_first_row`` is called once, by the device's thread,
    when the first rows that are not urgent go to the device. Left out, ``request`` is one of its own.
    """

    deadline: float
    on_first_row: Callable[[], None] | None = None
    client: Hashable = None
    request: Hashable = field(default_factory=object)
    cancelled: bool = False
    number: int = field(default_factory=_numbers.__next__)

    @property
    def sharers(self) -> tuple[Hashable, Hashable]:
        """Whose shares its rows count for, the client first. Two clients may number their requests alike."""
        return self.client, (self.client, self.request)


class Waiting(Protocol):
    """What stands in the queue."""

    @property
    def requester(self) -> Requester:
        """Whose it is."""


W = TypeVar("W", bound=Waiting)


@dataclass
class _Share:
    """What one sharer had: ``turn``, the virtual time from which it may have its next quantum, and the rows
    ``taken`` of the present one."""

    turn: float
    taken: int = 0


class _Turns:
    """Virtual time among those that share something."""

    def __init__(self, quantum: int) -> None:
        self._quantum = quantum
        self._now = 0.0  # how many quanta one that always waited would have had
        self._shares: dict[Hashable, _Share] = {}
        self._waiting: Counter[Hashable] = Counter()  # pieces of each sharer
        self._served: Hashable = None
        self._in_quantum = False  # whether the one that was served last has some of its quantum left

    def __len__(self) -> int:
        return len(self._shares)

    def add(self, sharer: Hashable) -> None:
        """A piece of a sharer's waits. Whoever comes for the first time, or again after a pause, has its
        turn, unless it is still ahead of the others."""
        self._waiting[sharer] += 1
        share = self._shares.setdefault(sharer, _Share(self._now))
        share.turn = max(share.turn, self._now)

    def remove(self, sharer: Hashable) -> None:
        """A piece waits no longer. What a sharer took beyond its turn is remembered until the others had as
        much."""
        self._waiting[sharer] -= 1
        if not self._waiting[sharer]:
            del self._waiting[sharer]
        if not self._waiting:
            self._shares.clear()
        for gone in [one for one, share in self._shares.items() if not self._owes(one, share)]:
            del self._shares[gone]

    def _owes(self, sharer: Hashable, share: _Share) -> bool:
        in_quantum = self._in_quantum and sharer == self._served
        return sharer in self._waiting or in_quantum or share.turn > self._now + _ROUNDING

    def first(self, candidates: Iterable[tuple[Hashable, float]]) -> Hashable:
        """Of sharers, each with a deadline, the one whose turn it is: whoever is in the middle of its quantum
        goes on to the end of it. Of equals the first."""
        deadlines: dict[Hashable, float] = {}
        for sharer, deadline in candidates:
            deadlines[sharer] = min(deadline, deadlines.get(sharer, deadline))
        if self._in_quantum and self._served in deadlines:
            return self._served
        return min(deadlines, key=lambda sharer: self._rank(sharer, deadlines[sharer]))

    def _rank(self, sharer: Hashable, deadline: float) -> tuple[int, float]:
        turn = self._shares[sharer].turn
        ahead = turn - self._now
        if ahead <= -1:  # passed over
            return 0, turn
        if ahead <= _ROUNDING:
            return 1, deadline
        return 2, turn

    def left(self, sharer: Hashable) -> int:
        """Rows that it may take before it is another's turn."""
        return self._quantum - self._shares[sharer].taken

    def took(self, sharer: Hashable, rows: int) -> None:
        """Note that one that waits took so many rows, at most what was left of its quantum."""
        share = self._shares[sharer]
        self._now += rows / (self._quantum * len(self._waiting))
        share.taken += rows
        self._served, self._in_quantum = sharer, share.taken < self._quantum
        if not self._in_quantum:
            share.taken = 0
            share.turn += 1


class FairQueue(Generic[W]):
    """What waits for the device. One thread at a time may use it."""

    def __init__(self, quantum: int) -> None:
        """``quantum``: rows that a client, or a request, may take before the others have their turn."""
        self._quantum = quantum
        self._clients = _Turns(quantum)
        self._requests: dict[Hashable, _Turns] = {}  # by client
        self._waiting: list[W] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        return iter(list(self._waiting))

    def add(self, one: W) -> None:
        """Let one wait."""
        client, request = one.requester.sharers
        self._clients.add(client)
        self._requests.setdefault(client, _Turns(self._quantum)).add(request)
        self._waiting.append(one)

    def remove(self, one: W) -> None:
        """Let one wait no longer."""
        client, request = one.requester.sharers
        self._waiting.remove(one)
        self._clients.remove(client)
        self._requests[client].remove(request)
        if not len(self._requests[client]):
            del self._requests[client]

    def next(self, wanted: Callable[[W], bool]) -> W | None:
        """Of those that are ``wanted``, the one whose turn it is; it stays in the queue."""
        candidates = [one for one in self._waiting if wanted(one)]
        if not candidates:
            return None
        client = self._clients.first((one.requester.client, one.requester.deadline) for one in candidates)
        candidates = [one for one in candidates if one.requester.client == client]
        requests = self._requests[client]
        request = requests.first((one.requester.sharers[1], one.requester.deadline) for one in candidates)
        return min(
            (one for one in candidates if one.requester.sharers[1] == request),
            key=lambda one: (one.requester.deadline, one.requester.number),
        )

    def left_of_quantum(self, one: W) -> int:
        """Rows that one may take before it is another's turn."""
        client, request = one.requester.sharers
        return min(self._clients.left(client), self._requests[client].left(request))

    def took(self, one: W, rows: int) -> None:
        """Note that one, still in the queue, took so many rows, at most what was left of its quantum."""
        client, request = one.requester.sharers
        self._clients.took(client, rows)
        self._requests[client].took(request, rows)
