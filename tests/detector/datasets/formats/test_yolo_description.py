"""What a data.yaml may say, and what of it is refused: names are text, numbers are unique, walks end."""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.annotated_image import Dataset
from detector.datasets.folder_tree import FolderTree
from detector.datasets.open import Format, open_dataset
from detector.errors import DatasetError
from tests.detector.datasets.small_folders import picture, text, xml

PLACES = ("train: images/train", "val: images/val")
NAMED = ("names: [nut, bolt]",)
GOOD = "images/train/a.jpg\nimages/train/b.jpg\n"


def pets(root: Path, *lines: str, train: str | bytes | None = None) -> Path:
    """Two splits of two pictures, with an object of class 0 and one of class 1, described by ``lines``; with
    ``train`` as the content of train.txt."""
    for split in ("train", "val"):
        for number, name in enumerate("ab"):
            picture(root / f"images/{split}/{name}.jpg")
            text(root / f"labels/{split}/{name}.txt", f"{number} 0.5 0.5 0.2 0.2")
    text(root / "data.yaml", *lines)
    if train is not None:
        (root / "train.txt").write_bytes(train if isinstance(train, bytes) else train.encode())
    return root


def kinds(found: Dataset) -> list[str]:
    return [problem.kind for problem in found.problems]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param("[no, yes]", ("no", "yes"), id="YAML 1.1's booleans"),
        pytest.param("[on, ~]", ("on", "~"), id="and null"),
        pytest.param("[null, 'null ']", ("null", "null "), id="null by name; blanks are kept in quotes"),
        pytest.param("[010, 8]", ("010", "8"), id="octal"),
        pytest.param("[0x1F, 31]", ("0x1F", "31"), id="hexadecimal"),
        pytest.param("[12:30, 750]", ("12:30", "750"), id="base 60"),
        pytest.param("[1.10, 1.1]", ("1.10", "1.1"), id="floats"),
        pytest.param("[1e3, .inf]", ("1e3", ".inf"), id="powers, infinity"),
        pytest.param("[1_000, 1000]", ("1_000", "1000"), id="digits in groups"),
        pytest.param("[2020-01-01, =]", ("2020-01-01", "="), id="a date; the default"),
        pytest.param("[!!int 010, !!str 8]", ("010", "8"), id="types that are written"),
        pytest.param("{0: no, 1: 010}", ("no", "010"), id="by number"),
        pytest.param("{'0': a, \"1\": b}", ("a", "b"), id="numbers in quotes"),
        pytest.param("{00: a, +1: b}", ("a", "b"), id="zeros and signs before"),
        pytest.param("{1.0: b, 0: a}", ("a", "b"), id="a point; another order"),
        pytest.param("[Cat, cat]", ("Cat", "cat"), id="case counts"),
        pytest.param("[caf\u00e9, cafe\u0301]", ("caf\u00e9", "cafe\u0301"), id="and so do code points"),
    ],
)
def test_names_are_text_as_it_is_written(tmp_path: Path, names: str, expected: tuple[str, ...]) -> None:
    found = open_dataset(pets(tmp_path, *PLACES, f"names: {names}"))
    assert found.classes.ids == expected
    assert [len(record.boxes) for record in found.read().records] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(("x: &n [a, b]", "names: *n", *PLACES), ["train", "val"], id="anchors"),
        pytest.param(("b: &b {train: images/train}", "<<: *b", *NAMED), ["train"], id="merged keys"),
        pytest.param(
            ("b: &b {train: nowhere}", "<<: *b", PLACES[0], *NAMED), ["train"], id="one's own come first"
        ),
        pytest.param(("train: ~", PLACES[1], "nc: '2'", *NAMED), ["val"], id="null is nothing"),
        pytest.param((r"train: C:\set\images\train", *NAMED), ["train"], id="a folder of Windows"),
        pytest.param(("path: /root/elsewhere", *PLACES, *NAMED), ["train", "val"], id="of another machine"),
        pytest.param(("path: " + 300 * "x", *PLACES, *NAMED), ["train", "val"], id="a name that is too long"),
        pytest.param(("test: no/where", PLACES[0], *NAMED), ["train"], id="no test"),
    ],
)
def test_descriptions_that_are_understood(
    tmp_path: Path, lines: tuple[str, ...], expected: list[str]
) -> None:
    found = open_dataset(pets(tmp_path, *lines))
    assert list(found.splits) == expected
    assert {len(found.read(split).records) for split in found.splits} == {2}


