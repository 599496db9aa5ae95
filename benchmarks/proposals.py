"""Proposals: ours against OpenCV's and the selectivesearch package's, on the same pictures, in one run.

    make peers
    python benchmarks/proposals.py --data VOCdevkit/VOC2007 --ilsvrc ilsvrc

Methods take turns picture by picture, so that what else the machine does hits all alike; each runs once
before it is timed, on one thread unless its name says otherwise. Prints what each covers and what it costs.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions

# Before anything imports cv2, so that it is the contrib build.
sys.path.insert(0, str(Path(sys.prefix) / "peers"))

import cv2
import numpy as np
import torch
from tyro.conf import arg

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import Format, open_dataset
from detector.errors import DetectorError
from detector.evaluation.measured_table import Column, Table
from detector.evaluation.proposal_methods import Method, chosen, detector_methods, run_methods, search_methods
from detector.evaluation.proposal_recall import ALL, MethodFigures, figures
from detector.evaluation.run_conditions import data_name
from detector.evaluation.run_record import Data
from detector.evaluation.tables import budget_names
from detector.inference.loading import load_detector
from detector.io.decoding import RGB
from detector.proposals.reference import reference_selective_search
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

BUDGETS = (100, 200, 500, 1000, ALL)
YARDSTICKS = ("opencv-fast", "opencv-quality")
"""What the others' speed is given in."""
ON_TWO = ("search-fast", "search-fast-2x", "search-quality", "opencv-fast")
"""What is run on two threads too."""
TWO_THREADS = ", 2 threads"
BENCHMARK = Benchmark(
    "proposals",
    "Proposals, beside OpenCV's selective search",
    "What the ways to proposals cover of the objects and what they cost, beside OpenCV's selective search "
    "and the `selectivesearch` package; they take turns, picture by picture, on one thread unless two are "
    "named.",
)


def main(
    data: Annotated[Path, arg(help="A folder in the layout of PASCAL VOC.")],
    ilsvrc: Annotated[Path | None, arg(help="The folder that holds ILSVRC/: DET val too.")] = None,
    weights: Annotated[
        Path | None, arg(help="Checkpoint with a MultiBox head; the shipped one if not given.")
    ] = None,
    every: Annotated[int, at_least(1), arg(help="Every Nth picture only.")] = 1,
    slow_images: Annotated[
        int, arg(help="Pictures for the selectivesearch package, which is very slow.")
    ] = 3,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print a table of coverage, one of cost, and one of two threads, for each set of pictures."""
    if not hasattr(cv2, "ximgproc"):
        raise SystemExit(
            f"error: {Path(sys.prefix) / 'peers'} lacks OpenCV's contrib build: run `make peers`"
        )
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        sets = {saving.name_of(data): open_dataset(data, Format.VOC).read().records[::every]}
        if ilsvrc is not None:
            sets[f"{data_name(ilsvrc)}, DET val"] = (
                open_dataset(ilsvrc, Format.ILSVRC).read("val").records[::every]
            )
        methods = _methods(weights, slow_images)
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    setting = f"OpenCV {cv2.__version__} with its contrib modules"
    with saving.recording(BENCHMARK, Data(" and ".join(sets)), setting, folder=data) as recording:
        for name, records in sets.items():
            for table in _tables(name, methods, records):
                recording.show(table)


def _methods(weights: Path | None, slow_images: int) -> list[Method]:
    one = search_methods() | detector_methods(load_detector(weights, device="cpu"))
    one |= {
        f"opencv-{mode}": Method(f"opencv-{mode}", partial(_opencv, mode=mode))
        for mode in ("fast", "quality")
    }
    names = [name for name in one if name.split("-")[0] != "profile" and name != "search-single-2x"]
    defaults = partial(reference_selective_search, k=1.0, sigma=0.8, min_size=50)  # the package's own
    two = search_methods(threads=2)
    two["opencv-fast"] = Method("opencv-fast", partial(_opencv, mode="fast", threads=2))
    return [
        *chosen(names, one),
        *(Method(name + TWO_THREADS, two[name].propose) for name in ON_TWO),
        Method("selectivesearch", defaults, images=slow_images),
    ]


def _opencv(image: RGB, mode: Literal["fast", "quality"], threads: int = 1) -> Proposals:
    """Return OpenCV's boxes in its own order, by ranks that it draws at random."""
    with _opencv_threads(threads):
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))  # it wants BGR
        if mode == "fast":
            search.switchToSelectiveSearchFast()
        else:
            search.switchToSelectiveSearchQuality()
        found = search.process().astype(np.float32)  # R x (x, y, width, height)
    return Proposals.of(as_boxes(np.hstack([found[:, :2], found[:, :2] + found[:, 2:]])), Source.REFERENCE)


@contextmanager
def _opencv_threads(count: int) -> Iterator[None]:
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(1)


def _tables(name: str, methods: Sequence[Method], records: Sequence[AnnotatedImage]) -> Iterator[Table]:
    """Run the methods on a set; its tables of cost, of coverage and of threads."""
    runs = {run.name: run for run in run_methods(methods, records)}
    measured = [figures(run, records, BUDGETS) for run in runs.values()]
    yardsticks = [runs[name].seconds for name in YARDSTICKS]
    objects = sum(len(record.boxes) for record in records)
    yield _cost_table(
        f"{name}: {len(records)} pictures, {objects} objects", measured, yardsticks, len(records)
    )
    for measure in ("recall@0.5", "MABO"):
        yield Table.of(
            f"{name}: {measure} of so many boxes",
            [Column(f"{measure}, %"), *(Column(budget, "", ".1f") for budget in budget_names(measured[0]))],
            [
                [_label(one, len(records)), *(100 * share for share in one.measures[measure])]
                for one in measured
                if not one.name.endswith(TWO_THREADS)  # threads change the time alone
            ],
        )
    yield _threads_table(f"{name}: threads", {one.name: one.seconds for one in measured})


def _cost_table(
    title: str, measured: Sequence[MethodFigures], yardsticks: Sequence[Sequence[float]], images: int
) -> Table:
    rows = []
    for one in measured:
        found = one.measures["recall@0.5"][-1] * one.objects / one.images  # objects a picture
        rows.append(
            [
                _label(one, images),
                one.seconds,
                *(float(np.median(their[: one.images])) / one.seconds for their in yardsticks),
                one.boxes,
                1e3 * one.seconds / found,
                1e6 * one.seconds / one.boxes,
            ]
        )
    return Table.of(
        title,
        [
            Column("method"),
            Column("", "s/picture", ".3f"),
            *(Column(f"{name} / it", "", ".2f") for name in YARDSTICKS),
            Column("boxes", "", ".0f"),
            Column("", "ms/object found", ".1f"),
            Column("", "us/box", ".0f"),
        ],
        rows,
        [
            "Seconds a picture are the median, and how many times less they are than each yardstick's on the "
            "same pictures; an object is found where any box overlaps it by half."
        ],
    )


def _threads_table(title: str, seconds: Mapping[str, float]) -> Table:
    pairs = [(name, seconds[name], seconds[name + TWO_THREADS]) for name in ON_TWO]
    return Table.of(
        title,
        [
            Column("method"),
            Column("1 thread,", "s/picture", ".3f"),
            Column("2 threads,", "s/picture", ".3f"),
            Column("speed-up", "", ".2f"),
        ],
        [[name, one, two, one / two] for name, one, two in pairs],
    )


def _label(one: MethodFigures, images: int) -> str:
    return one.name if one.images == images else f"{one.name} ({one.images} of them)"


if __name__ == "__main__":
    run_script(main)
