"""Who is let in: the books, without a service around them."""

import pytest

from api.frontend import admission
from api.frontend.admission import Admission, Ticket
from api.frontend.service import _regions
from api.observability.metrics import Metrics
from api.protocol.errors import ApiError
from api.protocol.messages import ClassifyTask, DetectTask, Task
from api.protocol.model_info import ModelInfo, ProfileOffered
from detector.options import CROP_COST, Profile


class Clock:
    """Stands for ``time.monotonic`` in the module under test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(admission, "monotonic", clock)
    return clock


def books(*, requests: int = 10, size: int = 1000) -> Admission:
    """A hundred regions a second."""
    return Admission(max_requests=requests, max_bytes=size, rate=lambda: 100.0, metrics=Metrics())


def waiting(books: Admission, regions: int, client: str = "a", size: int = 10) -> Ticket:
    """A request whose picture is here."""
    ticket = books.admit(client, 1, size, 10_000)
    ticket.receive(size)
    ticket.start(regions)
    return ticket


def refused(action: object) -> str:
    with pytest.raises(ApiError) as refusal:
        action()  # type: ignore[operator]
    assert (refusal.value.status, refusal.value.code) == (429, "overloaded")
    assert refusal.value.headers is not None
    return refusal.value.headers["Retry-After"]


@pytest.mark.parametrize(
    ("before", "regions", "size", "seconds", "retry_after"),
    [
        pytest.param([], 10**6, 10, 1, None, id="alone: later would be no better"),
        pytest.param([("a", 100)], 100, 10, 30, None, id="there is time"),
        pytest.param([("a", 100)], 100, 10, 1, "2", id="two seconds of work for one that has one"),
        pytest.param([("a", 256)] * 8, 100, 10, 20, "5", id="so much that it has to wait"),
        pytest.param([("a", 12_800)], 60, 10, 5, None, id="beside a huge request of its own client"),
        pytest.param([("b", 12_800)], 60, 10, 5, None, id="beside a huge request of another"),
        pytest.param([("b", 200)] * 8, 60, 10, 5, None, id="beside another client's many"),
        pytest.param([("a", 200)] * 8, 60, 10, 5, "13", id="but not beside many of its own"),
        pytest.param([("b", 300)], 12_800, 10, 30, "106", id="a huge one that has no time for itself"),
        pytest.param(
            [("a", 1)] * 9, 1, 10, 30, "1", id="too many requests: the last place is for another client"
        ),
        pytest.param([("a", 1)], 1, 2000, 30, "1", id="no room for its bytes"),
        pytest.param([], 1, 2000, 30, None, id="alone there is always room for its bytes"),
    ],
)
def test_who_is_let_in(
    clock: Clock,
    before: list[tuple[str, int]],
    regions: int,
    size: int,
    seconds: float,
    retry_after: str | None,
) -> None:
    """The same at the head and, by the work, once the pictures are here."""
    admission = books()
    for client, work in before:
        waiting(admission, work, client)
    if retry_after is None:
        ticket = admission.admit("a", regions, size, seconds)
        assert ticket.deadline == clock.now + seconds
        ticket.start(regions)
    else:
        assert refused(lambda: admission.admit("a", regions, size, seconds)) == retry_after


def test_what_no_longer_fits_its_time_is_refused_once_its_body_is_here(clock: Clock) -> None:
    admission = books()
    slow = admission.admit("a", 100, 10, 10)
    waiting(admission, 200)
    clock.now += 8
    refused(lambda: slow.start(100))


@pytest.mark.parametrize("heads", [3, 10, 300])
@pytest.mark.parametrize("client", ["a", "b"], ids=["its own client", "another"])
def test_heads_and_slow_bodies_hold_nothing(clock: Clock, heads: int, client: str) -> None:
    """Neither when they have just come nor later, whatever they ask for and however long they may take."""
    admission = books(requests=1000)
    for _ in range(heads):
        admission.admit(client, 800, 1000, 300)
    for pause in (0.0, 2.0, 60.0):
        clock.now += pause
        with admission.admit("a", 60, 100, 30) as ticket:
            ticket.receive(100)
            ticket.start(60)


def test_of_too_many_slow_bodies_the_oldest_of_who_has_most_gives_way(clock: Clock) -> None:
    admission = books(requests=10)
    tickets = [admission.admit(client, 1, 10, 300) for client in "baaaaaaaab"]
    refused(lambda: admission.admit("c", 1, 10, 30))
    clock.now += 6
    admission.admit("c", 1, 10, 30)
    assert [one.gave_way for one in tickets] == [False, True] + [False] * 8


def test_everything_but_the_last_byte_gives_way_to_others(clock: Clock) -> None:
    admission = books()
    slow = admission.admit("a", 1, 1000, 300)
    slow.receive(990)
    told: list[str] = []
    slow.on_give_way = lambda: told.append("gave way")
    other = admission.admit("b", 1, 5, 300)
    refused(lambda: other.receive(500))
    clock.now += 6
    admission.admit("b", 1, 500, 300).receive(500)
    assert (told, slow.gave_way, slow.held) == (["gave way"], True, 0)


def test_a_large_body_that_comes_steadily_does_not_give_way(clock: Clock) -> None:
    admission = books(size=10_000_000)
    large = admission.admit("a", 1, 9_000_000, 300)
    for _ in range(90):
        clock.now += 1
        large.receive(100_000)
    other = admission.admit("b", 1, 10, 300)
    refused(lambda: other.receive(2_000_000))
    assert not large.gave_way


def test_one_client_leaves_room_for_another(clock: Clock) -> None:
    """Of the number of requests, and of the memory."""
    admission = books(requests=90, size=9000)
    for _ in range(200):
        try:
            waiting(admission, 1, "a", size=100)
        except ApiError:
            break
    assert len(admission._working) >= 75
    waiting(admission, 1, "b", size=100)


def test_many_at_once_are_not_all_let_in_at_their_heads(clock: Clock) -> None:
    """While much waits, those whose bodies are about to be here count as well."""
    admission = books(requests=100)
    for _ in range(8):
        waiting(admission, 100)
    let_in = 0
    for _ in range(64):
        try:
            admission.admit("a", 100, 1, 15)
            let_in += 1
        except ApiError:
            pass
    assert 1 <= let_in <= 5


def test_what_is_over_makes_room(clock: Clock) -> None:
    admission = books(requests=1)
    for _ in range(3):
        with admission.admit("a", 100, 1000, 30) as ticket:
            ticket.receive(1000)
            ticket.start(100)
            refused(lambda: admission.admit("a", 1, 1, 30))


def test_pictures_that_are_done_make_room(clock: Clock) -> None:
    admission = books()
    ticket = waiting(admission, 1000, size=900)
    refused(lambda: admission.admit("a", 900, 500, 5))
    for _ in range(9):
        ticket.done(100, 100)
    admission.admit("a", 300, 500, 5)


def detecting(profile: Profile | None, tile: int | None = None, explain: int = 0) -> DetectTask:
    return DetectTask(0.3, 100, profile, None, "json", None, tile, explain)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        pytest.param(detecting(Profile.FAST), 80, id="what its profile costs"),
        pytest.param(detecting(None), 150, id="what the usual profile does"),
        pytest.param(detecting(Profile.PAPER), 7200, id="warped regions by what they take, not their number"),
        pytest.param(detecting(Profile.FAST, 640), 800, id="in tiles: some more looks"),
        pytest.param(detecting(Profile.FAST, explain=20), 80 + 20 * 9, id="each that is explained once more"),
        pytest.param(detecting(Profile.SEARCH), 1, id="a profile that the worker will refuse"),
        pytest.param(ClassifyTask(5, 10), 10 * CROP_COST, id="crops of a whole picture"),
    ],
)
def test_what_a_task_is_taken_to_cost(task: Task, expected: int) -> None:
    costs = {Profile.FAST: 80, Profile.BALANCED: 150, Profile.PAPER: 7200}
    model = ModelInfo(
        name="default",
        tasks=["detect", "classify"],
        members=[],
        engine="openvino",
        precision="float32",
        profiles=[
            ProfileOffered(name=name, max_regions=60, cost=cost, region_cost=9)
            for name, cost in costs.items()
        ],
        default_profile=Profile.BALANCED,
        scoring={},
        loaded_at="",
        detection_classes=[],
        classification_classes=[],
    )
    assert _regions(task, model) == expected
