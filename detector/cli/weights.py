"""The commands ``detector weights average|calibrate|show|verify``, which do without torch."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from detector.cli.command_line import at_least
from detector.errors import CheckpointError
from detector.graphs.calibration import measured, pictures_of
from detector.graphs.networks import check_weights
from detector.inference.scoring import Scoring
from detector.inference.thresholds import Thresholds
from detector.io.atomic_write import check_writable
from detector.io.output_paths import check_apart
from detector.models.checkpoint_file import read_header, write_file
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.weight_averaging import average_weights
from detector.models.weights import read_metadata, read_weights
from detector.pretrained import SHIPPED
from detector.structures.classes import ClassList


def calibrate(
    source: Annotated[Path, Positional, arg(help="Checkpoint.")],
    target: Annotated[Path, Positional, arg(help="Checkpoint to write (.safetensors).")],
    data: Annotated[Path, arg(help="Folder of pictures such as the network will see.")],
    images: Annotated[int, at_least(1), arg(help="Pictures of it that are looked at, at most.")] = 32,
) -> None:
    """Measure how large the values between layers become on pictures, and write that into a checkpoint.

    Computing in 8 bits (--precision int8) needs it. The weights stay as they are.
    """
    check_target(target, source)
    weights = read_weights(source)
    check_weights(weights)
    ranges = measured(weights, pictures_of(data, images))
    write_file(target, replace(weights.metadata, activation_ranges=ranges).as_json(), weights.tensors)
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB, the activations of {len(ranges)} layers")


def average(
    first: Annotated[Path, Positional, arg(help="Checkpoint.")],
    second: Annotated[Path, Positional, arg(help="Another training of the same network.")],
    target: Annotated[Path, Positional, arg(help="Checkpoint to write (.safetensors).")],
    share: Annotated[float, at_least(0, float), arg(help="Share of the second one, 0 to 1.")] = 0.5,
) -> None:
    """Average two trainings of one network, weight by weight.

    What was measured with the weights (metrics, thresholds, the ranges for 8 bits) is left out.
    """
    check_target(target, first, second)
    mean = average_weights(read_weights(first), read_weights(second), share)
    check_weights(mean)
    write_file(target, mean.metadata.as_json(), mean.tensors)
    print(f"{target}: {target.stat().st_size / 2**20:.1f} MiB, {share:g} of the way to {second.name}")


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
        "thresholds": _thresholds(metadata.thresholds),
        "8 bits": "calibrated" if metadata.activation_ranges else "not calibrated",
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
    weights = read_weights(path)
    check_weights(weights)
    if path.suffix.lower() != ".onnx" and "sha256" not in read_header(path):
        raise CheckpointError(f"{path} states no SHA-256: whether it is damaged cannot be told")
    metadata = weights.metadata
    print(f"{path}: {metadata.name} is whole: checksum, values and shapes are right")


def check_target(target: Path, *sources: Path) -> None:
    """Raises DetectorError, before anything is read, for a target that is a source or cannot be written."""
    check_apart([target], sources)
    check_writable(target)


def _head(spec: MultiBoxSpec | None) -> str:
    if spec is None:
        return "no"
    shapes = sum(len(grid.sides) for grid in spec.grids)
    scales = " and ".join(map(str, spec.image.scales))
    return f"{shapes} shapes of priors, reads {' and '.join(spec.stages)}, images at {scales} pixels"


def _thresholds(thresholds: Thresholds | None) -> str:
    if thresholds is None:
        return "not measured"
    common = "at no score" if thresholds.common is None else f"from score {thresholds.common:.3f} on"
    return f"{100 * thresholds.precision:.0f} % right {common} ({thresholds.measured_on})"


def _scoring(scoring: Scoring) -> str:
    settings, plain = asdict(scoring), asdict(Scoring())
    changed = [f"{name} {value}" for name, value in settings.items() if value != plain[name]]
    return ", ".join(changed) or "probabilities alone"


def _count(classes: ClassList | None) -> str:
    return "no" if classes is None else f"{len(classes)} classes, {classes.names[0]} ... {classes.names[-1]}"
