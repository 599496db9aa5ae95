"""Sets of labelled pictures: which layouts are taken, how they are parted, and what is refused."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detector.errors import DatasetError
from detector.structures.classes import ilsvrc_cls
from tests.training.labelled_sets import write_folders, write_ilsvrc_cls
from training.classification.dataset import ImageList, read_labelled_images

NAMES = [("b/é ü.jpg", 3), ("a.jpg", 0), ("c/d/e.png", 3), ("f.jpg", 1), ("g.jpg", 3), ("h.jpg", 0)]


def listed(images: ImageList) -> list[tuple[str, int]]:
    return [(images.name(index), int(images.labels[index])) for index in range(len(images))]


def test_a_list_gives_back_what_it_took(tmp_path: Path) -> None:
    images = ImageList(tmp_path, NAMES)
    assert listed(images) == NAMES
    assert images.path(0) == tmp_path / "b" / "é ü.jpg"
    assert len(ImageList(tmp_path, [])) == 0


@pytest.mark.parametrize(
    ("count", "labels"),
    [
        pytest.param(2, [3, 3], id="of the most frequent class"),
        pytest.param(4, [3, 3, 3, 0], id="then of the next"),
        pytest.param(9, [3, 3, 3, 0, 0, 1], id="all of them, when there are no more"),
    ],
)
def test_pictures_of_few_classes(tmp_path: Path, count: int, labels: list[int]) -> None:
    assert ImageList(tmp_path, NAMES).of_few_classes(count).labels.tolist() == labels


def test_a_digest_is_of_names_and_labels_not_of_the_place(tmp_path: Path) -> None:
    """So a run goes on where its data was moved to, and does not where a label was changed."""
    digest = ImageList(tmp_path, NAMES).digest()
    assert ImageList(tmp_path / "moved", NAMES).digest() == digest
    for other in (NAMES[::-1], [*NAMES[:-1], ("h.jpg", 1)], [*NAMES[:-1], ("i.jpg", 0)], NAMES[:-1]):
        assert ImageList(tmp_path, other).digest() != digest


def test_a_million_pictures_take_little_memory() -> None:
    images = ImageList(Path("x"), ((f"n01440764/n01440764_{i}.JPEG", i % 1000) for i in range(20_000)))
    held = sum(a.nbytes for a in vars(images).values() if isinstance(a, np.ndarray))
    assert held / len(images) < 64


def test_ilsvrc(tmp_path: Path) -> None:
    """The 1000 official classes, however few occur; ROOT and ROOT/ILSVRC are both taken."""
    write_ilsvrc_cls(tmp_path, train=3, val=2)
    found = read_labelled_images(tmp_path)
    assert found.classes == ilsvrc_cls()
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.val.labels.tolist() == [0, 0, 1, 1]
    assert all(part.path(i).is_file() for part in (found.train, found.val) for i in range(len(part)))
    assert listed(read_labelled_images(tmp_path / "ILSVRC").train) == listed(found.train)


def test_a_picture_of_both_parts_is_not_learnt(tmp_path: Path) -> None:
    write_ilsvrc_cls(tmp_path, train=3, val=2)
    path = tmp_path / "ILSVRC/ImageSets/CLS-LOC/train_cls.txt"
    path.write_text(path.read_text() + f"{ilsvrc_cls().ids[1]}/ILSVRC2012_val_11 7\n")
    found = read_labelled_images(tmp_path)
    assert len(found.train) == 6
    assert [note for note in found.notes if "1 pictures of train also stand in val" in note]


def test_one_folder_a_class(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", 3)
    write_folders(tmp_path, "val", 2)
    (tmp_path / "train/across/notes.txt").write_text("no picture")
    (tmp_path / "train/empty").mkdir()
    found = read_labelled_images(tmp_path)
    assert found.classes.ids == ("across", "down")
    assert listed(found.train)[0] == ("train/across/train0.jpg", 0)
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.val.labels.tolist() == [0, 0, 1, 1]


def test_a_tenth_is_held_out_where_nothing_else_is(tmp_path: Path) -> None:
    """The same pictures on every reading, and after others were added."""
    write_folders(tmp_path, "", 40)
    found = read_labelled_images(tmp_path)
    train, val = listed(found.train), listed(found.val)
    assert len(train) + len(val) == len(set(train + val)) == 80
    assert 2 <= len(val) <= 16
    write_folders(tmp_path, "", 60)
    again = read_labelled_images(tmp_path)
    assert set(val) <= set(listed(again.val))
    assert set(train) <= set(listed(again.train))


@pytest.mark.parametrize("part", ["train", ""])
def test_pictures_that_are_not_read_are_told(tmp_path: Path, part: str) -> None:
    """A class may have no others, and is none then."""
    for name in ("train", "val") if part else ("",):
        write_folders(tmp_path, name, 40)
    for name in ("across/1.heic", "photos/2.heic", "photos/deep/3.CR2", "photos/notes.txt"):
        (tmp_path / part / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part / name).write_bytes(b"")
    found = read_labelled_images(tmp_path)
    assert found.classes.ids == ("across", "down")
    (note,) = found.notes
    assert note.startswith(f"{tmp_path}: 3 files are of kinds that are not read (.cr2, .heic: ")


def test_a_set_of_pictures_that_are_not_read_is_refused_with_that_reason(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.heic").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"one folder of pictures a class.*1\.heic is of a kind"):
        read_labelled_images(tmp_path)


def without_list(root: Path) -> None:
    write_ilsvrc_cls(root, 1, 1)
    (root / "ILSVRC/ImageSets/CLS-LOC/val.txt").unlink()


def unknown_class(root: Path) -> None:
    write_folders(root, "train", 1)
    write_folders(root, "val", 1, ("across", "slanted"))


def images_without_classes(root: Path) -> None:
    write_folders(root.parent, root.name, 1)
    for path in root.rglob("*.jpg"):
        path.rename(root / f"{path.parent.name}.jpg")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda root: root.rmdir(), "is no folder", id="nothing there"),
        pytest.param(lambda root: None, "ROOT/train/CLASS", id="an empty folder"),
        pytest.param(images_without_classes, "one folder of pictures a class", id="pictures, no classes"),
        pytest.param(without_list, "val.txt cannot be read", id="ILSVRC without a list"),
        pytest.param(lambda root: (root / "ILSVRC").mkdir(), "is missing", id="a hollow ILSVRC"),
        pytest.param(unknown_class, "classes that train lacks: slanted", id="a class in val alone"),
        pytest.param(
            lambda root: (write_folders(root, "train", 1), (root / "val").mkdir()),
            "no picture to measure on",
            id="nothing to measure",
        ),
    ],
)
def test_what_is_no_set(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    make(root)
    with pytest.raises(DatasetError, match=says):
        read_labelled_images(root)


def test_what_systems_leave_is_neither_class_nor_picture(tmp_path: Path) -> None:
    write_folders(tmp_path, "", 12)
    expected = read_labelled_images(tmp_path)
    some = next(tmp_path.rglob("*.jpg")).read_bytes()
    for name in (
        ".ipynb_checkpoints/a-checkpoint.jpg",  # Jupyter
        "__MACOSX/down/._a.jpg",  # an archive made on macOS
        "$RECYCLE.BIN/a.jpg",
        ".Trash-1000/files/a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",  # Synology
        "down/._train0.jpg",
        "down/.ipynb_checkpoints/a-checkpoint.jpg",
        "across/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "across/.hidden.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(some)
    (tmp_path / "down" / "folder.jpg").mkdir()
    found = read_labelled_images(tmp_path)
    assert found.classes.ids == ("across", "down")
    assert listed(found.train) == listed(expected.train)
    assert listed(found.val) == listed(expected.val)


def test_a_name_need_not_be_utf_8(tmp_path: Path) -> None:
    write_folders(tmp_path, "", 12)
    name = os.fsdecode(b"caf\xe9.jpg")
    (tmp_path / "down" / name).write_bytes(b"")
    found = read_labelled_images(tmp_path)
    assert (f"down/{name}", 1) in listed(found.train) + listed(found.val)


def test_the_real_pictures_stand_in_one_part_each(shared: Path) -> None:
    found = read_labelled_images(shared / "ilsvrc")
    assert (len(found.train), len(found.val), found.notes) == (3634, 1000, [])
