from pathlib import PurePath

import pytest

from detector.datasets.split_names import Role, in_order, role_of, split_of


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train", Role.TRAIN),
        ("train2017", Role.TRAIN),
        ("Training", Role.TRAIN),
        ("train_images", Role.TRAIN),
        ("trainval", Role.TRAIN),
        ("val", Role.VAL),
        ("val1", Role.VAL),
        ("valid", Role.VAL),
        ("instances_val2017", Role.VAL),
        ("test-set", Role.TEST),
        pytest.param("train_station", None, id="a word besides: a class, not a split"),
        pytest.param("cat_train", None, id="a class's own list"),
        pytest.param("valley", None, id="only begins like one"),
        ("images", None),
        ("2017", None),
    ],
)
def test_the_role_of_a_split_by_its_name(name: str, role: Role | None) -> None:
    assert role_of(name) is role


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("images/train", "train"),
        ("train/images", "train"),
        pytest.param("test/train2017", "train2017", id="the last"),
        ("images", None),
        ("", None),
    ],
)
def test_splits_in_paths(path: str, split: str | None) -> None:
    assert split_of(PurePath(path)) == split


def test_splits_for_training_come_first() -> None:
    assert in_order(["b", "test", "a", "val", "train2017"]) == ("train2017", "val", "test", "a", "b")
