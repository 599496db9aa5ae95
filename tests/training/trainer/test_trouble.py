"""What a run makes of damaged files, of a second run beside it, and of a disk without room."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from detector.errors import CheckpointError, DetectorError, ParameterError
from training.rcnn.map_store import MapStore
from training.trainer.run_folder import run_folder
from training.trainer.run_log import Lines, lines_before, log_lines
from training.trainer.script import DiskSpaceError, allocate, naming, one_line_errors
from training.trainer.state import load_state, read_sealed, save_state, write_sealed

Damage = Callable[[bytes], bytes]


def flipped(at: float) -> Damage:
    """One bit is another, at a share of the file."""

    def change(data: bytes) -> bytes:
        place = min(int(len(data) * at), len(data) - 1)
        return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]

    return change


DAMAGE = [
    pytest.param(lambda data: data[: len(data) // 2], id="cut in half"),
    pytest.param(lambda data: data[:-1], id="the last byte lost"),
    pytest.param(lambda data: b"", id="empty"),
    pytest.param(lambda data: bytes(len(data)), id="zeros, after a power cut"),
    pytest.param(flipped(0.0), id="a bit at the front"),
    pytest.param(flipped(0.5), id="a bit in the middle"),
    pytest.param(flipped(1.0), id="a bit at the end"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_refused(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, 7, "run", {"weights": {"a": torch.arange(50.0)}, "average": {"a": torch.ones(50)}})
    iteration, parts = load_state(path, "run")
    assert iteration == 7
    assert torch.equal(parts["weights"]["a"], torch.arange(50.0))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        load_state(path, "run")


def test_a_state_says_nothing_else_than_was_written(tmp_path: Path) -> None:
    """The iteration is covered as the tensors are."""
    path = tmp_path / "state.safetensors"
    save_state(path, 7, "run", {"weights": {"a": torch.ones(3)}})
    path.write_bytes(path.read_bytes().replace(b'\\"iteration\\": 7', b'\\"iteration\\": 9'))
    with pytest.raises(CheckpointError, match="damaged"):
        load_state(path, "run")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_sealed_file_holds_nothing(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "file"
    write_sealed(path, b"content " * 20)
    assert read_sealed(path) == b"content " * 20
    path.write_bytes(damage(path.read_bytes()))
    assert read_sealed(path) is None


STARTS = np.array([0, 2, 2, 5, 6])  # the second picture has no regions


def filled(folder: Path) -> MapStore:
    store = MapStore(folder, STARTS, (3, 2, 2), 4)
    with store.filling():
        for index in (0, 2, 3):
            count = int(STARTS[index + 1] - STARTS[index])
            store.put(index, torch.full((count, 3, 2, 2), index + 1.0), torch.full((count, 4), index + 0.5))
    return store


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["maps.bf16", "teacher.f16", "checksums"])
def test_damaged_maps_are_told(tmp_path: Path, name: str, damage: Damage) -> None:
    """A file of another size is made again as a whole, else what the damage touches."""
    filled(tmp_path)
    assert MapStore(tmp_path, STARTS, (3, 2, 2), 4).whole().all()
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    store = MapStore(tmp_path, STARTS, (3, 2, 2), 4)
    whole = store.whole()
    assert not whole.all()
    assert whole[1], "no regions, nothing to damage"
    with store.filling():
        store.whole()
        for index in np.flatnonzero(~whole):
            count = int(STARTS[index + 1] - STARTS[index])
            store.put(
                int(index), torch.full((count, 3, 2, 2), index + 1.0), torch.full((count, 4), index + 0.5)
            )
    assert MapStore(tmp_path, STARTS, (3, 2, 2), 4).whole().all()
    maps, words = store.rows()
    assert maps[:, 0, 0, 0].tolist() == [1, 1, 3, 3, 3, 4]
    assert words[:, 0].tolist() == [0.5, 0.5, 2.5, 2.5, 2.5, 3.5]


def test_maps_that_a_kill_left_half_done(tmp_path: Path) -> None:
    """Only what was noted counts: rows without their checksum are made again."""
    store = MapStore(tmp_path, STARTS, (3, 2, 2), 4)
    with store.filling():
        store.put(0, torch.ones(2, 3, 2, 2), torch.ones(2, 4))
        store.note()
        noted = (tmp_path / "checksums").read_bytes()
        store.put(2, torch.ones(3, 3, 2, 2), torch.ones(3, 4))
    (tmp_path / "checksums").write_bytes(noted)
    assert MapStore(tmp_path, STARTS, (3, 2, 2), 4).whole().tolist() == [True, True, False, False]


LOGS = [
    pytest.param(b'{"iteration": 0}\n{"iteration": 1}\n', [0, 1], id="whole"),
    pytest.param(b'{"iteration": 0}\n{"iterat', [0], id="half a line at the end"),
    pytest.param(b'{"iteration": 0}\n{"iterat\n', [0], id="half a line with its end"),
    pytest.param(
        b'{"iterat{"iteration": 0}\n{"iteration": 1}\n', [1], id="half a line, and gone on behind it"
    ),
    pytest.param(b'{"iteration": 0}\n' + bytes(40), [0], id="zeros after a power cut"),
    pytest.param(b'\xff\xfe{}\n{"iteration": 1}\n', [1], id="no text"),
    pytest.param(b'7\n[]\n{"loss": 1}\n{"iteration": "2"}\n{"iteration": 1}\n', [1], id="other JSON"),
    pytest.param(b"", [], id="empty"),
    pytest.param(None, [], id="no log"),
]


@pytest.mark.parametrize(("content", "iterations"), LOGS)
def test_what_a_kill_left_of_a_log(tmp_path: Path, content: bytes | None, iterations: list[int]) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert [entry["iteration"] for _, entry in log_lines(path)] == iterations
    Lines(path, 1).add({"iteration": 1})
    assert len(lines_before(path, 2)) == len([one for one in iterations if one < 1]) + 1


HOLD = """
import sys, time
from pathlib import Path
from training.trainer.run_folder import run_folder
with run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_one_runs(tmp_path: Path) -> None:
    """The other one is named; a kill gives the folder free, and within a process it may be taken again."""
    process = holder(tmp_path / "run")
    with (
        pytest.raises(ParameterError, match=f"in use by process {process.pid} "),
        run_folder(tmp_path / "run"),
    ):
        pass
    process.kill()
    process.wait()
    with run_folder(tmp_path / "run"):
        with run_folder(tmp_path / "run"):
            pass
        check = "import sys; from pathlib import Path; from training.trainer.run_folder import run_folder\n"
        check += "with run_folder(Path(sys.argv[1])): pass"
        other = subprocess.run(
            [sys.executable, "-c", check, str(tmp_path / "run")], capture_output=True, text=True
        )
        assert f"in use by process {os.getpid()} " in other.stderr, "still held after the inner block"
    with run_folder(tmp_path / "run"):
        pass


