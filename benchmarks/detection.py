"""Seconds a picture: ours, warped and shared, beside what a user would take instead, in one run.

    python benchmarks/detection.py --data VOCdevkit/VOC2007/JPEGImages

Contenders take turns picture by picture, so that what else the machine does hits all alike; each runs once
before it is timed. Ours are the weights given (the shipped ones if none), with regions warped and with
regions cut out of shared maps, whichever of both they were trained for: time does not depend on that. The
peers are torchvision's detectors with random weights, which cost what trained ones do but for suppression.
Their resizing is theirs (800 pixels for R50-FPN and MobileNetV3-FPN, 320 for the others).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import torchvision.models.detection as peers
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Column, Table, counted
from detector.inference.detector import Detector
from detector.inference.shared_maps import SharedMaps
from detector.io.decoding import RGB, load
from detector.io.image_paths import images_below
from detector.models.checkpoint import load_checkpoint
from detector.options import Profile
from detector.pretrained import SHIPPED

PEERS: dict[str, Callable[..., torch.nn.Module]] = {
    "Faster R-CNN R50-FPN": peers.fasterrcnn_resnet50_fpn,
    "Faster R-CNN MobileNetV3-FPN": peers.fasterrcnn_mobilenet_v3_large_fpn,
    "Faster R-CNN MobileNetV3-320-FPN": peers.fasterrcnn_mobilenet_v3_large_320_fpn,
    "SSDlite MobileNetV3": peers.ssdlite320_mobilenet_v3_large,
}
YARDSTICK = "Faster R-CNN R50-FPN"

BENCHMARK = Benchmark(
    "detection",
    "A picture, beside torchvision's detectors",
    "How long a picture takes by each profile, with regions warped and cut out of shared maps, and by the "
    "detectors of torchvision that a user would take instead; they take turns, picture by picture.",
)

Run = Callable[[RGB], object]


def main(
    data: Annotated[Path, arg(help="A folder with pictures.")] = Path(__file__).parents[1] / "examples",
    weights: Annotated[Path, arg(help="Checkpoint with a MultiBox head.")] = SHIPPED,
    images: Annotated[int, at_least(1), arg(help="Different pictures.")] = 10,
    rounds: Annotated[int, at_least(1), arg(help="Times each is looked at.")] = 3,
    threads: Annotated[tuple[int, ...], arg(help="Numbers of threads.")] = (1, 2),
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table for each number of threads: medians, and how many times as fast as R50-FPN."""
    pictures = [load(path) for path in list(images_below(data))[:images]]
    contenders = {**_ours(weights), **_peers()}
    setting = f"medians of {counted(rounds, 'round')}, torch, peers in float32 with random weights"
    with saving.recording(BENCHMARK, saving.data(data, len(pictures)), setting, folder=data) as run:
        for count in threads:
            torch.set_num_threads(count)
            run.show(_table(count, _measure(contenders, pictures, rounds)))


def _table(threads: int, seconds: dict[str, list[float]]) -> Table:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    yardstick = medians[YARDSTICK]
    return Table.of(
        counted(threads, "thread"),
        [
            Column("contender"),
            Column("", "s/picture", ".3f"),
            Column(f"times as fast as {YARDSTICK}", "", ".2f"),
        ],
        [[name, median, yardstick / median] for name, median in medians.items()],
    )


def _ours(weights: Path) -> dict[str, Run]:
    checkpoint = load_checkpoint(weights)
    metadata = checkpoint.metadata
    shared = metadata.shared_maps or SharedMaps()
    variants = {
        "warped": replace(metadata, shared_maps=None),
        "shared": replace(
            metadata,
            shared_maps=shared,
            preprocessing=replace(metadata.preprocessing, short_side=max(shared.scales)),
        ),
    }
    runs: dict[str, Run] = {}
    for name, changed in variants.items():
        detector = Detector(replace(checkpoint, metadata=changed), device="cpu")
        for profile in (Profile.FAST, Profile.BALANCED, Profile.THOROUGH)[: 2 + (name == "shared")]:
            runs[f"ours, {profile}, {name}"] = _detecting(detector, profile)
    return runs


def _detecting(detector: Detector, profile: Profile) -> Run:
    return lambda image: detector.detect([image], profile=profile)


def _peers() -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for name, make in PEERS.items():
        torch.manual_seed(0)
        network = make(weights=None, weights_backbone=None).eval()
        runs[name] = _peer(network)
    return runs


def _peer(network: torch.nn.Module) -> Run:
    def run(image: RGB) -> object:
        with torch.inference_mode():
            return network([torch.from_numpy(image).permute(2, 0, 1).float() / 255])

    return run


def _measure(contenders: dict[str, Run], pictures: Sequence[RGB], rounds: int) -> dict[str, list[float]]:
    for run in contenders.values():
        run(pictures[0])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for image in pictures:
            for name, run in contenders.items():
                start = time.perf_counter()
                run(image)
                seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    run_script(main)
