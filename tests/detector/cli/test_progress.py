"""How far a run is, in a log: rate and time left of what this run does, not of what was done before."""

import pytest

from detector.cli import progress
from detector.cli.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test moves on."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, 40, "pictures") as shown:
        for seconds in (10, 10, 15):
            clock[0] += seconds
            shown.add(7)
        assert capsys.readouterr().err.split() == ["61%", "61/100", "[00:35<01:05,", "1.67s/", "pictures]"]
        clock[0] += 1
        shown.add(39)
        assert capsys.readouterr().err == ""
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("100% 100/100 [00:36<00:00")


def test_where_nothing_was_to_do_nothing_is_told(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(100, 100, "pictures"):
        pass
    assert capsys.readouterr().err == ""
