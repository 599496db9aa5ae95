"""A detector of any class list, to be trained, out of a detector or a classifier of other classes.

Letters for shapes: S rows of whole-picture classes (ILSVRC's 1000 synsets), C classes of the new list.
"""

import copy
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from detector.models.backbone import CHANNELS
from detector.models.checkpoint import Checkpoint
from detector.models.from_classifier import fold, meanings
from detector.models.region_network import BoxHead, FitHead, RegionNetwork, RowPooling
from detector.structures.classes import ClassList, cls_to_det, ilsvrc_cls, ilsvrc_det


def transfer(init: Checkpoint, classes: ClassList) -> Checkpoint:
    """A region network of ``classes`` that starts from what ``init`` knows, in float32, ready for training.

    The classifier's rows are ``init``'s S rows of whole-picture classes, unchanged (so the file still
    classifies whole pictures, and training can be held to them), then one row a class, then background's.
    Where ``init`` knows a class by its id, its name or an alias, the class pools
    the synsets that belong to it and its own row starts as the one it had; where only synsets know it, as
    their mean; else as the mean of all own rows: an object of no known kind. Synsets of no class of the list
    are background, as in ``fold``, if every class is known; else they take no part, for they may be what a
    class unknown by name looks like (a "hard hat" is a crash helmet), and would hold it down. Background's
    row, the heads for boxes and fit, and MultiBox carry over; heads that are missing are new. A classifier is
    folded first: for the 200 ILSVRC classes the result is that of ``fold(init, own_rows=True)``.

    Raises CheckpointError for a classifier of other than the 1000 ILSVRC classes.
    """
    start = init if init.metadata.detection is not None else fold(init, own_rows=True)
    network, known = start.network, start.metadata.detection
    assert isinstance(network, RegionNetwork)
    assert known is not None
    synsets = start.metadata.classification or ClassList((), ())
    old = network.backbone.classifier
    weight, bias = old.weight.detach(), old.bias.detach()
    labels = _synset_labels(synsets, classes, len(classes) if all(knows(start, classes)) else -1)
    own = _own_rows(weight, bias, network.pooling.labels, len(synsets), known, classes, labels)
    rows = torch.cat([torch.cat([weight[: len(synsets)], bias[: len(synsets), None]], dim=1), own])

    network = copy.deepcopy(network)
    network.backbone.classifier = nn.Linear(CHANNELS, len(rows))
    with torch.no_grad():
        network.backbone.classifier.weight.copy_(rows[:, :-1])
        network.backbone.classifier.bias.copy_(rows[:, -1])
    network.pooling = RowPooling(torch.cat([labels, torch.arange(len(classes) + 1)]), len(classes))
    if network.box_head is None:
        network.box_head = BoxHead()
    if network.fit_head is None:
        network.fit_head = FitHead()
    return Checkpoint(
        network.float().eval(), replace(start.metadata, detection=classes, metrics={}), init.multibox
    )


def knows(init: Checkpoint, classes: ClassList) -> list[bool]:
    """Whether ``init`` has something to start each class [C] from: the class itself, or a synset of it."""
    known = [known for known in (init.metadata.detection, init.metadata.classification) if known is not None]
    there = {
        meaning
        for known_classes in known
        for class_id, name in zip(known_classes.ids, known_classes.names, strict=True)
        for meaning in meanings(class_id, name)
    }
    if init.metadata.classification is not None:
        there |= set(_parents().values())
    pairs = zip(classes.ids, classes.names, strict=True)
    return [bool(meanings(class_id, name) & there) for class_id, name in pairs]


def _synset_labels(synsets: ClassList, classes: ClassList, others: int) -> Tensor:
    """The new label of each synset's row [S]; ``others`` where it belongs to no class.

    A class that is the synset itself comes before one that the synset is a kind of: next to "Chihuahua",
    "dog" pools the other dogs.
    """
    label_of: dict[str, int] = {}
    for label in reversed(range(len(classes))):  # of two names of one thing the first in the list has it
        label_of |= dict.fromkeys(meanings(classes.ids[label], classes.names[label]), label)
    parent = _parents()
    labels = torch.full((len(synsets),), others)
    for row, (wnid, name) in enumerate(zip(synsets.ids, synsets.names, strict=True)):
        for meaning in (*meanings(wnid, name), parent.get(wnid)):
            if meaning in label_of:
                labels[row] = label_of[meaning]
                break
    return labels


@cache
def _parents() -> dict[str, str]:
    """The detection class of each synset that has one, by WordNet ids."""
    detection = ilsvrc_det().ids
    pairs = zip(ilsvrc_cls().ids, cls_to_det(), strict=True)
    return {wnid: detection[label] for wnid, label in pairs if label >= 0}


def _own_rows(
    weight: Tensor,
    bias: Tensor,
    old_labels: Tensor,
    synsets: int,
    known: ClassList,
    classes: ClassList,
    labels: Tensor,
) -> Tensor:
    """Where the own rows of the classes and of background start: weights and bias, [C+1,1024+1]."""
    rows = torch.cat([weight, bias[:, None]], dim=1)
    own_of = [rows[synsets:][old_labels[synsets:] == label] for label in range(len(known) + 1)]
    kinds = [meanings(class_id, name) for class_id, name in zip(known.ids, known.names, strict=True)]
    neutral = torch.cat(own_of[:-1]) if any(map(len, own_of[:-1])) else rows.new_zeros(1, rows.shape[1])
    started = []
    for label, (class_id, name) in enumerate(zip(classes.ids, classes.names, strict=True)):
        mine = meanings(class_id, name)
        same = torch.cat([rows[:0], *(own for own, kind in zip(own_of, kinds, strict=False) if kind & mine)])
        pooled = rows[:synsets][labels == label]
        if len(same):
            started.append(same.mean(dim=0))
        elif len(pooled):
            started.append(_below(pooled.mean(dim=0)))
        else:
            started.append(neutral.mean(dim=0))
    background = own_of[-1].mean(dim=0) if len(own_of[-1]) else rows.new_zeros(rows.shape[1])
    return torch.stack([*started, background])


def _below(row: Tensor) -> Tensor:
    """A row whose logit is two lower: it starts as an addition to the synsets' rows (see ``fold``)."""
    return torch.cat([row[:-1], row[-1:] - 2.0])
