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

# Before anything imports cv2, so that it is the contrib build.
sys.path.insert(0, str(Path(sys.prefix) / "peers"))

import cv2
import numpy as np
import torch
from tyro.conf import arg

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import Format, open_dataset
from detector.errors import DetectorError
from detector.evaluation.measured_table import aligned
from detector.evaluation.proposal_methods import Method, chosen, detector_methods, run_methods, search_methods
from detector.evaluation.proposal_recall import ALL, MethodFigures, figures
from detector.evaluation.tables import budget_names, percent
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
) -> None:
    """Print a table of coverage, one of cost, and one of two threads, for each set of pictures."""
    if not hasattr(cv2, "ximgproc"):
        raise SystemExit(
            f"error: {Path(sys.prefix) / 'peers'} lacks OpenCV's contrib build: run `make peers`"
        )
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        sets = {str(data): open_dataset(data, Format.VOC).read().records[::every]}
        if ilsvrc is not None:
            sets[f"{ilsvrc}, DET val"] = open_dataset(ilsvrc, Format.ILSVRC).read("val").records[::every]
        methods = _methods(weights, slow_images)
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    print(f"OpenCV {cv2.__version__}, numpy {np.__version__}, torch {torch.__version__}")
    for name, records in sets.items():
        _report(name, methods, records)


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
    """OpenCV's boxes in its own order, by ranks that it draws at random."""
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


def _report(name: str, methods: Sequence[Method], records: Sequence[AnnotatedImage]) -> None:
    runs = {run.name: run for run in run_methods(methods, records)}
    measured = [figures(run, records, BUDGETS) for run in runs.values()]
    yardsticks = [runs[name].seconds for name in YARDSTICKS]
    print(f"\n{name}: {len(records)} pictures, {sum(len(record.boxes) for record in records)} objects\n")
    print(_cost_table(measured, yardsticks, len(records)))
    for measure in ("recall@0.5", "MABO"):
        rows = [[f"{measure}, %", *budget_names(measured[0])]]
        rows += [
            [_label(one, len(records)), *percent(one.measures[measure])]
            for one in measured
            if not one.name.endswith(TWO_THREADS)  # threads change the time alone
        ]
        print(f"\n{aligned(rows)}")
    print(f"\n{_threads_table({one.name: one.seconds for one in measured})}")


def _cost_table(measured: Sequence[MethodFigures], yardsticks: Sequence[Sequence[float]], images: int) -> str:
    """Seconds a picture are the median, and how many times less they are than each yardstick's on the same
    pictures; an object is found where any box overlaps it by half."""
    rows = [["", "s/picture", *(f"{name} / it" for name in YARDSTICKS), "boxes", "ms/object found", "us/box"]]
    for one in measured:
        found = one.measures["recall@0.5"][-1] * one.objects / one.images  # objects a picture
        rows.append(
            [
                _label(one, images),
                f"{one.seconds:.3f}",
                *(f"{np.median(their[: one.images]) / one.seconds:.2f}" for their in yardsticks),
                f"{one.boxes:.0f}",
                f"{1e3 * one.seconds / found:.1f}",
                f"{1e6 * one.seconds / one.boxes:.0f}",
            ]
        )
    return aligned(rows)


def _threads_table(seconds: Mapping[str, float]) -> str:
    rows = [["seconds a picture", "1 thread", "2 threads", "speed-up"]]
    for name in ON_TWO:
        one, two = seconds[name], seconds[name + TWO_THREADS]
        rows.append([name, f"{one:.3f}", f"{two:.3f}", f"{one / two:.2f}"])
    return aligned(rows)


def _label(one: MethodFigures, images: int) -> str:
    return one.name if one.images == images else f"{one.name} ({one.images} of them)"


if __name__ == "__main__":
    run_script(main)
