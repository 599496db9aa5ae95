"""The command ``detector export``: a network as a file that other programs run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from detector.cli.command_line import at_least
from detector.errors import DetectorError, ParameterError
from detector.graphs.accuracy import classification_accuracy, detection_accuracy
from detector.graphs.calibration import measured, pictures_of
from detector.graphs.exported import Task, exported_model
from detector.graphs.networks import check_weights
from detector.graphs.verification import (
    AGREEMENTS,
    TOLERANCES,
    Comparison,
    RunGraph,
    compare,
    graph_runner,
)
from detector.inference.graph_engine import PRECISIONS
from detector.inference.placement import GRAPH_ENGINES, TORCH, is_installed
from detector.io.atomic_write import check_writable, write_whole
from detector.io.decoding import RGB
from detector.io.output_paths import check_apart
from detector.models.weights import Weights, read_weights
from detector.pretrained import SHIPPED


class Format(StrEnum):
    """Whose file is written."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    TORCH_EXPORT = "torch-export"


class Numbers(StrEnum):
    """What convolutions compute in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"


SUFFIXES = {Format.ONNX: ".onnx", Format.OPENVINO: ".xml", Format.TORCH_EXPORT: ".pt2"}


def export(
    output: Annotated[Path, Positional, arg(help="File to write: .onnx, .xml (and .bin) or .pt2.")],
    weights: Annotated[Path, arg(help="Checkpoint, or an exported .onnx.")] = SHIPPED,
    format: Annotated[Format | None, arg(help="Whose file [told by the name's ending].")] = None,
    task: Annotated[Task, arg(help="What the network is for.")] = Task.DETECT,
    precision: Annotated[Numbers, arg(help="What convolutions compute in.")] = Numbers.FLOAT32,
    data: Annotated[
        Path | None,
        arg(
            help="Folder of pictures, or a labelled data set, to verify with; int8 is calibrated on them "
            "anew. With labels the change of accuracy is told too."
        ),
    ] = None,
    images: Annotated[int, at_least(1), arg(help="Pictures of it that are looked at, at most.")] = 32,
    tolerance: Annotated[
        float | None, arg(help="Largest difference of a probability [0.001, 0.03, 0.25 by precision].")
    ] = None,
) -> None:
    """Write a network as a file that ONNX Runtime, OpenVINO, TensorRT or torch run.

    The file appears under its name only once its outputs are those of the network that it was made of, on
    real pictures. An .onnx file is also weights wherever a checkpoint is: detector detect --weights
    network.onnx."""
    chosen = _format(output, format)
    check_apart([output], [weights])
    for target in _targets(output, chosen):
        check_writable(target)
    source = read_weights(weights)
    check_weights(source)
    pictures = pictures_of(data, images)
    if precision is Numbers.INT8 and (data is not None or not source.metadata.activation_ranges):
        print(f"measuring activations on {len(pictures)} pictures", flush=True)
        ranges = measured(source, pictures)
        source = replace(source, metadata=replace(source.metadata, activation_ranges=ranges))
    allowed = TOLERANCES[precision] if tolerance is None else tolerance
    name, reference = _reference(source, task)
    print(f"verifying on {len(pictures)} pictures against {name}", flush=True)
    if chosen is Format.TORCH_EXPORT:
        if precision is not Numbers.FLOAT32:
            raise ParameterError("torch-export writes float32: convert the program that you load it into")
        _write_torch(output, source, task, pictures, reference, allowed)
    else:
        model = exported_model(source, task, precision)
        for engine in filter(is_installed, GRAPH_ENGINES):
            found = compare(source, task is Task.CLASSIFY, pictures, reference, graph_runner(engine, model))
            _tell(engine, found)
            _check(found, precision, allowed)
        if chosen is Format.ONNX:
            write_whole(output, model.SerializeToString())
        else:
            _write_openvino(output, model, half=precision is Numbers.FLOAT16)
    if data is not None and chosen is not Format.TORCH_EXPORT:
        _tell_accuracy(source, task, precision, data, images)
    for target in _targets(output, chosen):
        print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB")


def _format(output: Path, named: Format | None) -> Format:
    """Return the format of a file's name. Raises ParameterError for a name that does not fit it."""
    if named is None:
        by_suffix = {suffix: each for each, suffix in SUFFIXES.items()}
        if output.suffix.lower() not in by_suffix:
            raise ParameterError(
                f"{output} ends with none of {', '.join(by_suffix)}: name the file so, or give --format"
            )
        return by_suffix[output.suffix.lower()]
    if output.suffix.lower() != SUFFIXES[named]:
        raise ParameterError(f"a file of --format {named} ends with {SUFFIXES[named]}, and {output} does not")
    return named


def _targets(output: Path, format: Format) -> list[Path]:
    return [output, output.with_suffix(".bin")] if format is Format.OPENVINO else [output]