def laughs(merged: bool) -> list[str]:
    """Ten lists or mappings, each of nine of those before: three thousand million in all."""
    pattern = "{0}: &{0} {{<<: [{1}]}}" if merged else "{0}: &{0} [{1}]"
    lines = ["a: &a {x: y}"]
    pairs = zip("abcdefghij", "bcdefghijk", strict=True)
    return [*lines, *(pattern.format(after, ",".join(9 * [f"*{before}"])) for before, after in pairs)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(
            ("names: {0: cat, 0: dog}",), "line 1, has '0' for the second time", id="a number twice"
        ),
        pytest.param(
            ("names:", "  0: cat", "  1: x", "  00: dog"),
            "line 4: names: 'dog' has the number 0, which line 2 \\('cat'\\) has too",
            id="spelt in two ways",
        ),
        pytest.param(
            (*NAMED, "names: [a, b]"), "line 2, has 'names' for the second time .line 1", id="names"
        ),
        pytest.param(
            (PLACES[0], "train: x", *NAMED), "line 2, has 'train' for the second time", id="a split"
        ),
        pytest.param(("names: [[cat], dog]",), "number 0 is a list", id="a list for a name"),
        pytest.param(("names: {0: a, 1: {b: c}}",), "number 1 is a mapping", id="a mapping for a name"),
        pytest.param(("names: &a [a, *a]",), "number 1 is a list", id="names that hold themselves"),
        pytest.param(("names: cat",), "names: is 'cat': list the classes", id="a lone text"),
        pytest.param(("names:",), "names: is empty: list the classes", id="nothing"),
        pytest.param(("names: []",), "names: is empty: list the classes", id="no class"),
        pytest.param(("names: {-1: a, 0: b}",), "'-1' is no class's number", id="a number below 0"),
        pytest.param(("names: {0: a, 0x1: b}",), "'0x1' is no class's number", id="a hexadecimal number"),
        pytest.param(("names: {cat: 0}",), "'cat' is no class's number", id="the wrong way round"),
        pytest.param(("names: [cat, '']",), "class 1, counted from 0, has an empty name", id="an empty name"),
        pytest.param(("names: [a, b, a]",), "'a' stands twice .classes 0 and 2", id="a name twice"),
        pytest.param((*NAMED, "nc: 3"), "line 2: nc: is 3, but names has 2", id="another count"),
        pytest.param((*NAMED, "nc: two"), "line 2: nc: is 'two', and no number", id="no count"),
        pytest.param(("names: [!x a]",), "line 1, has the type !x", id="types of a program"),
        pytest.param(("? [a]", ": b", *NAMED), "line 1, has a list or a mapping for a key", id="odd keys"),
        pytest.param(("<<: [a]", *NAMED), "merges .<<. what is no mapping", id="merged text"),
        pytest.param(("names: " + 5000 * "[",), "line 1 has over 100 lists or mappings", id="depth"),
        pytest.param(("names:", "\t- cat"), "line 2, column 1", id="tabs"),
        pytest.param(("# " + 2_000_000 * "x", *NAMED), "characters describe no data set", id="size"),
        pytest.param((*laughs(False), "names: *k"), "number 0 is a list", id="a billion laughs"),
        pytest.param((*laughs(True), "names: *k"), "'x' is no class's number", id="and merged ones"),
        pytest.param((*NAMED, "Train: images/train"), "line 2: 'Train' is not read: write train", id="case"),
        pytest.param((*NAMED, "training: x"), "'training' is not read: write train", id="another word"),
        pytest.param((*NAMED, "t: [images/train]"), "'t' is not read: write train", id="by what it gives"),
        pytest.param(
            (*NAMED, "path: data.yaml", PLACES[0]), "line 2: path: 'data.yaml' is a file", id="path"
        ),
        pytest.param((*NAMED, "path: [a]", PLACES[0]), "line 2: path: a list where a folder", id="paths"),
        pytest.param((*NAMED, "vla: x", "vall: x"), "'vall' is not read: write val", id="a slip"),
    ],
)
def test_descriptions_that_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(DatasetError, match=rf"data\.yaml.*{message}") as raised:
        open_dataset(pets(tmp_path, *lines))
    assert "\n" not in str(raised.value)


