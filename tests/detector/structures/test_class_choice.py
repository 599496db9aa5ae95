"""Classes by name or id, to labels."""

import pytest

from detector.errors import ParameterError
from detector.structures.class_choice import labels_of
from detector.structures.classes import ClassList, ilsvrc_det

CLASSES = ClassList(("n1", "n2", "n3", "n4"), ("dog", "domestic cat", "bow tie", "Dog"))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("domestic cat", (1,), id="a name"),
        pytest.param("n3", (2,), id="an id"),
        pytest.param("N3,DOMESTIC CAT", (1, 2), id="in capitals, in the list's order"),
        pytest.param("  bow   tie , ,n2,", (1, 2), id="spaces and empty ones do not matter"),
        pytest.param("n2,domestic cat,n2", (1,), id="several times"),
        pytest.param("dog", (0, 3), id="a name that two classes have"),
        pytest.param("n4", (3,), id="one of the two"),
    ],
)
def test_names_and_ids_choose_labels(text: str, labels: tuple[int, ...]) -> None:
    assert labels_of(text, CLASSES) == labels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "at least one", id="nothing"),
        pytest.param(" , ,", "at least one", id="commas"),
        pytest.param("domestic cat,bowtie", "'bowtie': is bow tie meant?", id="a word forgotten"),
        pytest.param("dogs", "is dog meant?", id="plural"),
        pytest.param("zeppelin", "'zeppelin', nor one like it", id="nothing like it"),
        pytest.param("x" * 60_000, f"'{'x' * 80}', nor", id="very long: cut"),
    ],
)
def test_a_name_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ParameterError) as caught:
        labels_of(text, CLASSES)
    assert said in str(caught.value)


def test_names_come_as_a_list_too() -> None:
    """A name of the user's own list may hold a comma."""
    assert labels_of(["dog, small", "cat"], ClassList.of(["cat", "dog, small"])) == (0, 1)


def test_every_class_that_ships_can_be_named() -> None:
    """No name holds a comma, and none is another's."""
    classes = ilsvrc_det()
    for label, names in enumerate(zip(classes.names, classes.ids, strict=True)):
        for name in names:
            assert labels_of(name, classes) == (label,)
    assert labels_of(",".join(classes.names), classes) == tuple(range(len(classes)))
