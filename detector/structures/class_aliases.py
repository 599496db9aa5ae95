"""Aliases of classes: what a class of any data set is called in ILSVRC.

By them a network's knowledge of a class is carried over to other class lists, and measured on other data.
"""

from collections import Counter
from functools import cache
from importlib import resources

from detector.structures.classes import ilsvrc_cls, ilsvrc_det


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
        table[_plain(alias)] = wordnet_ids or frozenset(
            [_plain(alias)]
        )  # without targets: a name that misleads
    return table


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
