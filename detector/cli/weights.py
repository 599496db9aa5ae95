"""The commands ``detector weights import|add-multibox|show|verify``."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
from tyro.conf import Positional, arg

from detector.inference.scoring import Scoring
from detector.io.atomic_write import check_writable
from detector.io.output_paths import check_apart
from detector.models.caffe_weights import is_bvlc
from detector.models.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    verify_checkpoint,
)
from detector.models.convert_bvlc import PREPROCESSING as BVLC_PREPROCESSING
from detector.models.convert_bvlc import read_bvlc
from detector.models.convert_caffemodel import read_caffemodel
from detector.models.convert_onnx import read_onnx
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.multibox_head import MultiBoxSpec
from detector.models.torchvision_googlenet import PREPROCESSING as TORCHVISION_PREPROCESSING
from detector.models.torchvision_googlenet import read_torchvision
from detector.models.transfer import attach_multibox_head
from detector.pretrained import SHIPPED
from detector.structures.classes import ClassList, ilsvrc_cls


class Kind(StrEnum):
    """Whose weights are imported."""

    BVLC = "bvlc"
    CAFFEMODEL = "caffemodel"
    ONNX = "onnx"
    TORCHVISION = "torchvision"


class Precision(StrEnum):
    """How floating-point weights are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


def import_weights(
    kind: Annotated[
        Kind,
        Positional,
        arg(
            help="bvlc: an .npz of Caffe's arrays; caffemodel: Caffe's own file; onnx: the ONNX model zoo's "
            "googlenet, also int8 and QDQ; torchvision: its state dict."
        ),
    ],
    source: Annotated[Path, Positional, arg(help="File to read.")],
    target: Annotated[Path, Positional, arg(help="Checkpoint to write (.safetensors).")],
    precision: Annotated[Precision, arg(help="How to store the weights.")] = Precision.FLOAT16,
) -> None:
    """Turn foreign GoogLeNet weights into a checkpoint."""
    _check_target(target, source)
    if kind is Kind.TORCHVISION:
        metadata = Metadata(
            "torchvision-googlenet",
            "torchvision-googlenet",
            TORCHVISION_PREPROCESSING,
            ilsvrc_cls(),
            licence="BSD-3-Clause (torchvision)",
            source="torchvision googlenet",
        )
        checkpoint = Checkpoint(read_torchvision(source), metadata)
    else:
        read = {Kind.BVLC: read_bvlc, Kind.CAFFEMODEL: read_caffemodel, Kind.ONNX: read_onnx}[kind]
        network = read(source)
        checkpoint = Checkpoint(network, _of_caffe(network, kind))
    _save(target, checkpoint, precision)


def add_multibox(
    source: Annotated[Path, Positional, arg(help="Checkpoint without a MultiBox head.")],
    giver: Annotated[Path, Positional, arg(help="Checkpoint that has one, on the same trunk.")],
    target: Annotated[Path, Positional, arg(help="Checkpoint to write (.safetensors).")],
    precision: Annotated[Precision, arg(help="How to store the weights.")] = Precision.FLOAT16,
) -> None:
    """Give a checkpoint the MultiBox head of another whose trunk is the same as far as the head reads it."""
    _check_target(target, source, giver)
    _save(target, attach_multibox_head(load_checkpoint(source), load_checkpoint(giver)), precision)


def show(path: Annotated[Path, Positional, arg(help="Checkpoint.")] = SHIPPED) -> None:
    """Print what a checkpoint says of itself."""
    metadata = read_metadata(path)
    prepare = metadata.preprocessing
    rows: dict[str, Any] = {
        "name": metadata.name,
        "architecture": metadata.architecture,
        "classification": _count(metadata.classification),
        "detection": _count(metadata.detection),
        "MultiBox": _head(metadata.multibox),
        "scoring": _scoring(metadata.scoring),
        "input": f"{prepare.size}x{prepare.size} RGB, mean {prepare.mean}, std {prepare.std}, "
        f"context {prepare.context}",
        **{f"training {key}": value for key, value in metadata.training.items()},
        **{f"metric {key}": value for key, value in metadata.metrics.items()},
        "licence": metadata.licence,
        "source": metadata.source,
        "size": f"{path.stat().st_size / 2**20:.2f} MiB",
    }
    width = max(map(len, rows))
    for key, value in rows.items():
        print(f"{key:<{width}}  {value}")


def verify(path: Annotated[Path, Positional, arg(help="Checkpoint.")] = SHIPPED) -> None:
    """Check that a checkpoint is whole and fits its network."""
    metadata = verify_checkpoint(path)
    print(f"{path}: {metadata.name} is whole: checksum, values and shapes are right")


def _of_caffe(network: GoogLeNet, kind: Kind) -> Metadata:
    """Return the metadata of a network in Caffe's form; BVLC's licence for BVLC's weights alone."""
    if kind is not Kind.BVLC and not is_bvlc(network):
        return Metadata(
            "googlenet",
            "googlenet",
            BVLC_PREPROCESSING,
            ilsvrc_cls(),
            source=f"GoogLeNet of 1000 classes ({kind}), other weights than BVLC's",
        )
    form = "" if kind is Kind.BVLC else f" ({kind})"
    published = {} if kind is Kind.ONNX else {"published top-1": 0.687, "published top-5": 0.889}
    return Metadata(
        "bvlc-googlenet",
        "googlenet",
        BVLC_PREPROCESSING,
        ilsvrc_cls(),
        licence="unrestricted (BVLC)",
        source=f"BVLC GoogLeNet, trained on ILSVRC 2012 classification{form}",
        metrics=published,  # a graph may be quantised
    )


def _check_target(target: Path, *sources: Path) -> None:
    """Raises DetectorError, before anything is read, for a target that is a source or cannot be written."""
    check_apart([target], sources)
    check_writable(target)


def _save(target: Path, checkpoint: Checkpoint, precision: Precision) -> None:
    save_checkpoint(target, checkpoint, getattr(torch, precision.value))
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")


def _head(spec: MultiBoxSpec | None) -> str:
    if spec is None:
        return "no"
    shapes = sum(len(grid.sides) for grid in spec.grids)
    scales = " and ".join(map(str, spec.image.scales))
    return f"{shapes} shapes of priors, reads {' and '.join(spec.stages)}, images at {scales} pixels"


def _scoring(scoring: Scoring) -> str:
    settings, plain = asdict(scoring), asdict(Scoring())
    changed = [f"{name} {value}" for name, value in settings.items() if value != plain[name]]
    return ", ".join(changed) or "probabilities alone"


def _count(classes: ClassList | None) -> str:
    return "no" if classes is None else f"{len(classes)} classes, {classes.names[0]} ... {classes.names[-1]}"
