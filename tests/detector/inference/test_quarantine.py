"""Pictures that end the process: what the next run is told of them, and what it does."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detector.errors import DetectorError, ImageError, ParameterError
from detector.inference.quarantine import Quarantine
from detector.scheduling.device_errors import Cancelled, DeviceFault, OutOfMemory

NAMES = ["a.jpg", "poison.jpg", "b\n\udcff.jpg", "c.jpg"]

DYING_RUN = """
import os, signal, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from detector.inference.quarantine import Quarantine

path, names = Path(sys.argv[1]), sys.argv[2:]
beside = threading.Barrier(len(names))

def work(name):
    beside.wait()
    if "poison" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()

with Quarantine(path) as quarantine, ThreadPoolExecutor(len(names)) as pool:
    list(pool.map(lambda name: quarantine.look(name, lambda: work(name)), names))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.quarantine.json"


def die(path: Path, *names: str) -> None:
    """Let a process look at all of them at once, and be killed by one."""
    done = subprocess.run([sys.executable, "-c", DYING_RUN, str(path), *names], check=False)
    assert done.returncode == -9


def failing(error: Exception) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


def test_after_a_death_those_that_were_under_way_are_looked_at_alone(path: Path) -> None:
    die(path, *NAMES)
    company: dict[str, int] = {}
    under_way: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> str:
        with lock:
            under_way.append(name)
        time.sleep(0.01)
        with lock:
            company[name] = len(under_way)
            under_way.remove(name)
        return name.upper()

    others = [f"{number}.jpg" for number in range(8)]
    mixed = [name for pair in zip(NAMES, others[:4], strict=True) for name in pair] + others[4:]
    with Quarantine(path) as quarantine, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: quarantine.look(name, lambda: work(name)), mixed))
    assert found == [name.upper() for name in mixed]
    assert [company[name] for name in NAMES] == [1] * len(NAMES)
    assert max(company.values()) > 1, "others are looked at beside each other"
    assert not path.exists(), "none of them ended the process: there is nothing to tell"


def test_one_that_ends_the_process_alone_too_is_left_out(path: Path) -> None:
    die(path, *NAMES)
    die(path, "poison.jpg")
    for _ in range(2):  # and stays so
        with Quarantine(path) as quarantine:
            assert [quarantine.look(name, lambda: 1) for name in NAMES if name != "poison.jpg"] == [1] * 3
            with pytest.raises(ImageError, match=r"ended twice.*out\.quarantine\.json") as left_out:
                quarantine.look("poison.jpg", lambda: 1)
            assert left_out.value.code == "unreadable"
    path.unlink()
    with Quarantine(path) as quarantine:
        assert quarantine.look("poison.jpg", lambda: 1) == 1


def test_suspects_that_were_not_reached_stay_suspects(path: Path) -> None:
    die(path, *NAMES)
    with Quarantine(path) as quarantine:
        quarantine.look("c.jpg", lambda: 1)
    assert set(json.loads(path.read_text())["suspects"]) == {*NAMES} - {"c.jpg"}


@pytest.mark.parametrize(
    ("error", "suspects"),
    [
        pytest.param(ImageError("truncated", "cut off"), False, id="a picture that fails"),
        pytest.param(DetectorError("no"), False, id="of the library"),
        pytest.param(OSError("gone"), False, id="of the system"),
        pytest.param(Cancelled("closed"), False, id="the run is given up"),
        pytest.param(DeviceFault("the device is lost"), False, id="every picture would fail so"),
        pytest.param(ZeroDivisionError(), True, id="what nobody expects ends the run, like a crash"),
    ],
)
def test_errors_come_through_and_only_one_that_ends_the_run_is_suspect(
    path: Path, error: Exception, suspects: bool
) -> None:
    """They come through as they are; a picture that ends the run alone too is left out."""
    for _ in range(2):
        with Quarantine(path) as quarantine, pytest.raises(type(error)):
            quarantine.look("a.jpg", failing(error))
        assert path.exists() == suspects
    with Quarantine(path) as quarantine:
        if suspects:
            with pytest.raises(ImageError, match="ended twice"):
                quarantine.look("a.jpg", lambda: 1)
        else:
            assert quarantine.look("a.jpg", lambda: 1) == 1


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemory("not even one row")])
def test_where_memory_is_too_small_a_picture_is_tried_again_alone(path: Path, error: Exception) -> None:
    tries = []

    def fits_alone() -> int:
        tries.append(json.loads(path.read_text()))
        if len(tries) == 1:
            raise error
        return 1

    with Quarantine(path) as quarantine:
        assert quarantine.look("a.jpg", fits_alone) == 1
        assert tries == [
            {"suspects": ["a.jpg"], "left_out": []},
            {"suspects": [], "left_out": ["a.jpg"]},  # what is true if the process dies now
        ]
        with pytest.raises(ImageError, match="more memory than there is") as failed:
            quarantine.look("b.jpg", failing(error))
        assert failed.value.code == "too_many_pixels"
        assert quarantine.look("c.jpg", lambda: 1) == 1
    assert not path.exists()


def test_what_is_under_way_when_a_run_ends_by_itself_is_not_suspected(path: Path) -> None:
    """As after Ctrl-C, whose threads end a little later."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return ended.wait(60)

    with ThreadPoolExecutor(1) as pool:
        with Quarantine(path) as quarantine:
            late = pool.submit(quarantine.look, "a.jpg", work)
            begun.wait(60)
            assert json.loads(path.read_text())["suspects"] == ["a.jpg"]
        ended.set()
        assert late.result()
    assert not path.exists()


def test_a_run_that_does_not_go_on_forgets(path: Path) -> None:
    die(path, *NAMES)
    die(path, "poison.jpg")
    with Quarantine(path, resume=False) as quarantine:
        assert quarantine.look("poison.jpg", lambda: 1) == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "text", ["my notes\n", "[1]\n", '{"images": []}\n', '{"suspects": 1, "left_out": 2}\n']
)
def test_a_file_of_something_else_is_not_touched(path: Path, text: str) -> None:
    path.write_text(text)
    for resume in (True, False):
        with pytest.raises(ParameterError, match="no note of pictures under way"):
            Quarantine(path, resume=resume)
    assert path.read_text() == text


@pytest.mark.parametrize("left", [b"", b'{"suspects": [], "left_out": ["x"]}\ns": []}\n'])
def test_what_a_kill_left_of_a_file_is_read(path: Path, left: bytes) -> None:
    path.write_bytes(left)
    with Quarantine(path) as quarantine:
        assert quarantine.look("a.jpg", lambda: 1) == 1
    assert path.exists() == (b"x" in left)


def test_where_nothing_can_be_noted_pictures_are_looked_at_all_the_same(tmp_path: Path) -> None:
    for path in (None, tmp_path / "missing" / "a.json", tmp_path / f"{'a' * 300}.json"):
        with Quarantine(path) as quarantine:
            assert quarantine.look("a.jpg", lambda: 1) == 1