def test_a_command_line_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is locked as any other."""
    monkeypatch.setattr(sys, "argv", ["train.py", os.fsdecode(b"v\xff")])
    with run_folder(tmp_path):
        assert (tmp_path / ".lock").read_text().endswith(r"(train.py v\udcff)")


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".state.safetensors.123"
    left.write_bytes(b"half")
    (tmp_path / "state.safetensors").write_bytes(b"whole")
    with run_folder(tmp_path):
        assert not left.exists()
        assert (tmp_path / "state.safetensors").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_maps_without_room(small_disk: Path) -> None:
    """Said before anything is computed, with the numbers; the disk is as empty as it was."""
    store = MapStore(small_disk / "maps", np.array([0, 40]), (832, 7, 7), 1000)
    with (
        pytest.raises(DiskSpaceError, match=r"need 0.00 GiB \(3,261,440 bytes\).*--cache-gib"),
        store.filling(),
    ):
        raise AssertionError("never inside")
    assert not (small_disk / "maps" / "maps.bf16").exists()
    with store_that_fits(small_disk).filling():
        pass


def store_that_fits(disk: Path) -> MapStore:
    return MapStore(disk / "maps", np.array([0, 4]), (832, 7, 7), 1000)


def test_a_state_without_room(small_disk: Path) -> None:
    """The one before stays as it was, and one line says which file and what to do."""
    path = small_disk / "state.safetensors"
    save_state(path, 1, "run", {"weights": {"a": torch.zeros(150_000)}})
    with pytest.raises(SystemExit) as raised, one_line_errors():
        save_state(path, 2, "run", {"weights": {"a": torch.ones(150_000)}})
    text = str(raised.value)
    assert text.startswith("error: ")
    assert "state.safetensors" in text
    assert "make room" in text
    assert "\n" not in text
    assert load_state(path, "run")[0] == 1
    assert [one.name for one in small_disk.iterdir()] == ["state.safetensors"]


def test_a_log_without_room(small_disk: Path) -> None:
    path = small_disk / "log.jsonl"
    lines = Lines(path, 0)
    (small_disk / "rest").write_bytes(bytes(2**20 - 8192))

    def write() -> None:
        for iteration in range(1000):
            lines.add({"iteration": iteration, "loss": 0.5})

    with pytest.raises(OSError, match=r"log\.jsonl") as raised:
        write()
    assert raised.value.errno == errno.ENOSPC
    (small_disk / "rest").unlink()
    kept = len(log_lines(path))
    Lines(path, kept).add({"iteration": kept, "loss": 0.5})
    assert len(log_lines(path)) == kept + 1


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskSpaceError, match=r"\(1,000 bytes\) can be had"):
            allocate(tmp_path / "file", 5000, "maps", "another folder")
        allocate(tmp_path / "file", 900, "maps", "another folder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "file").stat().st_size == 900


ERRORS = [
    pytest.param(PermissionError(errno.EACCES, "Permission denied", "/runs/x"), id="no right"),
    pytest.param(OSError(errno.EROFS, "Read-only file system", "/runs/x"), id="read-only"),
    pytest.param(OSError(errno.ENOSPC, "No space left on device", "/runs/x"), id="full"),
    pytest.param(NotADirectoryError(errno.ENOTDIR, "Not a directory", "/runs/x"), id="a file for a folder"),
    pytest.param(OSError(errno.EIO, "Input/output error"), id="no name of a file known"),
    pytest.param(DetectorError("what is wrong"), id="the library's own"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_script_ends_in_one_line(error: Exception) -> None:
    with pytest.raises(SystemExit) as raised, one_line_errors():
        raise error
    text = str(raised.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    if getattr(error, "filename", None):
        assert "/runs/x" in text


def test_errors_of_writing_get_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as raised, naming(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full")
    assert raised.value.filename == str(tmp_path / "a")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: path.mkdir(), "is a folder", id="a folder"),
        pytest.param(_fifo, "is a pipe", id="a pipe"),
        pytest.param(
            lambda path: path.symlink_to("/dev/zero"), "is a pipe, a socket or a device", id="a device"
        ),
    ],
)
def test_what_is_no_file_in_a_run_or_a_cache_is_refused(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    """A pipe would be waited for without end."""
    make(path := tmp_path / "file")
    for read in (lambda: load_state(path, "run"), lambda: read_sealed(path)):
        with pytest.raises(CheckpointError, match=says) as caught:
            read()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "5", "null", "{}", "[" * 100_000, '{"sha256": 1}', "nope"])
def test_a_state_of_other_words_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.safetensors"
    path.write_bytes(save({"weights/a": torch.zeros(2)}, metadata={"state": text}))
    with pytest.raises(CheckpointError, match=r"no training state|is damaged") as caught:
        load_state(path, "run")
    assert str(caught.value).isprintable()