def _reference(weights: Weights, task: Task) -> tuple[str, RunGraph]:
    """Return what outputs are compared with: the torch network, or where there is no torch the float32
    graph."""
    if not is_installed(TORCH):
        engine = next(filter(is_installed, GRAPH_ENGINES))
        return f"{engine} in float32, since torch is not installed", graph_runner(
            engine, exported_model(weights, task, "float32")
        )
    import torch

    module = _module(weights, task)

    @torch.inference_mode()
    def run(feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        outputs = module(*(torch.from_numpy(value) for value in feeds.values()))
        return {name: value.numpy() for name, value in outputs.items()}

    return "torch", run


def _module(weights: Weights, task: Task) -> Any:
    """Return the torch module of a task."""
    from detector.models.checkpoint import as_checkpoint
    from detector.models.exportable import ExportableClassifier, ExportableDetector, ExportableRegions

    checkpoint = as_checkpoint(weights)
    if task is Task.CLASSIFY:
        return ExportableClassifier(checkpoint).eval()
    if weights.metadata.detection is None:
        raise ParameterError(f"{weights.metadata.name} classifies whole pictures: give --task classify")
    if weights.metadata.shared_maps is None:
        return ExportableRegions(checkpoint).eval()
    return ExportableDetector(checkpoint).eval()


def _tell(engine: str, found: Comparison) -> None:
    others = ", ".join(f"{name} {value:.2g}" for name, value in found.others.items())
    print(
        f"{engine}: probabilities differ by {found.largest:.2g} at most, the likeliest class is the same for "
        f"{found.agreement:.1%} of {found.rows} rows" + (f"; {others}" if others else ""),
        flush=True,
    )


def _tell_accuracy(weights: Weights, task: Task, precision: str, data: Path, count: int) -> None:
    """Print the accuracy in float32 and in the precision, if the data are labelled."""
    engine = next(filter(is_installed, GRAPH_ENGINES))
    measure = classification_accuracy if task is Task.CLASSIFY else detection_accuracy
    precisions = list(dict.fromkeys(["float32", precision if precision in PRECISIONS[engine] else "float32"]))
    found = measure(weights, data, count, engine, precisions)
    if found is not None:
        values = ", ".join(f"{100 * value:.1f} in {name}" for name, value in found.values.items())
        print(f"{found.measure} on {found.images} pictures by {engine}: {values}", flush=True)


def _check(found: Comparison, precision: str, allowed: float) -> None:
    """Raise DetectorError for a network that differs too much."""
    least = AGREEMENTS[precision]
    if found.largest > allowed or found.agreement < least:
        raise DetectorError(
            f"nothing was written: in {precision} probabilities differ by {found.largest:.2g}, where "
            f"{allowed:g} is allowed, and {found.agreement:.1%} of the likeliest classes stay, of at least "
            f"{least:.1%}; take another precision, calibrate on more pictures of your own with --data, or "
            "allow more with --tolerance"
        )


def _write_openvino(output: Path, model: onnx.ModelProto, *, half: bool) -> None:
    """Write OpenVINO's pair of files: the .bin first, since the .xml is what is opened."""
    import openvino

    converted = openvino.Core().read_model(model.SerializeToString())
    for entry in model.metadata_props:
        converted.set_rt_info(entry.value, ["framework", entry.key])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "network.xml"  # OpenVINO takes no other spelling of the ending
        openvino.save_model(converted, place, compress_to_fp16=half)
        write_whole(output.with_suffix(".bin"), place.with_suffix(".bin").read_bytes())
        write_whole(output, place.read_bytes())


def _write_torch(
    output: Path, weights: Weights, task: Task, pictures: Sequence[RGB], reference: RunGraph, allowed: float
) -> None:
    """Write torch's exported program, its numbers of rows and sides dynamic."""
    if not is_installed(TORCH):
        raise ParameterError("torch-export needs torch: pip install 'googlenet-detector[torch]'")
    import torch
    from torch.export import Dim

    module = _module(weights, task)
    rows = Dim("rows", min=1, max=65_536)
    size = weights.metadata.preprocessing.size
    shapes: tuple[Any, ...] = ({0: rows},)
    inputs: tuple[Any, ...] = (torch.zeros(2, 3, size, size),)
    if task is Task.DETECT and weights.metadata.shared_maps is not None:
        sixteenths = [Dim(name, min=4, max=256) for name in ("height_16", "width_16")]
        shapes = ({2: 16 * sixteenths[0], 3: 16 * sixteenths[1]}, {0: rows})
        inputs = (torch.zeros(1, 3, 320, 384), torch.tensor([[0.0, 0, 64, 64], [9.0, 9, 200, 300]]))
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "network.pt2"
        described = {"googlenet-detector.json": json.dumps(weights.metadata.as_json())}
        torch.export.save(program, place, extra_files=described)
        loaded = torch.export.load(place).module()

        def run(feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
            outputs = loaded(*(torch.from_numpy(value) for value in feeds.values()))
            return {name: value.detach().numpy() for name, value in outputs.items()}

        found = compare(weights, task is Task.CLASSIFY, pictures, reference, run)
        _tell("torch.export", found)
        _check(found, "float32", allowed)
        write_whole(output, place.read_bytes())
