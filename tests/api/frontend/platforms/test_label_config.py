"""Label Studio's labelling configurations, and which of our classes a label means."""

import pytest

from api.frontend.platforms.label_config import LabelConfig
from api.protocol.errors import ApiError
from api.protocol.model_info import ClassName
from detector.structures.classes import ilsvrc_det

IMAGE = '<Image name="image" value="$picture"/>'
LABELS = '<RectangleLabels name="label" toName="image"><Label value="Cat"/></RectangleLabels>'


def config(*labels: str) -> LabelConfig:
    tags = "".join(f"<Label {label}/>" for label in labels)
    return LabelConfig.parse(
        f'<View>{IMAGE}<RectangleLabels name="label" toName="image">{tags}</RectangleLabels></View>'
    )


@pytest.mark.parametrize(
    "text",
    [
        f"<View>{IMAGE}{LABELS}</View>",
        f"<View>{LABELS}{IMAGE}</View>",
        f"<View><Header value='x'/><View style='a'>{LABELS}</View><View>{IMAGE}</View></View>",
        f'<View>{IMAGE}<Choices name="c" toName="image"><Choice value="x"/></Choices>{LABELS}</View>',
        f'<View><Text name="t" value="$t"/><RectangleLabels name="x" toName="t"><Label value="y"/>'
        f"</RectangleLabels>{IMAGE}{LABELS}</View>",
        f'<View>{IMAGE}<RectangleLabels name="x" toName="image"/>{LABELS}</View>',
        f'<?xml version="1.0" encoding="utf-8"?><View>{IMAGE}{LABELS}</View>',
    ],
    ids=["plain", "labels first", "nested", "choices beside", "labels over a text", "labels without any",
         "a declaration"],
)  # fmt: skip
def test_the_rectangles_of_a_configuration(text: str) -> None:
    parsed = LabelConfig.parse(text)
    assert (parsed.from_name, parsed.to_name, parsed.key) == ("label", "image", "picture")
    assert [label.value for label in parsed.labels] == ["Cat"]
    assert parsed.score_threshold is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "it is no text"),
        ("", "it is no XML"),
        ("<View>", "it is no XML"),
        (f"<View>{IMAGE}</View>", "no <RectangleLabels>"),
        (f"<View>{LABELS}</View>", "no <RectangleLabels>"),
        (f'<View><Image name="image" value="a.jpg"/>{LABELS}</View>', "no <RectangleLabels>"),
        (f'<!DOCTYPE V [<!ENTITY a "a">]><View>{IMAGE}{LABELS}</View>', "declares entities"),
        (f"<View>{IMAGE}{LABELS}</View>" + " " * 2_000_000, "it is no text"),
        (f"<View>{IMAGE}{LABELS}</View>".replace("toName", 'model_score_threshold="x" toName'), "'x'"),
        (f"<View>{IMAGE}{LABELS}</View>".replace("toName", 'model_score_threshold="nan" toName'), "'nan'"),
    ],
    ids=["null", "empty", "cut off", "no rectangles", "no picture", "a picture that is no variable",
         "entities", "huge", "a threshold that is none", "no number"],
)  # fmt: skip
def test_what_cannot_be_used(text: object, problem: str) -> None:
    with pytest.raises(ApiError, match=problem) as caught:
        LabelConfig.parse(text)
    assert (caught.value.status, caught.value.code) == (400, "bad_label_config")


def test_a_threshold_of_its_own() -> None:
    text = f"<View>{IMAGE}{LABELS}</View>".replace("toName", 'model_score_threshold="0.45" toName')
    assert LabelConfig.parse(text).score_threshold == 0.45


OURS = [ClassName(id=i, name=n) for i, n in zip(ilsvrc_det().ids, ilsvrc_det().names, strict=True)]
TRAINED = [ClassName(id=name, name=name) for name in ("Cat", "bolt, long", "person")]


@pytest.mark.parametrize(
    ("classes", "labels", "expected"),
    [
        (OURS, ['value="domestic cat"'], {"domestic cat": "domestic cat"}),
        (OURS, ['value="Domestic  Cat"'], {"domestic cat": "Domestic  Cat"}),
        (OURS, ['value="Cat"'], {"domestic cat": "Cat"}),
        (OURS, ['value="cats"'], {"domestic cat": "cats"}),
        (OURS, ['value="n02121808"'], {"domestic cat": "n02121808"}),
        (OURS, ['value="Bottle"'], {"water bottle": "Bottle", "wine bottle": "Bottle"}),
        (OURS, ['value="Bottle"', 'value="Wine bottle"'],
         {"water bottle": "Bottle", "wine bottle": "Wine bottle"}),
        (OURS, ['value="Cat"', 'value="cat"'], {"domestic cat": "Cat"}),
        (OURS, ['value="Katze" alias="cat"'], {"domestic cat": "cat"}),
        (OURS, ['value="Vehicle" predicted_values="car, bus"'], {"car": "Vehicle", "bus": "Vehicle"}),
        (OURS, ['value="Gadget"'], {}),
        (TRAINED, ['value="cat"', 'value="bolt, long"'], {"Cat": "cat", "bolt, long": "bolt, long"}),
        (TRAINED, ['value="Person"', 'value="Pedestrian"'], {"person": "Person"}),
    ],
    ids=["the same name", "case and spaces", "another word for it", "plural", "the id", "several of ours",
         "a nearer label", "the first of two", "an alias is what is stored", "values of other backends",
         "nothing of ours", "own classes", "own classes, by name"],
)  # fmt: skip
def test_labels_of_classes(classes: list[ClassName], labels: list[str], expected: dict[str, str]) -> None:
    names = {known.id: known.name for known in classes}
    found = config(*labels).labels_of(classes)
    assert {names[class_id]: label for class_id, label in found.items()} == expected
