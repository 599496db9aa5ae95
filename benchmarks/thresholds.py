"""How well thresholds for a wanted precision keep their word: measured on half of the pictures, tried on the
other half, for several weights of what is known of all classes (``PRIOR``).

    python benchmarks/thresholds.py --data ilsvrc --every 2 --profile fast --cache detections
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

from detector.cli.command_line import at_least, run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.datasets.open import Format
from detector.datasets.problems import OnProblem
from detector.evaluation.det_evaluation import DetEvaluation, evaluate
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.matching import Rule
from detector.evaluation.measured_table import Column, Table
from detector.evaluation.run_record import Data
from detector.evaluation.thresholds import measure_thresholds, threshold_figures
from detector.evaluation.voc import VOC
from detector.options import Profile
from detector.pretrained import SHIPPED
from training.evaluating.configurations import make_systems
from training.evaluating.data import open_measured
from training.evaluating.run import ProfileRun, run_candidates

PRIORS = (1e-6, 5, 10, 20, 1e6)
WANTED = (0.6, 0.7, 0.8)
BENCHMARK = Benchmark(
    "thresholds",
    "Thresholds for a wanted precision",
    "How well thresholds that were measured on half of the pictures keep their word on the other half, and "
    "which share of the objects they leave.",
)


def main(
    data: Annotated[Path, arg(help="The folder of the data set.")],
    weights: Annotated[Path, arg(help="Checkpoint.")] = SHIPPED,
    profile: Annotated[Profile, arg(help="Where to look.")] = Profile.FAST,
    every: Annotated[int, at_least(1), arg(help="Look at every Nth picture only.")] = 1,
    halves: Annotated[int, at_least(1), arg(help="How often the pictures are halved by chance.")] = 8,
    cache: Annotated[Path | None, arg(help="Keep the detections of each picture there.")] = None,
    saving: SavingOptions = NOT_SAVED,
) -> None:
    """Print the precision that other pictures have, and the share of their objects that is found."""
    measured = open_measured(
        data, format=None, split=None, on_problem=OnProblem.REPORT, every=every, images_needed=True
    )
    (system,) = make_systems([weights], ensemble=False, scorings=[], device="cpu")
    cache_of = system.cache_of(cache, None) if cache is not None else None
    used = Data(f"{saving.name_of(data)}, {measured.name}", len(measured.records))
    setting = f"{profile}, the pictures halved by chance {halves} times"
    with saving.recording(BENCHMARK, used, setting, folder=data) as recording:
        (run,) = run_candidates(system.candidates, [profile], measured.records, cache_of=cache_of)
        rule = ILSVRC if measured.folder.format is Format.ILSVRC else VOC
        random = np.random.default_rng(0)
        recording.show(_table([_halves(run, rule, random) for _ in range(halves)]))


def _table(parts: list[list[DetEvaluation]]) -> Table:
    rows = []
    for wanted in WANTED:
        for prior in PRIORS:
            kept = [_kept(*pair, wanted, prior) for half in parts for pair in (half, half[::-1])]
            precision, found = np.nanmean(kept, axis=0).tolist()
            rows.append([wanted, prior, precision, float(np.nanstd([one for one, _ in kept])), found])
    return Table.of(
        "",
        [
            Column("wanted"),
            Column("prior", "", "g"),
            Column("precision", "", ".3f"),
            Column("+-", "", ".3f"),
            Column("found", "", ".3f"),
        ],
        rows,
    )


def _halves(run: ProfileRun, rule: Rule, random: np.random.Generator) -> list[DetEvaluation]:
    """Judge the detections of either half of the pictures."""
    order = random.permutation(len(run.records))
    evaluations = []
    for chosen in np.array_split(order, 2):
        records = [run.records[number] for number in chosen]
        found = {record.image_id: run.detections[record.image_id] for record in records}
        evaluations.append(evaluate(records, found, len(run.detector.classes), rule))
    return evaluations


def _kept(measured: DetEvaluation, tried: DetEvaluation, wanted: float, prior: float) -> tuple[float, float]:
    """Return the precision of what the thresholds of one evaluation show of another, and the share found."""
    figures = threshold_figures(tried, measure_thresholds(measured, wanted, prior=prior))
    shown, right = sum(one.shown for one in figures), sum(one.right for one in figures)
    return right / shown if shown else float("nan"), right / sum(one.objects for one in figures)


if __name__ == "__main__":
    run_script(main)
