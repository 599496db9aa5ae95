"""Measure detectors by the ILSVRC detection rule, all of them on the same proposals in one run.

    python training/evaluate_det.py --data ilsvrc --weights bvlc.safetensors --weights detector.safetensors

A checkpoint that only classifies is folded onto the 200 classes: what it finds without any training.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from detector.boxes import Boxes
from detector.checkpoints import load_checkpoint, save_checkpoint
from detector.datasets.ilsvrc_det import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.datasets.record import Record
from detector.detection import Detector
from detector.errors import DetectorError
from detector.evaluation.blacklist import read_blacklist
from detector.evaluation.det_table import det_summary, det_table
from detector.evaluation.ilsvrc_det import DetEvaluation, evaluate_det
from detector.evaluation.recall import proposal_recall
from detector.folding import fold
from detector.images import load
from detector.pretrained import SHIPPED
from detector.proposals import Proposals, Source
from training.proposal_cache import cached_proposals

SCORE_THRESHOLD = 0.001
MAX_DETECTIONS = 1000


@dataclass(frozen=True)
class Measured:
    """One detector's figures."""

    detector: Detector
    evaluation: DetEvaluation
    seconds: float


def main(
    data: Annotated[Path, typer.Option(help="The folder that holds ILSVRC/ in its official layout.")],
    weights: Annotated[list[Path] | None, typer.Option(help="Checkpoint; give it again for more.")] = None,
    split: Annotated[str, typer.Option(help="val, or another list of ImageSets/DET.")] = "val",
    max_proposals: Annotated[int, typer.Option(help="Regions a picture.")] = 120,
    blacklist: Annotated[Path | None, typer.Option(help="The official blacklist of the split.")] = None,
    on_problem: Annotated[OnProblem, typer.Option(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    cache: Annotated[Path, typer.Option(help="Folder that keeps proposals.")] = Path("runs/cache/proposals"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    record: Annotated[
        bool, typer.Option(help="Write each detector's mAP into its checkpoint's metadata.")
    ] = False,
    every: Annotated[int, typer.Option(help="Measure every Nth picture only.")] = 1,
) -> None:
    """Print AP of every class, and one line a detector."""
    try:
        dataset = read_ilsvrc_det(data, split, on_problem=on_problem)
        for problem in dataset.problems:
            print(f"{problem.image_id}: {problem.kind}: {problem.message}")
        records = dataset.records[::every]
        banned = (
            read_blacklist(blacklist, data / f"ILSVRC/ImageSets/DET/{split}.txt")
            if blacklist
            else frozenset()
        )
        boxes = [found[:max_proposals] for found in cached_proposals(records, cache)]
        paths = weights or [SHIPPED]
        detectors = [_detector(path, device) for path in paths]
        measured = [_measure(detector, records, boxes, banned) for detector in detectors]
        if record:
            for path, one in zip(paths, measured, strict=True):
                _record(path, one, f"DET/{split} mAP, {max_proposals} proposals, {len(records)} pictures")
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    _print(measured, records, boxes)


def _detector(path: Path, device: str) -> Detector:
    checkpoint = load_checkpoint(path)
    return Detector(checkpoint if checkpoint.metadata.detection else fold(checkpoint), device=device)


def _measure(
    detector: Detector, records: Sequence[Record], boxes: Sequence[Boxes], banned: frozenset[tuple[str, int]]
) -> Measured:
    found = {}
    seconds = []
    pairs = zip(records, boxes, strict=True)
    for record, proposals in tqdm(pairs, total=len(records), desc=detector.name, unit="picture"):
        image = load(record.path)
        start = time.perf_counter()
        regions = detector.score(image, Proposals.of(proposals, Source.SELECTIVE_SEARCH))
        found[record.image_id] = detector.select(
            regions, score_threshold=SCORE_THRESHOLD, max_detections=MAX_DETECTIONS
        )
        seconds.append(time.perf_counter() - start)
    evaluation = evaluate_det(records, found, len(detector.classes), banned)
    return Measured(detector, evaluation, float(np.median(seconds)))


def _record(path: Path, measured: Measured, measure: str) -> None:
    checkpoint = load_checkpoint(path)
    metrics = {**checkpoint.metadata.metrics, measure: round(measured.evaluation.mean_ap, 4)}
    save_checkpoint(path, replace(checkpoint, metadata=replace(checkpoint.metadata, metrics=metrics)))


def _print(measured: Sequence[Measured], records: Sequence[Record], boxes: Sequence[Boxes]) -> None:
    truth = [record.boxes for record in records]
    budget = max(map(len, boxes), default=1)
    recall = {iou: proposal_recall(truth, boxes, iou, [budget]).recall[0] for iou in (0.5, 0.7)}
    for one in measured:
        print(f"\n{one.detector.name}\n{det_table(one.evaluation, one.detector.classes)}")
    print(
        f"\n{len(records)} pictures, {np.mean([len(found) for found in boxes]):.0f} proposals a picture, "
        f"covering {recall[0.5]:.1%} of the objects at IoU 0.5, {recall[0.7]:.1%} at 0.7\n"
    )
    width = max(len(one.detector.name) for one in measured)
    for one in measured:
        print(f"{one.detector.name:<{width}}  {one.seconds:6.2f} s a picture  {det_summary(one.evaluation)}")


if __name__ == "__main__":
    typer.run(main)
