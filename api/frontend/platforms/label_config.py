"""Label Studio's labelling configuration: which rectangles are drawn on which picture, and with which labels.

<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Cat"/> <Label value="Vehicle" alias="vehicle" predicted_values="car,bus"/>
  </RectangleLabels>
</View>
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from api.protocol.errors import ApiError
from api.protocol.model_info import ClassName
from detector.structures.classes import class_aliases

_LARGEST = 1 << 20  # characters
_VARIABLE = re.compile(r"\$([^\s$]+)")


@dataclass(frozen=True)
class Label:
    """A label: ``value`` as annotations have it, and the names of the things that are labelled so."""

    value: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class LabelConfig:
    """The rectangles of a configuration: the names of the tags that draw them (``from_name``) and show the
    picture (``to_name``), the key of a task's data that holds the picture, and the labels in their order.

    ``score_threshold`` is the tag's ``model_score_threshold``, None where it has none.
    """

    from_name: str
    to_name: str
    key: str
    labels: tuple[Label, ...]
    score_threshold: float | None = None

    @classmethod
    def parse(cls, text: object) -> "LabelConfig":
        """Return the first ``RectangleLabels`` over an ``Image`` of a configuration.

        Raises ApiError 400 ``bad_label_config`` if there is none, or for what is no XML.
        """
        if not isinstance(text, str) or len(text) > _LARGEST:
            raise _bad("it is no text")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities could make a small text a huge one
            raise _bad("it declares entities")
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise _bad(f"it is no XML ({error})") from error
        images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
        for tag in root.iter("RectangleLabels"):
            variable = _VARIABLE.fullmatch(images.get(tag.get("toName"), "").strip())
            if variable is None or not tag.get("name"):
                continue
            labels = tuple(_label(child) for child in tag.iter("Label") if child.get("value"))
            if labels:
                return cls(tag.get("name", ""), tag.get("toName", ""), variable[1], labels, _threshold(tag))
        raise _bad('it has no <RectangleLabels> with labels over an <Image value="$..."/>')

    def labels_of(self, classes: Iterable[ClassName]) -> dict[str, str]:
        """Return the label of each class that one names, by the class's id.

        A label is a class's if their names are the same but for case and spaces, or else if by their aliases
        they are the same thing or partly (:func:`detector.structures.classes.class_aliases`): the label
        "Bottle" is that of water bottles and wine bottles.
        """
        same: dict[str, str] = {}
        alike: dict[str, str] = {}
        for label in reversed(self.labels):  # the first of those that fit remains
            for name in label.names:
                same[_folded(name)] = label.value
                alike.update(dict.fromkeys(class_aliases(name, name), label.value))
        found = {}
        for known in classes:
            words = [_folded(known.name), _folded(known.id)]
            aliases = sorted(class_aliases(known.id, known.name))
            value = next((same[word] for word in words if word in same), None)
            value = value or next((alike[alias] for alias in aliases if alias in alike), None)
            if value is not None:
                found[known.id] = value
        return found


def _label(tag: ElementTree.Element) -> Label:
    """Return a label. Its ``predicted_values`` are names of classes that stand for it, as for other backends
    of Label Studio."""
    value = tag.get("value", "")
    others = [name.strip() for name in tag.get("predicted_values", "").split(",")]
    return Label(tag.get("alias") or value, tuple(filter(None, [value, tag.get("alias"), *others])))


def _threshold(tag: ElementTree.Element) -> float | None:
    text = tag.get("model_score_threshold")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise _bad(f"model_score_threshold is {text[:40]!r}, and has to be from 0 to 1")
    return value


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _bad(problem: str) -> ApiError:
    return ApiError(400, "bad_label_config", f"The labelling configuration cannot be used: {problem}.")
