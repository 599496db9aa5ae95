"""A MultiBox head taken over from another checkpoint whose trunk is the same as far as the head reads it."""

from dataclasses import replace

import torch

from detector.errors import CheckpointError, ParameterError
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import stages_read


def with_multibox_of(checkpoint: Checkpoint, other: Checkpoint) -> Checkpoint:
    """``checkpoint`` with the MultiBox head of ``other``.

    Weights that differ only because one file holds them in half precision count as the same. Raises
    CheckpointError if ``other`` has no head, or if the stages that it reads differ.
    """
    head = other.multibox
    if head is None:
        raise CheckpointError(f"{other.metadata.name} has no MultiBox head to give")
    try:
        count = stages_read(checkpoint.backbone.features, head.spec.stages)
    except ParameterError as error:
        raise CheckpointError(f"{checkpoint.metadata.name} cannot take the head: {error}") from error
    mine, theirs = (c.backbone.features[:count].state_dict() for c in (checkpoint, other))
    if mine.keys() != theirs.keys() or any(
        mine[name].shape != theirs[name].shape or not torch.equal(mine[name].half(), theirs[name].half())
        for name in mine
    ):
        raise CheckpointError(
            f"{checkpoint.metadata.name} and {other.metadata.name} differ in the stages that the MultiBox "
            "head reads; train a head with training/train_multibox.py --init"
        )
    training = dict(checkpoint.metadata.training)
    if "multibox" in other.metadata.training:
        training["multibox"] = other.metadata.training["multibox"]
    metadata = replace(checkpoint.metadata, multibox=head.spec, training=training)
    return replace(checkpoint, metadata=metadata, multibox=head)
