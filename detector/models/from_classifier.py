"""A detector out of a classifier: the posterior of 1000 classes folded onto the 200 detection classes."""

from dataclasses import replace

import torch

from detector.errors import CheckpointError
from detector.models.checkpoint import ARCHITECTURES, Checkpoint
from detector.models.region_network import RegionNetwork
from detector.structures.classes import cls_to_det, ilsvrc_cls, ilsvrc_det


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