def test_a_description_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    pets(tmp_path)
    (tmp_path / "data.yaml").write_bytes(b"# mine\nnames: [caf\xe9, bolt]\n")
    with pytest.raises(DatasetError, match=r"data\.yaml, line 2, is not UTF-8"):
        open_dataset(tmp_path)


def test_a_broken_description_of_another_name_is_told(tmp_path: Path) -> None:
    pets(tmp_path)
    (tmp_path / "data.yaml").rename(text(tmp_path / "mine.yaml"))
    text(tmp_path / "mine.yaml", "names: [nut")
    with pytest.raises(DatasetError, match=r"mine\.yaml cannot be read"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("/", "/ is the root of the file system", id="the root"),
        pytest.param("/../..", "/ is the root of the file system", id="spelt otherwise"),
        pytest.param(64 * "../", "/ is the root of the file system", id="far up"),
        pytest.param("/proc", "/proc is a folder of the system itself", id="the system's own"),
        pytest.param(300 * "x", "cannot be used .File name too long", id="a long name"),
        pytest.param(3000 * "y/", "cannot be used .File name too long", id="a long path"),
        pytest.param(r'"a\0b"', "cannot be used .no name holds a NUL", id="a NUL"),
        pytest.param("{a: b}", "a mapping where a path belongs", id="a mapping"),
        pytest.param("[images/val, [x]]", "a list where a path belongs", id="a list in a list"),
        pytest.param("images/val/a.jpg", "a.jpg is a picture: give its folder", id="a picture"),
        pytest.param("fifo", "fifo is a pipe, a socket or a device", id="a pipe"),
        pytest.param("/dev/zero", "/dev/zero is a pipe, a socket or a device", id="a device"),
        pytest.param("loop", "cannot be used .Too many levels", id="a link to itself"),
        pytest.param("empty", "holds no picture", id="an empty folder"),
        pytest.param("empty.txt", "holds no picture", id="an empty list"),
        pytest.param("~/nowhere", "~/nowhere is not there", id="no shell"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_places_that_cannot_be_used(tmp_path: Path, split: str, value: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DatasetError, match=rf"data\.yaml, line 2: {split}: .*{message}"):
        open_dataset(pets(tmp_path, *NAMED, f"{split}: {value}"))


def test_the_root_is_no_data_set() -> None:
    with pytest.raises(DatasetError, match="root of the file system"):
        open_dataset(Path("/"), Format.COCO)


def test_a_walk_outside_the_data_set_ends(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    assert len(FolderTree.scan(tmp_path, most=6).files) == 6
    with pytest.raises(DatasetError, match="has over 5 folders"):
        FolderTree.scan(tmp_path, most=5)


@pytest.mark.parametrize("relative", [True, False])
def test_pictures_beside_the_description_s_folder(tmp_path: Path, relative: bool) -> None:
    """As Ultralytics lays them: ``path: ../datasets/pets``, the description elsewhere."""
    pets(tmp_path / "datasets/pets")
    place = "../datasets/pets" if relative else str(tmp_path / "datasets/pets")
    text(tmp_path / "cfg/pets.yaml", f"path: {place}", *PLACES, *NAMED)
    found = open_dataset(tmp_path / "cfg")
    assert [len(found.read(split).records[0].boxes) for split in found.splits] == [1, 1]


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        pytest.param("images/\0a.jpg", "missing_image", "train.txt, line 3: .*NUL", id="a NUL"),
        pytest.param(4096 * "\0", "missing_image", "train.txt, line 3: ", id="a page of zeros"),
        pytest.param(300 * "x" + ".jpg", "missing_image", "line 3: .*File name too long", id="a long name"),
        pytest.param(
            3000 * "d/" + "a.jpg", "missing_image", "line 3: .*longer than a path", id="a long path"
        ),
        pytest.param("/", "missing_image", "train.txt, line 3: '/'", id="the root"),
        pytest.param("..jpg", "missing_image", "is missing", id="all suffix"),
        pytest.param("train.txt", "unreadable_image", "train.txt cannot be read", id="the list itself"),
        pytest.param("images/train", "unreadable_image", "Is a directory", id="a folder"),
        pytest.param("fifo.jpg", "unreadable_image", "is a pipe", id="a pipe"),
        pytest.param("/dev/zero", "unreadable_image", "is a pipe", id="a device"),
        pytest.param("loop.jpg", "missing_image", "Too many levels", id="a link to itself"),
        pytest.param("~/a.jpg", "missing_image", "~/a.jpg is missing", id="no shell"),
        pytest.param("https://x.y/z.jpg", "missing_image", "z.jpg is missing", id="an address"),
        pytest.param("images/train/a%2ejpg", "missing_image", "a%2ejpg is missing", id="escapes"),
        pytest.param(
            "images/train/a.jpg./images/train/b.jpg", "missing_image", "is missing", id="two lines in one"
        ),
        pytest.param("images/tra./images/train/b.jpg", "missing_image", "is missing", id="parts of two"),
    ],
)
def test_a_bad_line_of_a_list_costs_itself(tmp_path: Path, line: str, kind: str, message: str) -> None:
    pets(tmp_path, *NAMED, "train: train.txt", train=GOOD + line + "\n")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    found = open_dataset(tmp_path).read("train")
    assert [record.image_id for record in found.records] == ["images/train/a", "images/train/b"]
    assert kinds(found) == [kind]
    assert re.search(message, found.problems[0].message)
    assert len(found.problems[0].message) < 1000
    assert len(found.problems[0].image_id) < 100


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD.replace("\n", "\r"), id="ends of lines as on old Macs"),
        pytest.param(GOOD.encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD.encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param("C:\\set\\images\\train\\a.jpg\nimages/train\\b.jpg\n", id="Windows, and half of it"),
    ],
)
def test_lists_as_systems_write_them(tmp_path: Path, content: str | bytes) -> None:
    pets(tmp_path, *NAMED, "train: train.txt", train=content)
    found = open_dataset(tmp_path).read("train")
    assert [record.image_id for record in found.records] == ["images/train/a", "images/train/b"]
    assert found.problems == []


