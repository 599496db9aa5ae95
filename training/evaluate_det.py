"""Measure detectors by the ILSVRC detection rule, by one profile or several, in one run.

    python training/evaluate_det.py --data ilsvrc --weights bvlc.safetensors --weights detector.safetensors
    python training/evaluate_det.py --data ilsvrc --profile fast --profile balanced --profile paper --every 4

A checkpoint that only classifies is folded onto the 200 classes: what it finds without any training.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from detector.checkpoints import load_checkpoint, save_checkpoint
from detector.datasets.ilsvrc_det import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.datasets.record import Record
from detector.detection import Detector
from detector.errors import DetectorError
from detector.evaluation.blacklist import read_blacklist
from detector.evaluation.by_class import DetEvaluation
from detector.evaluation.det_table import det_summary, det_table
from detector.folding import fold
from detector.images import load
from detector.pretrained import SHIPPED
from detector.proposals import Profile
from training.det_run import ProfileRun, profile_table, run_profiles


def main(
    data: Annotated[Path, typer.Option(help="The folder that holds ILSVRC/ in its official layout.")],
    weights: Annotated[list[Path] | None, typer.Option(help="Checkpoint; give it again for more.")] = None,
    profile: Annotated[
        list[Profile] | None,
        typer.Option(
            help="Where to look; give it again for more. If not given, balanced for weights with a MultiBox "
            "head, else search. With several, regions that they share are scored once, and the seconds of "
            "each are those of its proposals plus so many regions at the measured seconds a region."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="val, or another list of ImageSets/DET.")] = "val",
    max_proposals: Annotated[
        int | None, typer.Option(help="Regions a picture; if not given, each profile's own number.", min=1)
    ] = None,
    blacklist: Annotated[Path | None, typer.Option(help="The official blacklist of the split.")] = None,
    on_problem: Annotated[OnProblem, typer.Option(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    record: Annotated[
        bool, typer.Option(help="Write each detector's mAP into its checkpoint's metadata.")
    ] = False,
    every: Annotated[int, typer.Option(help="Measure every Nth picture only.", min=1)] = 1,
) -> None:
    """Print AP of every class, and one line a detector and profile."""
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
        paths = weights or [SHIPPED]
        detectors = [_detector(path, device) for path in paths]
        chosen = [list(dict.fromkeys(profile or [detector.profile])) for detector in detectors]
        _warm_up(detectors, chosen, records)
        measured = []
        for path, detector, mine in zip(paths, detectors, chosen, strict=True):
            runs = run_profiles(detector, mine, records, max_proposals)
            judged = [(run, run.evaluate(records, banned)) for run in runs]
            if record:
                _record(path, judged, f"DET/{split} mAP", f"{len(records)} pictures")
            measured += judged
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    _print(measured, records)


def _detector(path: Path, device: str) -> Detector:
    checkpoint = load_checkpoint(path)
    return Detector(checkpoint if checkpoint.metadata.detection else fold(checkpoint), device=device)


def _warm_up(
    detectors: Sequence[Detector], chosen: Sequence[Sequence[Profile]], records: Sequence[Record]
) -> None:
    """Propose once by all profiles before any time is taken: what is to be compiled is, and weights that
    cannot serve a profile say so at once."""
    for record in records[:1]:
        image = load(record.path)
        for detector, profiles in zip(detectors, chosen, strict=True):
            for profile in profiles:
                detector.propose(image, profile)


def _record(path: Path, measured: Sequence[tuple[ProfileRun, DetEvaluation]], measure: str, on: str) -> None:
    """Write mean AP into the checkpoint's metadata, by profile."""
    checkpoint = load_checkpoint(path)
    metrics = {
        f"{measure}, {run.profile}, {run.boxes:.0f} proposals, {on}": round(evaluation.mean_ap, 4)
        for run, evaluation in measured
    }
    metadata = replace(checkpoint.metadata, metrics={**checkpoint.metadata.metrics, **metrics})
    save_checkpoint(path, replace(checkpoint, metadata=metadata))


def _print(measured: Sequence[tuple[ProfileRun, DetEvaluation]], records: Sequence[Record]) -> None:
    for run, evaluation in measured:
        print(f"\n{run.name}\n{det_table(evaluation, run.detector.classes)}")
        print(f"{det_summary(evaluation)}")
    print(f"\n{len(records)} pictures\n\n{profile_table(measured, [record.boxes for record in records])}")


if __name__ == "__main__":
    typer.run(main)
