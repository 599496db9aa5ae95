"""A queue that is fair between clients, then between the requests of a client, earliest deadline first.

Every client has a right to an equal share of the device, and each of its requests to an equal part of that
share. Whoever took a quantum of work (in regions, or what takes as long) waits until the others had theirs;
among those whose turn it is, the earliest deadline goes first, and one that was passed over for a whole
quantum before all of them. Ordinary requests fit one quantum, so that they run whole, one after the other,
while a huge one, or a client with many, neither holds the others up for longer than its quantum nor is
starved by them (virtual time as in Stoica and Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995,
on two levels).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

_numbers = count()

_ROUNDING = 1e-9  # virtual time is a sum of fractions


@dataclass(eq=False)
class RequestHandle:
    """What a task's work is queued, cancelled and counted by.

    All of a ``client`` share its turns, and all of one ``request`` those of the request; left out,
    ``request`` is one of its own. ``deadline`` is a time of ``time.monotonic``. ``on_first_row`` is called
    once, by the device's thread, when the first rows that are not urgent go to the device.
    """

    deadline: float
    on_first_row: Callable[[], None] | None = None
    client: Hashable = None
    request: Hashable = field(default_factory=object)
    cancelled: bool = False
    number: int = field(default_factory=_numbers.__next__)

    @property
    def sharers(self) -> tuple[Hashable, Hashable]:
        """The keys of the shares that its rows count for: the client, and the request of that client.

        Two clients may number their requests alike.
        """
        return self.client, (self.client, self.request)


class Waiting(Protocol):
    """What stands in the queue."""

    @property
    def handle(self) -> RequestHandle:
        """The request that it is a part of."""


W = TypeVar("W", bound=Waiting)


@dataclass
class _Share:
    """What one sharer had.

    ``turn`` is the virtual time from which it may have its next quantum, ``taken`` what it has had of the
    present one.
    """

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
        """Note that a piece of a sharer's waits.

        A sharer that comes for the first time, or again after a pause, has its turn, unless it is still ahead
        of the others.
        """
        self._waiting[sharer] += 1
        share = self._shares.setdefault(sharer, _Share(self._now))
        share.turn = max(share.turn, self._now)

    def remove(self, sharer: Hashable) -> None:
        """Note that a piece waits no longer.

        What a sharer took beyond its turn is remembered until the others had as much.
        """
        self._waiting[sharer] -= 1
        if not self._waiting[sharer]:
            del self._waiting[sharer]
        if not self._waiting:
            self._shares.clear()
        for gone in [key for key, share in self._shares.items() if not self._owes(key, share)]:
            del self._shares[gone]

    def _owes(self, sharer: Hashable, share: _Share) -> bool:
        in_quantum = self._in_quantum and sharer == self._served
        return sharer in self._waiting or in_quantum or share.turn > self._now + _ROUNDING

    def first(self, candidates: Iterable[tuple[Hashable, float]]) -> Hashable:
        """Return, of sharers with a deadline each, the one whose turn it is: whoever is in the middle of its
        quantum goes on to the end of it. Of equals the first."""
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
        """Return how much a sharer may take before it is another's turn."""
        return self._quantum - self._shares[sharer].taken

    def took(self, sharer: Hashable, work: int) -> None:
        """Note that a sharer that waits took work: at most what was left of its quantum, or a row that costs
        more."""
        share = self._shares[sharer]
        self._now += work / (self._quantum * len(self._waiting))
        share.taken += work
        self._served, self._in_quantum = sharer, share.taken < self._quantum
        if not self._in_quantum:
            share.turn += share.taken / self._quantum
            share.taken = 0


class FairQueue(Generic[W]):
    """Items that wait for the device. One thread at a time may use it."""

    def __init__(self, quantum: int) -> None:
        """``quantum``: how much a client, or a request, may take before the others have their turn."""
        self._quantum = quantum
        self._clients = _Turns(quantum)
        self._requests: dict[Hashable, _Turns] = {}  # by client
        self._waiting: list[W] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[W]:
        return iter(list(self._waiting))

    def add(self, item: W) -> None:
        """Let an item wait."""
        client, request = item.handle.sharers
        self._clients.add(client)
        self._requests.setdefault(client, _Turns(self._quantum)).add(request)
        self._waiting.append(item)

    def remove(self, item: W) -> None:
        """Let an item wait no longer."""
        client, request = item.handle.sharers
        self._waiting.remove(item)
        self._clients.remove(client)
        self._requests[client].remove(request)
        if not len(self._requests[client]):
            del self._requests[client]

    def next(self, wanted: Callable[[W], bool]) -> W | None:
        """Return, of the items that are ``wanted``, the one whose turn it is; it stays in the queue."""
        candidates = [item for item in self._waiting if wanted(item)]
        if not candidates:
            return None
        client = self._clients.first((item.handle.client, item.handle.deadline) for item in candidates)
        candidates = [item for item in candidates if item.handle.client == client]
        requests = self._requests[client]
        request = requests.first((item.handle.sharers[1], item.handle.deadline) for item in candidates)
        return min(
            (item for item in candidates if item.handle.sharers[1] == request),
            key=lambda item: (item.handle.deadline, item.handle.number),
        )

    def left_of_quantum(self, item: W) -> int:
        """Return how much of an item may be taken before it is another's turn."""
        client, request = item.handle.sharers
        return min(self._clients.left(client), self._requests[client].left(request))

    def took(self, item: W, work: int) -> None:
        """Note that so much of an item, still in the queue, was taken: at most what was left of its quantum,
        or a row that costs more."""
        client, request = item.handle.sharers
        self._clients.took(client, work)
        self._requests[client].took(request, work)