def test_a_picture_called_like_a_comment_is_read(tmp_path: Path) -> None:
    pets(tmp_path, *NAMED, "train: train.txt", train="# mine\n#1.jpg\n" + GOOD)
    picture(tmp_path / "#1.jpg")
    found = open_dataset(tmp_path).read("train")
    assert [record.image_id for record in found.records] == ["#1", "images/train/a", "images/train/b"]


def test_two_lines_in_one_are_told_in_a_list_of_ones_own(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
        xml(tmp_path / f"{name}.xml", "cat")
    found = open_dataset(tmp_path).read(text(tmp_path / "mine.txt", "a.jpg./b.jpg", "a.jpg"))
    assert [record.image_id for record in found.records] == ["a"]
    assert kinds(found) == ["missing_image"]


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def link(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        pytest.param(
            lambda root: pipe(root / "labels/train/a.txt"), "unreadable_annotation", "a pipe", id="a pipe"
        ),
        pytest.param(
            lambda root: link(root / "labels/train/a.txt", "/dev/zero"),
            "unreadable_annotation",
            "a.txt cannot be read: it is a pipe, a socket or a device",
            id="a device for labels",
        ),
        pytest.param(
            lambda root: link(root / "labels/train/a.txt", "gone"),
            "unreadable_annotation",
            "a.txt is a link to nowhere",
            id="labels that are elsewhere: no background",
        ),
        pytest.param(
            lambda root: pipe(root / "images/train/a.txt"),
            "unreadable_annotation",
            "are both label files",
            id="two label files, one a pipe",
        ),
        pytest.param(
            lambda root: pipe(root / "images/train/a.jpg"), "unreadable_image", "is a pipe", id="a picture"
        ),
    ],
)
def test_files_that_are_none(tmp_path: Path, change: Callable[[Path], None], kind: str, message: str) -> None:
    change(pets(tmp_path, *PLACES, *NAMED))
    found = open_dataset(tmp_path).read()
    assert [record.image_id for record in found.records] == [
        "images/train/b", "images/val/a", "images/val/b"
    ]  # fmt: skip
    assert kinds(found) == [kind]
    assert message in found.problems[0].message


