"""Who is next, in a queue without a device: turns are counted, no time passes."""

from dataclasses import dataclass

import pytest

from detector.scheduling.fair_queue import FairQueue, RequestHandle

QUANTUM = 10


@dataclass(eq=False)
class Wanting:
    """A handle's wish for so many rows, each as long as ``cost`` of others."""

    name: str
    handle: RequestHandle
    rows: int
    cost: int = 1


def wanting(
    name: str,
    rows: int,
    deadline: float = 100.0,
    *,
    client: str = "",
    request: object = None,
    cost: int = 1,
) -> Wanting:
    return Wanting(name, RequestHandle(deadline, client=client, request=request or object()), rows, cost)


def serve(queue: FairQueue[Wanting], batch: int = 4) -> str | None:
    """Give the next one at most a batch of rows; its name."""
    one = queue.next(lambda _: True)
    if one is None:
        return None
    rows = min(batch, one.rows, max(queue.left_of_quantum(one) // one.cost, 1))
    queue.took(one, rows * one.cost)
    one.rows -= rows
    if not one.rows:
        queue.remove(one)
    return one.name


def order(queue: FairQueue[Wanting]) -> list[str]:
    """Who is served until nobody waits; the same one several times in a row counts once."""
    served: list[str] = []
    while (name := serve(queue)) is not None:
        if served[-1:] != [name]:
            served.append(name)
    return served


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        pytest.param([("a", 8, 9), ("b", 8, 9), ("c", 8, 9)], "abc", id="alike: as they came, each whole"),
        pytest.param([("a", 8, 9), ("b", 8, 5), ("c", 8, 7)], "bca", id="the earliest deadline first"),
        pytest.param([("a", 24, 5), ("b", 8, 9)], "aba", id="a huge one yields after its quantum"),
        pytest.param(
            [("a", 30, 5), ("b", 30, 9)], "ababab", id="two huge ones take turns, quantum by quantum"
        ),
        pytest.param([("a", 30, 9)], "a", id="one alone is not held up"),
        pytest.param([], "", id="nobody"),
    ],
)
def test_whose_turn_it_is(wishes: list[tuple[str, int, float]], expected: str) -> None:
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    for name, rows, deadline in wishes:
        queue.add(wanting(name, rows, deadline))
    assert "".join(order(queue)) == expected


def test_a_small_one_that_comes_later_waits_for_a_quantum_at_most() -> None:
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    huge, small = wanting("huge", 1000, deadline=1), wanting("small", 8, deadline=50)
    queue.add(huge)
    for _ in range(20):
        serve(queue)
    before = huge.rows
    queue.add(small)
    while small.rows:
        serve(queue)
    assert before - huge.rows <= QUANTUM


@pytest.mark.parametrize("waiting", [1, 3])
def test_a_stream_of_small_ones_does_not_starve_a_huge_one(waiting: int) -> None:
    """So many small ones always wait, each with an earlier deadline than the huge one's; its share of the
    device is that of any other."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    huge = wanting("huge", 100, deadline=10**6)
    queue.add(huge)
    small = [wanting("small", 10, deadline=i) for i in range(waiting)]
    for one in small:
        queue.add(one)
    served = 0
    for number in range(1000):
        if not huge.rows:
            break
        if serve(queue, batch=10) == "small":
            served += 1
            queue.add(wanting("small", 10, deadline=number))
    assert not huge.rows
    assert served <= (waiting + 1) * 10


@pytest.mark.parametrize(
    "cost",
    [
        pytest.param(3, id="a few to a quantum, which they do not fill"),
        pytest.param(QUANTUM, id="a quantum a row"),
        pytest.param(3 * QUANTUM + 1, id="more than three quanta a row"),
    ],
)
@pytest.mark.parametrize("of", ["clients", "requests"])
def test_turns_are_counted_in_work_not_in_rows(cost: int, of: str) -> None:
    """Whoever's rows take longer has fewer of them: one's work is never ahead by more than a row and a
    quantum."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    clients = ("dear", "cheap") if of == "clients" else ("", "")
    dear = wanting("dear", 10**6, deadline=1, client=clients[0], cost=cost)
    cheap = wanting("cheap", 10**6, deadline=50, client=clients[1])
    queue.add(dear)
    queue.add(cheap)
    for _ in range(300):
        serve(queue)
        ahead = cost * (10**6 - dear.rows) - (10**6 - cheap.rows)
        assert -QUANTUM <= ahead <= QUANTUM + cost
    assert dear.rows < 10**6 - 5


def test_whoever_paused_saved_no_turns() -> None:
    """A handle that comes back has no claim to what was served meanwhile."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    paused = wanting("paused", 4, deadline=1)
    queue.add(paused)
    serve(queue)
    for _ in range(10):
        queue.add(wanting("other", 10))
        order(queue)
    again = Wanting("paused", paused.handle, 40)
    queue.add(again)
    queue.add(wanting("other", 20, deadline=2))
    assert "".join(name[0] for name in order(queue)) == "popop"


def test_only_what_is_wanted_is_next() -> None:
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    queue.add(wanting("a", 5, deadline=1))
    queue.add(wanting("b", 5, deadline=2))
    found = queue.next(lambda one: one.name == "b")
    assert found is not None
    assert found.name == "b"
    assert queue.next(lambda one: one.name == "c") is None


@pytest.mark.parametrize(
    ("many", "expected"),
    [
        pytest.param(1, 10, id="one request against one"),
        pytest.param(16, 10, id="sixteen requests of one client against one of another"),
    ],
)
def test_clients_have_equal_shares_however_many_requests_they_send(many: int, expected: int) -> None:
    """Rows of the client with ``many`` requests that go before the other client's are all served."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    busy = [wanting("busy", 100, deadline=1, client="busy") for _ in range(many)]
    other = wanting("other", 10, deadline=50, client="other")
    for one in (*busy, other):
        queue.add(one)
    while other.rows:
        serve(queue)
    assert 100 * many - sum(one.rows for one in busy) <= expected


def test_pictures_of_one_request_share_its_turns() -> None:
    """Sixteen pictures in one request against one in another, of one client."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    images = [wanting("many", 10, deadline=1, request="many") for _ in range(16)]
    single = wanting("single", 10, deadline=50, request="single")
    for one in (*images, single):
        queue.add(one)
    while single.rows:
        serve(queue)
    assert 160 - sum(one.rows for one in images) <= QUANTUM


def test_a_client_that_asks_again_and_again_has_no_more_than_its_share() -> None:
    """One small request after the other, none waiting beside another, each with the earliest deadline."""
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    patient = wanting("patient", 100, deadline=10**6, client="patient")
    queue.add(patient)
    hasty = 0
    while patient.rows:
        one = wanting("hasty", 4, deadline=hasty, client="hasty")
        queue.add(one)
        while one.rows and patient.rows:
            serve(queue)
        hasty += 4
    assert hasty <= 100 + QUANTUM


def test_nothing_is_kept_of_clients_that_are_gone() -> None:
    queue: FairQueue[Wanting] = FairQueue(QUANTUM)
    queue.add(wanting("stays", 10**6, client="stays"))
    for number in range(200):
        queue.add(wanting("passes", 2 * QUANTUM, client=f"client {number}"))
        for _ in range(30):
            serve(queue)
    assert len(queue) == 1
    assert len(queue._clients) <= 2
    assert len(queue._requests) == 1
