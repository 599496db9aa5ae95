"""The state of a run, and sealed files: damaged ones are told, a full disk costs nothing."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from detector.errors import CheckpointError
from tests.training.damage import DAMAGE, Damage
from training.trainer.command_errors import one_line_errors
from training.trainer.run_state import load_state, read_sealed, save_state, write_sealed


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