@pytest.mark.parametrize("name", ["data.yaml", "other.yaml", "a.json", "a.xml", "a.data", "classes.txt"])
def test_a_pipe_for_a_description_does_not_hang(tmp_path: Path, name: str) -> None:
    pipe(pets(tmp_path, *PLACES, *NAMED) / name)
    if name == "data.yaml":
        with pytest.raises(DatasetError, match=r"data\.yaml cannot be read: it is a pipe"):
            open_dataset(tmp_path)
    else:
        assert len(open_dataset(tmp_path).read().records) == 4


def test_labels_in_a_folder_that_is_a_link_to_nowhere_are_no_background(tmp_path: Path) -> None:
    pets(tmp_path, *PLACES, *NAMED)
    (tmp_path / "labels/val").rename(tmp_path.parent / f"{tmp_path.name}-moved")
    (tmp_path / "labels/val").symlink_to("gone")
    found = open_dataset(tmp_path).read("val")
    assert found.records == []
    assert kinds(found) == 3 * ["unreadable_annotation"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        pytest.param(
            "images/val", "line 2: val: .*images/val cannot be read .Permission denied", id="a split"
        ),
        pytest.param("images/val/more", None, id="pictures below one"),
        pytest.param("labels/val", None, id="labels: no background"),
    ],
)
def test_a_folder_without_permission_is_told(tmp_path: Path, folder: str, message: str | None) -> None:
    pets(tmp_path, *PLACES, *NAMED)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder).chmod(0)
    try:
        if message is not None:
            with pytest.raises(DatasetError, match=message):
                open_dataset(tmp_path)
        else:
            found = open_dataset(tmp_path).read()
            assert len(found.records) == (2 if folder.startswith("labels") else 4)
            assert f"folder {tmp_path / folder} cannot be read" in found.problems[-1].message
    finally:
        (tmp_path / folder).chmod(stat.S_IRWXU)


def darknet(root: Path, *lines: str, names: str = "no\n010\n") -> Path:
    (pets(root, train=GOOD) / "data.yaml").unlink()
    (root / "obj.names").write_text(names)
    text(root / "obj.data", *lines, "train = train.txt", "names = obj.names")
    return root


def test_names_of_darknet_are_text(tmp_path: Path) -> None:
    assert open_dataset(darknet(tmp_path, "classes = 2", names="no\n010\n\n\n")).classes.ids == ("no", "010")


@pytest.mark.parametrize(
    ("lines", "names", "message"),
    [
        pytest.param(("train = x.txt",), "a\nb\n", r"obj\.data, line 2: train is given twice", id="twice"),
        pytest.param(("classes = 3",), "a\nb\n", r"obj\.data: classes: is 3, but names has 2", id="count"),
        pytest.param((), "a\n\nb\n", r"obj\.names: line 2 is empty", id="which number has b?"),
    ],
)
def test_darknet_descriptions_that_are_refused(
    tmp_path: Path, lines: tuple[str, ...], names: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        open_dataset(darknet(tmp_path, *lines, names=names))
