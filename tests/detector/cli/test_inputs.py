"""What users name, expanded to pictures."""

import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from detector.cli.inputs import Inputs
from detector.io import plugins
from detector.io.visualization import save


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures by their names alone: nothing here is opened."""
    for name in (
        "a.jpg",
        "b.png",
        "sub/c.jpg",
        "sub/deep/d.jpg",
        "sub/.hidden.jpg",
        "clip.mp4",
        "odd[1].jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expanded(*named: str) -> tuple[list[str], list[str]]:
    """Paths of the entries, and what was told."""
    told: list[str] = []
    inputs = Inputs(lambda problem: told.append(str(problem)))
    entries = inputs.expand([Path(name) for name in named])
    assert inputs.incomplete == bool(told)
    return [str(entry.path) for entry in entries], told


@pytest.mark.parametrize(
    ("named", "found"),
    [
        pytest.param(["a.jpg", "b.png", "a.jpg"], ["a.jpg", "b.png", "a.jpg"], id="files, one twice"),
        pytest.param(["missing.jpg"], ["missing.jpg"], id="whoever reads it says that it is not there"),
        pytest.param(["sub"], ["sub/c.jpg", "sub/deep/d.jpg"], id="a folder with all below, nothing hidden"),
        pytest.param(["*.jpg"], ["a.jpg", "odd[1].jpg"], id="a pattern that the shell left alone"),
        pytest.param(["**/*.jpg"], ["a.jpg", "odd[1].jpg", "sub/c.jpg", "sub/deep/d.jpg"], id="all below"),
        pytest.param(["su?"], ["sub/c.jpg", "sub/deep/d.jpg"], id="a pattern that folders match"),
        pytest.param(["odd[1].jpg"], ["odd[1].jpg"], id="a file whose name looks like a pattern"),
        pytest.param(["clip.mp4"], ["clip.mp4"], id="a video"),
    ],
)
def test_expanded(tree: Path, named: list[str], found: list[str]) -> None:
    assert expanded(*named) == (found, [])


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        pytest.param(b"a.jpg\nsub/c.jpg\n", ["a.jpg", "sub/c.jpg"], id="a path a line"),
        pytest.param(b"\n  \na.jpg\r\n", ["a.jpg"], id="empty lines, and those of Windows"),
        pytest.param(b"a.jpg\0sub/c.jpg\0", ["a.jpg", "sub/c.jpg"], id="find -print0"),
        pytest.param(b"sub\n*.png", ["sub/c.jpg", "sub/deep/d.jpg", "b.png"], id="a folder and a pattern"),
        pytest.param(b"#a.jpg", ["#a.jpg"], id="no comments: a name may begin so"),
        pytest.param(os.fsencode("\udcff.jpg"), ["\udcff.jpg"], id="a name that is not UTF-8"),
        pytest.param(b"\xef\xbb\xbfa.jpg\n\xff.jpg", ["a.jpg", "\udcff.jpg"], id="of Notepad, with a mark"),
        pytest.param("a.jpg\r\nsub/c.jpg\r\n".encode("utf-16"), ["a.jpg", "sub/c.jpg"], id="of PowerShell"),
    ],
)
def test_lists(tree: Path, monkeypatch: pytest.MonkeyPatch, listed: bytes, found: list[str]) -> None:
    """As a file, and from standard input."""
    (tree / "list.txt").write_bytes(listed)
    assert expanded("list.txt") == (found, [])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert expanded("-") == (found, [])


def test_a_list_elsewhere_counts_from_its_own_folder_where_nothing_is_there(tree: Path) -> None:
    (tree / "sub" / "list.lst").write_text("c.jpg\na.jpg\nnowhere.jpg\n")
    assert expanded("sub/list.lst") == (["sub/c.jpg", "a.jpg", "nowhere.jpg"], [])


@pytest.mark.parametrize(
    ("named", "told"),
    [
        pytest.param("*.gif", "nothing is there like *.gif", id="a pattern without a match"),
        pytest.param("empty", "no pictures in empty", id="an empty folder"),
        pytest.param("empty.txt", "empty.txt names no pictures", id="an empty list"),
    ],
)
def test_what_holds_nothing_is_told(tree: Path, named: str, told: str) -> None:
    (tree / "empty").mkdir()
    (tree / "empty.txt").touch()
    assert expanded(named, "a.jpg") == (["a.jpg"], [told])


def test_heic_is_a_picture_where_its_plugin_is_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "phone").mkdir()
    (tree / "phone" / "a.HEIC").touch()
    assert expanded("phone") == (["phone/a.HEIC"], [])
    monkeypatch.setattr(plugins, "suffixes", tuple)
    paths, [_, told] = expanded("phone")
    assert paths == []
    assert told.endswith("convert it to JPEG or PNG, or pip install 'googlenet-detector[heic]'")


def test_drawings_are_passed_over_unless_named(tree: Path) -> None:
    import numpy as np

    save(tree / "sub" / "0001-c.png", np.zeros((9, 9, 3), np.uint8))
    for named, count in ((["sub"], 1), (["sub/*.png"], 1), (["sub/0001-c.png"], 0)):
        inputs = Inputs(lambda problem: None)
        inputs.expand([Path(name) for name in named])
        assert inputs.drawings == count


def test_files_are_called_by_their_place_below_what_was_named(tree: Path) -> None:
    shutil.copytree(tree / "sub", tree / "other")
    inputs = Inputs(lambda problem: None)
    entries = inputs.expand([Path("sub"), Path("other/c.jpg")])
    assert [str(entry.below) for entry in entries] == ["c.jpg", "deep/d.jpg", "c.jpg"]
