"""The commands ``detector weights import|add-multibox``, which build torch networks."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
from tyro.conf import Positional, arg

from detector.cli.weights import check_target
from detector.models.caffe_weights import is_bvlc
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.convert_bvlc import PREPROCESSING as BVLC_PREPROCESSING
from detector.models.convert_bvlc import read_bvlc
from detector.models.convert_caffemodel import read_caffemodel
from detector.models.convert_onnx import read_onnx
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.torchvision_googlenet import PREPROCESSING as TORCHVISION_PREPROCESSING
from detector.models.torchvision_googlenet import read_torchvision
from detector.models.transfer import attach_multibox_head
from detector.structures.classes import ilsvrc_cls


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
    check_target(target, source)
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
    check_target(target, source, giver)
    _save(target, attach_multibox_head(load_checkpoint(source), load_checkpoint(giver)), precision)


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


def _save(target: Path, checkpoint: Checkpoint, precision: Precision) -> None:
    save_checkpoint(target, checkpoint, getattr(torch, precision.value))
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")
