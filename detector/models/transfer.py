"""What a checkpoint takes over from another: a detector from a classifier, what a network knows of classes
for a new class list, a MultiBox head.

Letters for shapes: S sub-classes that are classes of whole images (ILSVRC's 1000 synsets), C classes of the
new list.
"""

import copy
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.models.backbone import CHANNELS
from detector.models.checkpoint import ARCHITECTURES, Checkpoint
from detector.models.multibox_head import stages_read
from detector.models.region_network import BoxHead, ClassPooling, IoUHead, RegionNetwork
from detector.structures.classes import ClassList, class_aliases, cls_to_det, ilsvrc_cls, ilsvrc_det


def from_classifier(checkpoint: Checkpoint, *, own_sub_classes: bool = False) -> Checkpoint:
    """Make a detector of the 200 classes of the ILSVRC classifier, without any training.

    A detection class pools its synsets as sub-classes; the 505 synsets that belong to none of the 200 are
    background. With ``own_sub_classes`` each class and background also get a new sub-class of their own, so
    that training can say what no synset says ("person" is otherwise a groom, a ballplayer or a scuba diver),
    and the network a box head and an IoU head. A class's own weights start two logits below the mean of its
    synsets', background's at zero.

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
    if own_sub_classes:
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
    network = RegionNetwork(
        backbone, labels, num_classes, box_regression=own_sub_classes, iou_prediction=own_sub_classes
    )
    folded = replace(metadata, name=f"{metadata.name}-folded", detection=ilsvrc_det(), metrics={})
    return Checkpoint(network.eval(), folded, checkpoint.multibox)


def transfer(init: Checkpoint, classes: ClassList) -> Checkpoint:
    """Make a region network of ``classes`` that starts from what ``init`` knows, in float32, to be trained.

    The sub-classes are ``init``'s S classes of whole images, unchanged (so the file still classifies whole
    images, and training can be held to them), then one of each class's own, then background's. Where ``init``
    knows a class by its id, its name or an alias, the class pools the synsets that belong to it, and its own
    sub-class starts as the one it had; where only synsets know it, as their mean; else as the mean of all own
    ones: an object of no known kind. Synsets of no class of the list are background, as in
    :func:`from_classifier`, if every class is known; else they take no part, for they may be what a class
    unknown by name looks like (a "hard hat" is a crash helmet), and would hold it down. Background's own
    sub-class, the heads for boxes and the IoU, and MultiBox carry over; heads that are missing are new. A
    classifier is folded first: for the 200 ILSVRC classes the result is that of
    ``from_classifier(init, own_sub_classes=True)``.

    Raises CheckpointError for a classifier of other than the 1000 ILSVRC classes.
    """
    start = init if init.metadata.detection is not None else from_classifier(init, own_sub_classes=True)
    network, known = start.network, start.metadata.detection
    assert isinstance(network, RegionNetwork)
    assert known is not None
    synsets = start.metadata.classification or ClassList((), ())
    old = network.backbone.classifier
    weight, bias = old.weight.detach(), old.bias.detach()
    labels = _synset_labels(synsets, classes, len(classes) if all(known_classes(start, classes)) else -1)
    own = _own_sub_classes(weight, bias, network.pooling.labels, len(synsets), known, classes, labels)
    rows = torch.cat([torch.cat([weight[: len(synsets)], bias[: len(synsets), None]], dim=1), own])

    network = copy.deepcopy(network)
    network.backbone.classifier = nn.Linear(CHANNELS, len(rows))
    with torch.no_grad():
        network.backbone.classifier.weight.copy_(rows[:, :-1])
        network.backbone.classifier.bias.copy_(rows[:, -1])
    network.pooling = ClassPooling(torch.cat([labels, torch.arange(len(classes) + 1)]), len(classes))
    if network.box_head is None:
        network.box_head = BoxHead()
    if network.fit_head is None:
        network.fit_head = IoUHead()
    return Checkpoint(
        network.float().eval(), replace(start.metadata, detection=classes, metrics={}), init.multibox
    )


def known_classes(init: Checkpoint, classes: ClassList) -> list[bool]:
    """Return for each class [C] whether ``init`` can start it: from the class itself, or a synset of it."""
    known = [known for known in (init.metadata.detection, init.metadata.classification) if known is not None]
    there = {
        alias
        for known_classes in known
        for class_id, name in zip(known_classes.ids, known_classes.names, strict=True)
        for alias in class_aliases(class_id, name)
    }
    if init.metadata.classification is not None:
        there |= set(_parents().values())
    pairs = zip(classes.ids, classes.names, strict=True)
    return [bool(class_aliases(class_id, name) & there) for class_id, name in pairs]


def _synset_labels(synsets: ClassList, classes: ClassList, others: int) -> Tensor:
    """Return the new label of each synset [S]; ``others`` where it belongs to no class.

    A class that is the synset itself comes before one that the synset is a kind of: next to "Chihuahua",
    "dog" pools the other dogs.
    """
    label_of: dict[str, int] = {}
    for label in reversed(range(len(classes))):  # of two names of one thing the first in the list has it
        label_of |= dict.fromkeys(class_aliases(classes.ids[label], classes.names[label]), label)
    parent = _parents()
    labels = torch.full((len(synsets),), others)
    for index, (wnid, name) in enumerate(zip(synsets.ids, synsets.names, strict=True)):
        for alias in (*class_aliases(wnid, name), parent.get(wnid)):
            if alias in label_of:
                labels[index] = label_of[alias]
                break
    return labels


@cache
def _parents() -> dict[str, str]:
    """Return the detection class of each synset that has one, by WordNet ids."""
    detection = ilsvrc_det().ids
    pairs = zip(ilsvrc_cls().ids, cls_to_det(), strict=True)
    return {wnid: detection[label] for wnid, label in pairs if label >= 0}


def _own_sub_classes(
    weight: Tensor,
    bias: Tensor,
    old_labels: Tensor,
    synsets: int,
    known: ClassList,
    classes: ClassList,
    labels: Tensor,
) -> Tensor:
    """Return what the own sub-classes of C classes and background start from: weights, bias [C+1,1025]."""
    rows = torch.cat([weight, bias[:, None]], dim=1)
    own_of = [rows[synsets:][old_labels[synsets:] == label] for label in range(len(known) + 1)]
    kinds = [class_aliases(class_id, name) for class_id, name in zip(known.ids, known.names, strict=True)]
    neutral = torch.cat(own_of[:-1]) if any(map(len, own_of[:-1])) else rows.new_zeros(1, rows.shape[1])
    started = []
    for label, (class_id, name) in enumerate(zip(classes.ids, classes.names, strict=True)):
        aliases = class_aliases(class_id, name)
        same = torch.cat(
            [rows[:0], *(own for own, kind in zip(own_of, kinds, strict=False) if kind & aliases)]
        )
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
    """Lower the logit of weights and bias [1025] by two: it adds to the synsets (:func:`from_classifier`)."""
    return torch.cat([row[:-1], row[-1:] - 2.0])


def attach_multibox_head(checkpoint: Checkpoint, source: Checkpoint) -> Checkpoint:
    """Return ``checkpoint`` with the MultiBox head of ``source``, if it has the stages that the head reads.

    Weights that differ only because one file holds them in half precision count as the same. Raises
    CheckpointError if ``source`` has no head, or if the stages that it reads differ.
    """
    head = source.multibox
    if head is None:
        raise CheckpointError(f"{source.metadata.name} has no MultiBox head to give")
    try:
        count = stages_read(checkpoint.backbone.features, head.spec.stages)
    except ParameterError as error:
        raise CheckpointError(f"{checkpoint.metadata.name} cannot take the head: {error}") from error
    own, given = (c.backbone.features[:count].state_dict() for c in (checkpoint, source))
    if own.keys() != given.keys() or any(
        own[name].shape != given[name].shape or not torch.equal(own[name].half(), given[name].half())
        for name in own
    ):
        raise CheckpointError(
            f"{checkpoint.metadata.name} and {source.metadata.name} differ in the stages that the MultiBox "
            "head reads; train a head with `detector train multibox --init`"
        )
    training = dict(checkpoint.metadata.training)
    if "multibox" in source.metadata.training:
        training["multibox"] = source.metadata.training["multibox"]
    metadata = replace(checkpoint.metadata, multibox=head.spec, training=training)
    return replace(checkpoint, metadata=metadata, multibox=head)
