"""How many threads work may take: as the environment says, as torch says, one where a thread runs alone."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import torch

from detector.threads import available_threads, default_threads, run_alone


def in_a_thread(function: Callable[[], object]) -> object:
    """Return what a function gives in a thread of its own, which ends with it."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join(60)
    [result] = results
    return result


@pytest.fixture
def torchs_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


PROCESSORS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "count"),
    [
        pytest.param(None, PROCESSORS, id="nothing: those that this process may run on"),
        pytest.param("3", 3, id="so many"),
        pytest.param("5,2,1", 5, id="a list, for loops within loops: the outermost"),
        pytest.param("", PROCESSORS, id="empty"),
        pytest.param("0", PROCESSORS, id="none, which cannot be"),
        pytest.param("-2", PROCESSORS, id="less than none"),
        pytest.param("many", PROCESSORS, id="no number"),
        pytest.param("2.5", PROCESSORS, id="no whole number"),
    ],
)
def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, given: str | None, count: int) -> None:
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert default_threads() == count


def test_only_the_processors_that_it_may_run_on_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that is given some of a machine's."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 7})
    assert default_threads() == 3


@pytest.mark.parametrize("count", [1, 3])
def test_with_torch_it_is_torchs_number(torchs_threads: Callable[[int], None], count: int) -> None:
    torchs_threads(count)
    assert available_threads() == count


def test_without_torch_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert available_threads() == 7


def test_a_thread_that_runs_alone_has_itself(torchs_threads: Callable[[int], None]) -> None:
    """The thread that started it keeps its own; threads to come have torch's number of the process."""
    torchs_threads(3)
    assert available_threads() == 3

    def alone() -> tuple[int, int]:
        run_alone()
        return available_threads(), torch.get_num_threads()

    assert in_a_thread(alone) == (1, 1)
    assert (available_threads(), torch.get_num_threads()) == (3, 3)


def test_without_torch_a_thread_runs_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")

    def alone() -> int:
        run_alone()
        return available_threads()

    assert in_a_thread(alone) == 1
    assert in_a_thread(available_threads) == 7


def test_a_torch_that_is_half_imported_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be at it."""
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert available_threads() == 2

    def alone() -> int:
        run_alone()
        return available_threads()

    assert in_a_thread(alone) == 1


def test_asking_loads_no_torch() -> None:
    script = """
import sys
from detector.threads import available_threads, run_alone
assert available_threads() > 0
run_alone()
assert available_threads() == 1
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
