"""Maps on disk: damaged ones are told and made again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.damage import DAMAGE, Damage
from training.rcnn.map_store import MapStore
from training.trainer.command_errors import DiskSpaceError

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
