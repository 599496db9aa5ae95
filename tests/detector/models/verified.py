"""A checkpoint read in both ways: by the command that verifies it, and by torch."""

from pathlib import Path

from detector.cli.weights import verify
from detector.models.checkpoint import load_checkpoint
from detector.models.metadata import Metadata


def verify_checkpoint(path: Path) -> Metadata:
    """Run ``detector weights verify`` on a checkpoint, load it by torch, and return its metadata.

    Raises CheckpointError as both do.
    """
    verify(path)
    return load_checkpoint(path).metadata
