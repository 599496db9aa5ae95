"""The list of the pictures that a run left out."""

import os
from pathlib import Path

import pytest

from detector.errors import DatasetError
from training.trainer.left_out import BrokenImages

CAFE = os.fsdecode(b"ant/caf\xe9.jpg")
NAMES = ["ant/\u2028 \x85.jpg", "ant/b.jpg"]


def test_names_are_kept_as_the_disk_has_them(tmp_path: Path) -> None:
    """Also those that are not UTF-8 or hold odd ends of lines; after a kill each is still one, and known."""
    path = tmp_path / "broken.txt"
    for _ in range(2):
        BrokenImages(path, limit=2).report(dict.fromkeys(NAMES, "no picture"))
    assert path.read_bytes() == "".join(f"{name}\n" for name in NAMES).encode()
    path.write_bytes(path.read_bytes() + os.fsencode(f"{CAFE}\n"))
    BrokenImages(path, limit=3).report({CAFE: "no picture"})
    assert path.read_bytes().count(b"caf\xe9") == 1
    with pytest.raises(DatasetError, match="4 pictures could not be read"):
        BrokenImages(path, limit=3).report({"ant/c.jpg": "no picture"})
