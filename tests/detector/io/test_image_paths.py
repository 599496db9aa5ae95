import os
from pathlib import Path

import pytest

from detector.io.image_paths import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    has_image_suffix,
    has_unread_suffix,
    images_below,
    is_system_file,
    unread_kinds,
)


@pytest.mark.parametrize(
    ("name", "left_by_a_system"),
    [
        pytest.param("._a.jpg", True, id="macOS: a resource fork beside its file"),
        pytest.param(".DS_Store", True, id="macOS: how a folder is shown"),
        pytest.param("__MACOSX", True, id="macOS: resource forks in an archive"),
        pytest.param(".Trashes", True, id="macOS: bin of a volume"),
        pytest.param("Thumbs.db", True, id="Windows: thumbnails"),
        pytest.param("THUMBS.DB", True, id="Windows: names without case"),
        pytest.param("desktop.ini", True, id="Windows: how a folder is shown"),
        pytest.param("$RECYCLE.BIN", True, id="Windows: bin"),
        pytest.param("System Volume Information", True, id="Windows: its own"),
        pytest.param("@eaDir", True, id="Synology: thumbnails"),
        pytest.param("#recycle", True, id="Synology: bin"),
        pytest.param("@Recycle", True, id="QNAP: bin"),
        pytest.param(".@__thumb", True, id="QNAP: thumbnails"),
        pytest.param(".Trash-1000", True, id="Linux: bin"),
        pytest.param("lost+found", True, id="Linux: found by fsck"),
        pytest.param(".ipynb_checkpoints", True, id="Jupyter"),
        pytest.param(".git", True, id="hidden"),
        pytest.param("a.jpg", False, id="a picture"),
        pytest.param("__background__", False, id="a class of some data sets"),
        pytest.param("BACKGROUND_Google", False, id="a class of Caltech 101"),
        pytest.param("_a.jpg", False, id="an underscore"),
        pytest.param("@home.jpg", False, id="an at sign"),
        pytest.param("#1.jpg", False, id="a hash"),
        pytest.param("thumbs", False, id="only a beginning"),
    ],
)
def test_droppings(name: str, left_by_a_system: bool) -> None:
    assert is_system_file(name) is left_by_a_system


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "a.jpe", "a.jfif", "a.PNG", "a.tif", "a.b.gif", "a.webp"]
)
def test_names_of_pictures(name: str) -> None:
    assert has_image_suffix(name)
    assert has_image_suffix(Path("folder") / name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "a.jpg.txt", "a.jpg~", "a"])
def test_names_of_other_files(name: str) -> None:
    assert not has_image_suffix(name)


@pytest.mark.parametrize("name", ["a.heic", "a.AVIF", "a.b.jp2", "a.CR2", "a.svg", "a.ppm"])
def test_names_of_pictures_that_are_not_read(name: str) -> None:
    assert has_unread_suffix(name)
    assert not has_image_suffix(name)


@pytest.mark.parametrize("name", ["a.jpg", "a.txt", "a.xml", "a.json", "a.md", "heic", "a.mp4", "a.heic.txt"])
def test_names_of_what_is_read_or_no_picture(name: str) -> None:
    assert not has_unread_suffix(name)


def test_no_kind_is_both_read_and_not(tmp_path: Path) -> None:
    assert not set(IMAGE_SUFFIXES) & set(UNREAD_SUFFIXES)
    assert all(one == one.lower() and one.startswith(".") for one in UNREAD_SUFFIXES)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.heic"], "a.heic is of a kind that is not read (.heic): convert it to JPEG or PNG"),
        (
            ["a.HEIC", "b.avif"],
            "2 files are of kinds that are not read (.avif, .heic: a.HEIC, b.avif): convert them to "
            "JPEG or PNG",
        ),
        (
            [f"{number}.nef" for number in range(9)],
            "9 files are of kinds that are not read (.nef: 0.nef, 1.nef, 2.nef and 6 more): convert them to "
            "JPEG or PNG",
        ),
    ],
)
def test_what_is_said_of_pictures_that_are_not_read(names: list[str], said: str) -> None:
    assert unread_kinds([Path("folder") / name for name in names]) == said


def test_pictures_that_are_not_read_below_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.heic", "c/d.AVIF", "c/notes.txt", "c/.e.heic", "@eaDir/f.heic"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    unread: list[Path] = []
    assert [path.name for path in images_below(tmp_path, on_unread=unread.append)] == ["a.jpg"]
    assert [path.name for path in unread] == ["b.heic", "d.AVIF"]


def test_pictures_below_a_folder(tmp_path: Path) -> None:
    root = tmp_path / ".hidden root" / "root"
    for name in (
        "z.jpg", "b/1.jpg", "a/1.JFIF", "a/deep/er/2.png", "scan.jpg/3.jpg", "notes.txt", "._z.jpg",
        ".cache/4.jpg", "@eaDir/z.jpg/5.jpg", "a/__MACOSX/6.jpg",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "7.jpg").write_bytes(b"")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "again").symlink_to(tmp_path / "elsewhere")
    (root / "circle").symlink_to(root)
    (root / "nowhere.jpg").symlink_to("nothing")
    (root / "loop.jpg").symlink_to("loop.jpg")
    (root / "empty.jpg").mkdir()
    (root / "empty").mkdir()
    told: list[OSError] = []
    found = [path.relative_to(root).as_posix() for path in images_below(root, told.append)]
    assert found == [
        "loop.jpg", "nowhere.jpg", "z.jpg", "a/1.JFIF", "a/deep/er/2.png", "again/7.jpg", "b/1.jpg",
        "scan.jpg/3.jpg",
    ]  # fmt: skip
    assert [Path(error.filename).name for error in told] == ["empty.jpg"]
    assert list(images_below(root)) == [root / name for name in found]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(images_below(tmp_path / "nowhere"))
    told: list[OSError] = []
    assert list(images_below(tmp_path / "nowhere", told.append)) == []
    assert [error.filename for error in told] == [os.fspath(tmp_path / "nowhere")]
