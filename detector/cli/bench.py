"""The command ``detector bench``: how fast this machine is, by each engine and precision that it has.

Letters for shapes: R regions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
from tyro.conf import UseAppendAction, arg

from detector.cli.bench_requests import can_serve, requests_a_second, service_options
from detector.cli.command_line import at_least
from detector.cli.run_saving import Benchmark, Saving
from detector.errors import ParameterError
from detector.evaluation.measured_table import Column, Table, counted
from detector.graphs.calibration import pictures_of
from detector.inference.detector import Detector
from detector.inference.ensemble import Ensemble
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.graph_engine import PRECISIONS, choose_precision
from detector.inference.loading import load_ensemble
from detector.inference.placement import ENGINES, TORCH, choose_engine, is_installed
from detector.inference.preprocessing import add_context
from detector.io.decoding import RGB
from detector.options import Profile
from detector.pretrained import SHIPPED
from detector.proposals.multibox import MAX_BOXES

_CROPS = 16
_BENCHMARK = Benchmark(
    "bench",
    "Engines and precisions",
    "How fast each engine is in each precision that this machine has: crops through the whole network, "
    "pictures through a profile and requests to a service; and how far its probabilities are from those of "
    "torch in float32, or of the first row where torch is not installed.",
)


@dataclass(frozen=True)
class Row:
    """One engine in one precision: crops of 224x224 through the whole network, pictures through a profile,
    requests that a service answers, each a second (``requests`` is None where it was not asked for or the
    service is not installed); the largest difference of a region's probability from torch's in float32, or
    where torch is not installed from the first row's; whether it is what ``auto`` chooses."""

    engine: str
    precision: str
    crops: float
    pictures: float
    requests: float | None
    difference: float
    chosen: bool


def bench(
    weights: Annotated[
        Sequence[Path], UseAppendAction, arg(help="Checkpoint; several are an ensemble [the shipped one].")
    ] = (),
    data: Annotated[Path | None, arg(help="Folder of pictures [two that come with the package].")] = None,
    images: Annotated[int, at_least(1), arg(help="Pictures of it, at most.")] = 8,
    profile: Annotated[Profile, arg(help="Which way pictures go.")] = Profile.BALANCED,
    rounds: Annotated[int, at_least(1), arg(help="Rounds; medians count.")] = 3,
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seconds: Annotated[
        float, at_least(0, float), arg(help="How long a service is asked, by each engine; 0: not at all.")
    ] = 10,
    clients: Annotated[int, at_least(1), arg(help="Clients that ask it at once.")] = 8,
    json_file: Annotated[
        Path | None, arg(name="json", help="Write the run's file too: figures, machine.")
    ] = None,
    called: Annotated[str | None, arg(help="What that file calls the folder of pictures.")] = None,
) -> None:
    """Measure every engine and precision of this machine, and say which one is chosen where none is named.

    All take turns in the same rounds, so that other work on the machine slows all of them alike; the services
    are started one after the other, where `detector serve` is installed. How many threads they may take is
    what OMP_NUM_THREADS says, or all.
    """
    paths = list(weights) or [SHIPPED]
    pictures = pictures_of(data, images)
    saving = Saving(json_file, called)
    setting = f"{profile}, medians of {counted(rounds, 'round')}"
    if seconds and can_serve():
        setting += f"; a service asked by {counted(clients, 'client')} for {seconds:g} s"
    used = saving.data(data, len(pictures))
    with saving.recording(
        _BENCHMARK, used, setting, folder=data, device=device, options=("--json", "--called")
    ) as run:
        systems = _systems(paths, device)
        rows = _measure(systems, pictures, profile, rounds)
        if seconds and can_serve():
            rows = [
                replace(
                    row,
                    requests=requests_a_second(
                        service_options(
                            paths,
                            engine=row.engine,
                            precision=row.precision,
                            device=system.ensemble.device,
                            profile=profile if system.has_multibox else Profile.SEARCH,
                        ),
                        pictures,
                        clients=clients,
                        seconds=seconds,
                    ),
                )
                for row, system in zip(rows, systems, strict=True)
            ]
        run.show(_table(rows))


def _table(rows: Sequence[Row]) -> Table:
    return Table.of(
        "",
        [
            Column("engine"),
            Column("precision"),
            Column("", "crops/s", ".1f"),
            Column("", "pictures/s", ".2f"),
            Column("", "requests/s", ".2f"),
            Column("difference", "", ".2g"),
            Column(""),
        ],
        [
            [
                row.engine,
                row.precision,
                row.crops,
                row.pictures,
                row.requests,
                row.difference,
                "chosen by auto" if row.chosen else "",
            ]
            for row in rows
        ],
    )


