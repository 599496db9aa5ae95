"""What a class of any data set is called in ILSVRC: what a network knows of it can then be carried over.

A detector out of a classifier: the 1000-class posterior folded onto the 200 detection classes.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from importlib import resources

import torch

from detector.errors import CheckpointError
from detector.models.checkpoint import ARCHITECTURES, Checkpoint
from detector.models.region_network import RegionNetwork
from detector.structures.classes import cls_to_det, ilsvrc_cls, ilsvrc_det


def meanings(class_id: str, name: str) -> frozenset[str]:
    """The WordNet ids that a class stands for: one, several ("bottle"), or its plain name if none is known.

    Two classes are the same thing, or partly, where their meanings share an element. An id is looked at
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
    """Meanings by plain name. A name of two synsets that are different things ("crane") is not among them."""
    synsets = ilsvrc_cls()
    times = Counter(synsets.names)
    known = {
        _plain(name): wnid for wnid, name in zip(synsets.ids, synsets.names, strict=True) if times[name] == 1
    } | {_plain(name): wnid for wnid, name in zip(ilsvrc_det().ids, ilsvrc_det().names, strict=True)}
    table = {name: frozenset([wnid]) for name, wnid in known.items()}
    text = resources.files("detector").joinpath("data", "class_aliases.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        alias, _, targets = line.partition("\t")
        found = frozenset(known[_plain(target)] for target in targets.split(",") if target)
        table[_plain(alias)] = found or frozenset([_plain(alias)])  # without targets: a name that misleads
    return table


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def fold(checkpoint: Checkpoint, *, own_rows: bool = False) -> Checkpoint:
    """The ILSVRC classifier as a detector of the 200 classes, without any training.

    A detection class pools the rows of its synsets; the 505 synsets that belong to none of the 200 are
    background. With ``own_rows`` the classifier also gets one new row a class and one for background, so that
    training can say what no synset says ("person" is otherwise a groom, a ballplayer or a scuba diver), and a
    box head and a fit head. A class's new row starts two logits below the mean of its synsets' rows,
    background's at zero.

    Raises CheckpointError if the checkpoint is no classifier of the 1000 ILSVRC classes.
    """
    metadata = checkpoint.metadata
    if metadata.classification is None or metadata.classification.ids != ilsvrc_cls().ids:
        raise CheckpointError(
            f"{metadata.name} does not classify the 1000 ILSVRC classes; it cannot be folded"
        )
    num_classes = len(ilsvrc_det())
    labels = torch.tensor([label if label >= 0 else num_classes for label in cls_to_det()])
    old = checkpoint.backbone
    weight, bias = old.classifier.weight.detach()[:1000], old.classifier.bias.detach()[:1000]
    if own_rows:
        member = torch.nn.functional.one_hot(labels, num_classes + 1)[:, :num_classes].float()
        mean = member / member.sum(dim=0)  # 1000 x C
        weight = torch.cat([weight, mean.T @ weight, torch.zeros(1, weight.shape[1])])
        bias = torch.cat([bias, mean.T @ bias - 2.0, torch.zeros(1)])
        labels = torch.cat([labels, torch.arange(num_classes + 1)])
    backbone = ARCHITECTURES[metadata.architecture](len(labels))
    backbone.features.load_state_dict(old.features.state_dict())
    with torch.no_grad():
        backbone.classifier.weight.copy_(weight)
        backbone.classifier.bias.copy_(bias)
    network = RegionNetwork(backbone, labels, num_classes, box_regression=own_rows, fit_prediction=own_rows)
    folded = replace(metadata, name=f"{metadata.name}-folded", detection=ilsvrc_det(), metrics={})
    return Checkpoint(network.eval(), folded, checkpoint.multibox)
