"""Making a checkpoint from another: a detector from a classifier, a detector of a new class list, and the
transfer of a MultiBox head.

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
from detector.models.location_head import LocationHead
from detector.models.multibox_head import stages_read
from detector.models.region_network import ClassPooling, RegionNetwork
from detector.structures.classes import ClassList, class_aliases, cls_to_det, ilsvrc_cls, ilsvrc_det


def from_classifier(checkpoint: Checkpoint, *, own_sub_classes: bool = False) -> Checkpoint:
    """Make a detector of the 200 ILSVRC classes from the ILSVRC classifier, without any training.

    A detection class pools its synsets as sub-classes; the 505 synsets that belong to none of the 200 are
    background. With ``own_sub_classes`` each class and background also get a new sub-class of their own, so
    that training can learn what no synset covers ("person" is otherwise a groom, a ballplayer or a scuba
    diver), and the network gets a location head. The weights of a class's own sub-class start at
    the mean of its synsets', with a bias two lower; those of background start at zero.

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
    network = RegionNetwork(backbone, labels, num_classes, box_regression=False, location=own_sub_classes)
    folded = replace(metadata, name=f"{metadata.name}-folded", detection=ilsvrc_det(), metrics={})
    return Checkpoint(network.eval(), folded, checkpoint.multibox)


def transfer(init: Checkpoint, classes: ClassList) -> Checkpoint:
    """Make a region network of ``classes``, in float32 and to be trained, from what ``init`` knows.

    The sub-classes are ``init``'s S classes of whole images, unchanged (so the file still classifies whole
    images, and training can be held to them), then one own sub-class of each class, then one of background.

    A class pools the synsets that belong to it. If ``init`` knows the class by its id, its name or an alias,
    its own sub-class starts as the one in ``init``; if only synsets belong to it, as their mean; else as the
    mean of all own sub-classes, an object of no known kind.

    Synsets of no class of the list are background, as in :func:`from_classifier`, if every class is known.
    Else they take no part, since they may be what an unknown class looks like (a "hard hat" is a crash
    helmet), and would lower its score. Background's own sub-class, the heads that say where objects lie and
    the MultiBox head are kept; a missing head is new. A classifier of whole images alone is kept as it is:
    the maps that it reads move less in training than the sub-classes' rows. A classifier is folded first: for
    the 200 ILSVRC classes the result is that of ``from_classifier(init, own_sub_classes=True)``.

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
    if network.backbone.whole is not None:
        network.backbone.whole.requires_grad_(False)
    network.backbone.classifier = nn.Linear(CHANNELS, len(rows))
    with torch.no_grad():
        network.backbone.classifier.weight.copy_(rows[:, :-1])
        network.backbone.classifier.bias.copy_(rows[:, -1])
    network.pooling = ClassPooling(torch.cat([labels, torch.arange(len(classes) + 1)]), len(classes))
    if not network.moves_boxes and not network.predicts_iou:
        network.location_head = LocationHead()
    return Checkpoint(
        network.float().eval(),
        replace(start.metadata, detection=classes, thresholds=None, metrics={}),
        init.multibox,
    )


def known_classes(init: Checkpoint, classes: ClassList) -> list[bool]:
    """Return for each class [C] whether ``init`` can start it: from the class itself, or a synset of it."""
    class_lists = [
        class_list
        for class_list in (init.metadata.detection, init.metadata.classification)
        if class_list is not None
    ]
    known_aliases = {
        alias
        for class_list in class_lists
        for class_id, name in zip(class_list.ids, class_list.names, strict=True)
        for alias in class_aliases(class_id, name)
    }
    if init.metadata.classification is not None:
        known_aliases |= set(_parents().values())
    pairs = zip(classes.ids, classes.names, strict=True)
    return [bool(class_aliases(class_id, name) & known_aliases) for class_id, name in pairs]


def _synset_labels(synsets: ClassList, classes: ClassList, others: int) -> Tensor:
    """Return the new label of each synset, int64 [S]; ``others`` for one that belongs to no class.

    A class that is the synset itself comes before one that the synset is a kind of: next to "Chihuahua",
    "dog" pools the other dogs.
    """
    label_of: dict[str, int] = {}
    for label in reversed(range(len(classes))):  # an alias of two classes goes to the first in the list
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
    """Return the detection class of each synset that has one, as WordNet ids."""
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
    """Return the initial own sub-classes of C classes and background: weights and bias [C+1,1025]."""
    rows = torch.cat([weight, bias[:, None]], dim=1)
    own_of = [rows[synsets:][old_labels[synsets:] == label] for label in range(len(known) + 1)]
    alias_sets = [
        class_aliases(class_id, name) for class_id, name in zip(known.ids, known.names, strict=True)
    ]
    neutral = torch.cat(own_of[:-1]) if any(map(len, own_of[:-1])) else rows.new_zeros(1, rows.shape[1])
    initial_rows = []
    for label, (class_id, name) in enumerate(zip(classes.ids, classes.names, strict=True)):
        aliases = class_aliases(class_id, name)
        rows_of_class = torch.cat(
            [rows[:0], *(own for own, names in zip(own_of, alias_sets, strict=False) if names & aliases)]
        )
        rows_of_synsets = rows[:synsets][labels == label]
        if len(rows_of_class):
            initial_rows.append(rows_of_class.mean(dim=0))
        elif len(rows_of_synsets):
            initial_rows.append(_below(rows_of_synsets.mean(dim=0)))
        else:
            initial_rows.append(neutral.mean(dim=0))
    background = own_of[-1].mean(dim=0) if len(own_of[-1]) else rows.new_zeros(rows.shape[1])
    return torch.stack([*initial_rows, background])


def _below(row: Tensor) -> Tensor:
    """Lower the bias of weights and bias [1025] by two: its logit adds to the synsets'."""
    return torch.cat([row[:-1], row[-1:] - 2.0])


def attach_multibox_head(checkpoint: Checkpoint, source: Checkpoint) -> Checkpoint:
    """Return ``checkpoint`` with the MultiBox head of ``source``, if both agree in the stages that it reads.

    Weights that are equal in half precision count as the same. Raises CheckpointError if ``source`` has no
    head, or if the stages that it reads differ.
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
    metadata = replace(checkpoint.metadata, multibox=head.spec, thresholds=None, training=training)
    return replace(checkpoint, metadata=metadata, multibox=head)
