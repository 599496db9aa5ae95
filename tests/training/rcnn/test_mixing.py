"""Data sets of several class lists as one."""

from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.errors import ParameterError
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList
from training.rcnn.mixing import DatasetSpec, mix, relabelled
from training.rcnn.sampling import SamplingSettings
from training.rcnn.streaming_dataloader import class_balance

WANTED = ClassList.of(["dog", "airplane"])
DOG, AIRPLANE = 0, 1


def dataset(class_ids: list[str], *images: list[int], side: int = 80, partial: bool = False) -> Dataset:
    """Pictures with an object of each of these labels, the third box further right than the second."""
    records = [
        AnnotatedImage(
            f"p{number}",
            Path(f"p{number}.jpg"),
            side + 20,
            side,
            as_boxes([(place, 0, place + 9, 9) for place in range(len(labels))]),
            np.array(labels, np.int64),
            partial,
        )
        for number, labels in enumerate(images)
    ]
    return Dataset(records, class_ids)


@pytest.mark.parametrize(
    ("class_ids", "labels", "found", "unknown", "partial"),
    [
        pytest.param(["dog", "airplane"], [0, 1], [DOG, AIRPLANE], 0, False, id="the list itself"),
        pytest.param(["airplane", "dog"], [0, 1], [AIRPLANE, DOG], 0, False, id="in another order"),
        pytest.param(["n02084071", "n02691156"], [0, 1], [DOG, AIRPLANE], 0, False, id="WordNet ids"),
        pytest.param(["aeroplane", "Dogs"], [0, 1], [AIRPLANE, DOG], 0, False, id="an alias, a plural"),
        pytest.param(["dog"], [0], [DOG], 0, True, id="nothing is known of airplanes: partial"),
        pytest.param(
            ["dog", "kite", "aeroplane"], [1, 0, 2], [DOG, AIRPLANE], 1, False, id="a further class"
        ),
        pytest.param(["kite", "dog"], [0, 0, 1], [DOG], 2, True, id="a further one and a missing one"),
    ],
)
def test_labels_by_meaning(
    class_ids: list[str], labels: list[int], found: list[int], unknown: int, partial: bool
) -> None:
    given = dataset(class_ids, labels)
    result = relabelled(given, WANTED)
    assert result.class_ids == list(WANTED.ids)
    [record] = result.records
    assert record.labels.tolist() == found
    assert record.partial is partial
    assert (len(record.boxes), len(record.difficult), len(record.unknown)) == (
        len(found),
        len(found),
        unknown,
    )
    boxes = np.concatenate([record.boxes, record.unknown])
    assert sorted(boxes[:, 0]) == sorted(given.records[0].boxes[:, 0]), "every object is somewhere"


def test_objects_of_other_classes_keep_their_places() -> None:
    [record] = relabelled(dataset(["kite", "dog"], [0, 1, 0]), WANTED).records
    assert record.boxes[:, 0].tolist() == [1]
    assert record.unknown[:, 0].tolist() == [0, 2]


def test_a_partial_picture_stays_so() -> None:
    [record] = relabelled(dataset(["airplane", "dog"], [0], partial=True), WANTED).records
    assert record.partial


def test_weights_and_samplings_are_those_of_the_data_sets() -> None:
    """Pictures without an object of the list teach nothing and are left out, with their weights."""
    few = SamplingSettings(2, 3)
    mixed = mix(
        [
            DatasetSpec(dataset(["dog", "airplane"], [0], [], [1, 1])),
            DatasetSpec(dataset(["kite"], [0], side=900), weight=9.0),
            DatasetSpec(dataset(["aeroplane", "kite"], [0], [1], side=300), weight=0.5, sampling=few),
        ],
        WANTED,
    )
    assert [record.labels.tolist() for record in mixed.records] == [[DOG], [AIRPLANE, AIRPLANE], [AIRPLANE]]
    assert mixed.weights.tolist() == [1.0, 1.0, 0.5]
    assert [part.sampling for part in mixed.parts] == [None, few]
    assert mixed.short_side == 300, "that of the set with the larger pictures"


@pytest.mark.parametrize(
    ("unknown", "labels", "kinds"),
    [
        pytest.param(False, [[DOG], [DOG]], [0, 1], id="what is classified alone"),
        pytest.param(True, [[DOG], [], [DOG]], [0, 2, 1], id="MultiBox learns from other classes too"),
    ],
)
def test_pictures_of_other_classes_alone(unknown: bool, labels: list[list[int]], kinds: list[int]) -> None:
    """Never those that have no object at all."""
    mixed = mix(dataset(["dog", "kite"], [0], [1, 1], [], [1, 0]), WANTED, unknown=unknown)
    assert [record.labels.tolist() for record in mixed.records] == labels
    assert [len(record.unknown) for record in mixed.records] == kinds
    assert len(mixed.weights) == len(labels)


def test_pictures_of_other_classes_alone_are_not_enough() -> None:
    with pytest.raises(ParameterError, match="no picture of the data has an object of the classes"):
        mix(dataset(["kite"], [0], [0]), WANTED, unknown=True)


@pytest.mark.parametrize(
    ("balance", "dog", "airplane"),
    [
        pytest.param(0.0, 1.0, 1.0, id="all pictures alike"),
        pytest.param(1.0, 1 / 3, 1 / 2, id="all classes alike"),
        pytest.param(0.5, 3**-0.5, 2**-0.5, id="half way: by the root of the count"),
    ],
)
def test_pictures_of_rare_classes_are_drawn_more_often(balance: float, dog: float, airplane: float) -> None:
    """Three dogs and two airplanes; a picture of unknown objects alone counts as the mean object does."""
    data = dataset(["dog", "airplane", "kite"], [0, 0], [0, 1], [1], [2])
    records = mix(data, WANTED, unknown=True).records
    expected = [dog, (dog + airplane) / 2, airplane, (3 * dog + 2 * airplane) / 5]
    assert class_balance(records, balance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("specs", "says"),
    [
        pytest.param(
            [DatasetSpec(dataset(["dog"], [0]), weight=0.0)], "must be positive, got 0", id="no weight"
        ),
        pytest.param(
            [DatasetSpec(dataset(["dog"], [0]), weight=float("nan"))], "must be positive", id="no number"
        ),
        pytest.param(
            [DatasetSpec(dataset(["kite"], [0]))], "no picture of the data", id="other classes only"
        ),
        pytest.param([], "no picture of the data", id="no data at all"),
    ],
)
def test_what_cannot_be_mixed(specs: list[DatasetSpec], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        mix(specs, WANTED)
