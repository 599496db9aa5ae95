import random
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import open_dataset
from detector.datasets.train_validation import hold_out, train_and_validation
from detector.errors import DatasetError, ParameterError
from tests.detector.datasets.small_folders import instances, picture, text, xml


def record(image_id: str, *labels: int, name: str | None = None) -> AnnotatedImage:
    boxes = np.tile(np.array([1, 1, 9, 9], np.float32), (len(labels), 1))
    return AnnotatedImage(
        image_id, Path(f"{name or image_id}.jpg"), 10, 10, boxes, np.array(labels, np.int64)
    )


def ids(records: list[AnnotatedImage]) -> set[str]:
    return {one.image_id for one in records}


HUNDRED = [record(f"p{number}", 0) for number in range(100)]
FIVE_OF_A_HUNDRED = ["p22", "p73", "p74", "p86", "p93"]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
def test_the_share_is_held_out(share: float) -> None:
    train, validation = hold_out(HUNDRED, share)
    assert len(validation) == 100 * share
    assert ids(train) | ids(validation) == ids(HUNDRED)
    assert not ids(train) & ids(validation)


def test_neither_order_nor_another_run_changes_who_is_held_out() -> None:
    shuffled = random.Random(1).sample(HUNDRED, 100)
    train, validation = hold_out(shuffled)
    assert ids(validation) == ids(hold_out(HUNDRED)[1])
    order = [one.image_id for one in shuffled]  # which each part keeps
    assert [one.image_id for one in train] == [name for name in order if name in ids(train)]
    # written down: what was held out when a detector was trained must be held out when it is measured
    assert sorted(ids(hold_out(HUNDRED, 0.05)[1])) == FIVE_OF_A_HUNDRED


def test_a_picture_more_changes_one_at_most() -> None:
    before = ids(hold_out(HUNDRED)[1])
    for number in range(20):
        after = ids(hold_out([*HUNDRED, record(f"new{number}", 0)])[1])
        assert len(before - after) <= 1


@pytest.mark.parametrize("rare", range(10))
def test_every_class_is_learnt(rare: int) -> None:
    """Whichever picture is the only one of its class, it is not held out."""
    records = [record(f"p{number}", 0, *([1] if number == rare else [])) for number in range(10)]
    train, validation = hold_out(records, 0.5)
    assert any(1 in one.labels for one in train)
    assert 4 <= len(validation) <= 5


def test_of_two_classes_with_one_picture_each_nothing_can_be_held_out() -> None:
    train, validation = hold_out([record("a", 0), record("b", 1)])
    assert (len(train), len(validation)) == (2, 0)


def test_pictures_without_objects_are_parted_too() -> None:
    train, validation = hold_out([record(f"p{number}") for number in range(10)])
    assert (len(train), len(validation)) == (8, 2)


def test_copies_of_a_picture_stay_together() -> None:
    copies = [record(str(n), 0, name=f"p{n // 3}_jpg.rf.{n}abc") for n in range(60)]
    train, validation = hold_out(copies)
    names = [{one.path.stem.split(".rf.")[0] for one in part} for part in (train, validation)]
    assert len(validation) == 12
    assert not names[0] & names[1]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(ParameterError, match="between 0 and 1"):
        hold_out(HUNDRED, share)


def voc_set(root: Path, **splits: str) -> None:
    """Pictures a to f in the official layout, and lists of them."""
    for name in "abcdef":
        picture(root / f"JPEGImages/{name}.jpg")
        xml(root / f"Annotations/{name}.xml", "nut")
    for split, names in splits.items():
        text(root / f"ImageSets/Main/{split}.txt", *names)


@pytest.mark.parametrize(
    ("splits", "train", "validation"),
    [
        pytest.param({"train": "abcd", "val": "ef"}, "abcd", "ef", id="train and val"),
        pytest.param({"train": "abc", "val": "d", "test": "ef"}, "abc", "d", id="val before test"),
        pytest.param({"train": "abcd", "test": "ef"}, "abcd", "ef", id="test where there is no val"),
        pytest.param(
            {"train": "ab", "trainval": "abcd", "val": "cd"}, "ab", "cd", id="trainval holds val: train it is"
        ),
        pytest.param({"trainval": "abcd", "test": "ef"}, "abcd", "ef", id="trainval beside test"),
        pytest.param({"train": "abcd", "val": "de"}, "abc", "de", id="a picture of both is only held out"),
    ],
)
def test_own_splits(tmp_path: Path, splits: dict[str, str], train: str, validation: str) -> None:
    voc_set(tmp_path, **splits)
    split = train_and_validation(open_dataset(tmp_path))
    assert (ids(split.train.records), ids(split.validation.records)) == (set(train), set(validation))
    assert "to train on" in split.how


@pytest.mark.parametrize(
    ("splits", "all_of"),
    [
        pytest.param({}, "abcdef", id="of one piece"),
        pytest.param({"train": "abcde"}, "abcde", id="train alone"),
        pytest.param({"val": "abc"}, "abcdef", id="val alone: nothing to train on but everything"),
    ],
)
def test_without_splits_a_part_is_held_out(tmp_path: Path, splits: dict[str, str], all_of: str) -> None:
    voc_set(tmp_path, **splits)
    split = train_and_validation(open_dataset(tmp_path), share=0.4)
    assert ids(split.train.records) | ids(split.validation.records) == set(all_of)
    assert len(split.validation.records) == round(0.4 * len(all_of))
    assert "held out by a digest" in split.how


def test_splits_and_lists_of_choice(tmp_path: Path) -> None:
    voc_set(tmp_path, train="ab", val="cd")
    folder = open_dataset(tmp_path)
    mine = text(tmp_path / "mine.txt", "e", "f")
    assert ids(train_and_validation(folder, validation=mine).validation.records) == {"e", "f"}
    assert ids(train_and_validation(folder, train=mine, validation="val").train.records) == {"e", "f"}
    alone = train_and_validation(folder, share=0.5, train=mine)
    assert (len(alone.train.records), len(alone.validation.records)) == (1, 1)


def test_a_split_without_objects_says_so(tmp_path: Path) -> None:
    for split, objects in (("train", [1]), ("val", [])):
        picture(tmp_path / f"{split}/{split}.jpg")
        instances(tmp_path / f"annotations/instances_{split}.json", {f"{split}.jpg": objects})
    with pytest.raises(DatasetError, match=r"val of .* has no picture with an object"):
        train_and_validation(open_dataset(tmp_path))
