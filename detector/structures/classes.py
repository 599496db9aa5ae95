"""Class lists, which of the 1000 classification synsets belong to which detection class, and the aliases by
which a network's knowledge of a class is carried over to other class lists and measured on other data.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from detector.errors import ParameterError

_VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
_VOC_IN_TWO_WORDS = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "TV monitor",
}


@dataclass(frozen=True)
class ClassList:
    """The classes of a network, label by label.

    ``ids`` are what annotation files use (WordNet ids for ILSVRC), ``names`` what people read. Background
    is not among them: it is the last logit of a detection network and has no label.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ParameterError(f"{len(self.ids)} class ids but {len(self.names)} names")
        if len(set(self.ids)) != len(self.ids):
            raise ParameterError("a class id stands twice in the list")

    def __len__(self) -> int:
        return len(self.ids)

    def index(self) -> dict[str, int]:
        """Label of each class id."""
        return {class_id: label for label, class_id in enumerate(self.ids)}

    @classmethod
    def of(cls, ids: Iterable[str], names: Iterable[str] | None = None) -> "ClassList":
        """Make a list of your own; names default to the ids."""
        ids = tuple(ids)
        return cls(ids, tuple(names) if names is not None else ids)


@cache
def ilsvrc_det() -> ClassList:
    """Return the 200 classes of the ILSVRC detection task, in official order."""
    return _read("ilsvrc_det.tsv")


@cache
def ilsvrc_cls() -> ClassList:
    """Return the 1000 classes of the ILSVRC classification task, ordered by WordNet id."""
    return _read("ilsvrc_cls.tsv")


@cache
def cls_to_det() -> tuple[int, ...]:
    """Return the detection label of each of the 1000 classification labels, or -1 if it has none.

    495 synsets are, or are kinds of, one of the 200 detection classes.
    """
    pairs = _read("cls_to_det.tsv")
    parent = dict(zip(pairs.ids, pairs.names, strict=True))
    det = ilsvrc_det().index()
    return tuple(det[parent[wnid]] if wnid in parent else -1 for wnid in ilsvrc_cls().ids)


@cache
def voc() -> ClassList:
    """Return the 20 classes of PASCAL VOC, in official order."""
    return ClassList.of(_VOC, (_VOC_IN_TWO_WORDS.get(name, name) for name in _VOC))


def _read(name: str) -> ClassList:
    text = resources.files("detector").joinpath("data", name).read_text(encoding="utf-8")
    rows: Sequence[list[str]] = [line.split("\t") for line in text.splitlines()]
    return ClassList(tuple(row[0] for row in rows), tuple(row[1] for row in rows))


def class_aliases(class_id: str, name: str) -> frozenset[str]:
    """Return the WordNet ids that a class stands for: one, several ("bottle"), or else its plain name.

    Two classes are the same thing, or partly, where their aliases share an element. An id is looked at
    first, then the name among the 200 detection classes, the aliases, and the 1000 synsets. Spaces, hyphens
    and upper case do not matter, nor does a plural s.
    """
    if class_id in _wordnet_ids():
        return frozenset([class_id])
    for word in (_plain(name), _plain(class_id)):
        for form in (word, word.removesuffix("s")):
            if form in _known():
                return _known()[form]
    return frozenset([_plain(name)])


@cache
def _wordnet_ids() -> frozenset[str]:
    return frozenset(ilsvrc_det().ids) | frozenset(ilsvrc_cls().ids)


@cache
def _known() -> dict[str, frozenset[str]]:
    """Return WordNet ids by plain name, without names of two synsets that are different things ("crane")."""
    synsets = ilsvrc_cls()
    times = Counter(synsets.names)
    known = {
        _plain(name): wnid for wnid, name in zip(synsets.ids, synsets.names, strict=True) if times[name] == 1
    } | {_plain(name): wnid for wnid, name in zip(ilsvrc_det().ids, ilsvrc_det().names, strict=True)}
    table = {name: frozenset([wnid]) for name, wnid in known.items()}
    text = resources.files("detector").joinpath("data", "class_aliases.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        alias, _, targets = line.partition("\t")
        wordnet_ids = frozenset(known[_plain(target)] for target in targets.split(",") if target)
        # Without targets it is a name that misleads.
        table[_plain(alias)] = wordnet_ids or frozenset([_plain(alias)])
    return table


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