def _systems(paths: Sequence[Path], device: str) -> list[Detector]:
    """Load the detector by every engine and precision that there is."""
    detectors = []
    for engine in (TORCH, *(name for name in ENGINES if name != TORCH)):
        if not is_installed(engine) or (engine != TORCH and device not in ("auto", "cpu")):
            continue
        kinds = ("float32", "bfloat16", "float16") if engine == TORCH else PRECISIONS[engine]
        for precision in kinds:
            try:
                if engine == TORCH and not _torch_computes(precision, device):
                    continue
                ensemble = load_ensemble(paths, engine=engine, device=device, precision=precision)
            except ParameterError:
                continue  # the processor or the weights do not have it
            detectors.append(Detector(ensemble))
    if not detectors:
        raise ParameterError(f"no engine runs on device {device!r} here")
    return detectors


def _torch_computes(precision: str, device: str) -> bool:
    """Tell whether torch computes in a precision by hardware."""
    import torch

    from detector.inference.torch_engine import choose_device
    from detector.inference.torch_engine import choose_precision as best_of

    place = choose_device(device)
    if precision == "float16":
        return place.type == "cuda"
    return precision == "float32" or best_of("auto", place) is torch.bfloat16


def _measure(
    detectors: Sequence[Detector], pictures: Sequence[RGB], profile: Profile, rounds: int
) -> list[Row]:
    first = detectors[0]
    rng = np.random.default_rng(0)
    boxes = []
    for picture in pictures:
        proposals = first.propose(picture, profile if first.has_multibox else None)
        boxes.append(proposals.boxes[: min(len(proposals.boxes), MAX_BOXES)])
    expected = [
        first.predict(picture, some, profile=profile)[0].probabilities
        for picture, some in zip(pictures, boxes, strict=True)
    ]
    crops_runs = [_crops_run(detector.ensemble, rng) for detector in detectors]
    seconds: dict[tuple[int, str], list[float]] = {}
    differences = [0.0] * len(detectors)
    for number in range(rounds + 1):  # the first one warms up, and compares
        for index, (detector, run_crops) in enumerate(zip(detectors, crops_runs, strict=True)):
            if not number:
                for picture, some, value in zip(pictures, boxes, expected, strict=True):
                    got = detector.predict(picture, some, profile=profile)[0].probabilities
                    differences[index] = max(differences[index], float(np.abs(got - value).max(initial=0)))
            spent = {
                "crops": _seconds(run_crops),
                "pictures": _seconds(lambda d=detector: d.detect(pictures, profile=profile)),  # type: ignore[misc]
            }
            for what, took in spent.items() if number else ():
                seconds.setdefault((index, what), []).append(took)
    chosen = choose_engine("auto", "auto" if first.ensemble.device != "cpu" else "cpu")
    best = _chosen_precision(chosen, first.ensemble)
    return [
        Row(
            detector.ensemble.engine,
            detector.ensemble.precision,
            _CROPS / median(seconds[index, "crops"]),
            len(pictures) / median(seconds[index, "pictures"]),
            None,
            differences[index],
            (detector.ensemble.engine, detector.ensemble.precision) == (chosen, best),
        )
        for index, detector in enumerate(detectors)
    ]


def _crops_run(ensemble: Ensemble, rng: np.random.Generator) -> Callable[[], object]:
    """Return what runs a batch of crops through the whole network."""
    engine = ensemble.region_engine(range(len(ensemble.members)))
    prepare = ensemble.members[0].metadata.preprocessing
    pixels = rng.integers(0, 256, (prepare.size, prepare.size, 3)).astype(np.uint8)
    image = engine.arrays.normalise(pixels, prepare)
    window = np.array([[0, 0, prepare.size, prepare.size]], np.float32)
    windows = np.repeat(add_context(window, prepare), _CROPS, axis=0)
    crops = engine.arrays.sample(image, windows, prepare.size)
    return lambda: run_directly(ForwardRequest.of(engine, crops))


def _chosen_precision(engine: str, ensemble: Ensemble) -> str:
    if engine == TORCH:
        from detector.inference.torch_engine import choose_device
        from detector.inference.torch_engine import choose_precision as best_of

        return str(best_of("auto", choose_device(ensemble.device))).removeprefix("torch.")
    calibrated = all(member.metadata.activation_ranges for member in ensemble.members)
    return choose_precision("auto", engine, calibrated=calibrated)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
