"""From a data set to a measured detector: one training run or several, figures, report, next commands."""

import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from detector.datasets.annotated_image import Dataset
from detector.datasets.problems import OnProblem, left_out
from detector.errors import ParameterError
from detector.evaluation.thresholds import PRECISION
from detector.inference.loading import load_detector
from detector.inference.thresholds import Thresholds, check_precision
from detector.io.atomic_write import write_whole
from detector.io.terminal_text import utf8_text
from detector.models.checkpoint import Checkpoint, add_metrics, load_checkpoint
from detector.models.transfer import known_classes
from detector.models.weights import change_metadata
from training.finetune.measuring import Measured, measure
from training.finetune.report import RunFacts, report
from training.finetune.training_data import ChosenData, FurtherData, check_shown
from training.rcnn.finetuning import finetune, stages_through
from training.rcnn.mixing import DatasetSpec, spread
from training.rcnn.recipe import Recipe
from training.trainer.run_folder import check_utf8, run_folder

REPORT, FIGURES = "report.html", "figures.json"


@dataclass(frozen=True)
class Plan:
    """What to train, and where to put it.

    ``members`` runs differ in their seed, and so in the regions they draw and in their order (arXiv
    1409.4842, section 7: six such networks). At most ``measured_images`` of the validation images are
    measured; the thresholds that go into the checkpoint are those from which on ``precision_wanted`` of what
    is shown is right there. ``cache`` is the folder for proposals and maps, which take ``cache_gib`` at most,
    or else images are streamed by ``workers`` processes. ``also`` are further data sets to learn from.
    ``on_problem`` says what happens at an image that can no longer be read.
    """

    data: ChosenData
    init: Checkpoint
    recipe: Recipe
    output: Path
    cache: Path
    name: str
    members: int = 1
    measured_images: int = 1000
    precision_wanted: float = PRECISION
    device: str = "auto"
    cache_gib: float = 16.0
    workers: int | None = None
    also: Sequence[FurtherData] = ()
    on_problem: OnProblem = OnProblem.REPORT

    @property
    def data_name(self) -> str:
        """The names of the data sets that it is trained on."""
        return ", ".join([self.data.name, *(further.name for further in self.also)])

    def check(self) -> None:
        """Check, before anything is computed, what would fail later. Raises DetectorError."""
        if self.members < 1:
            raise ParameterError(f"--members must be at least 1, got {self.members}")
        if self.recipe.iterations < 1:
            raise ParameterError(f"--iterations must be at least 1, got {self.recipe.iterations}")
        check_precision(self.precision_wanted)
        stages_through(self.init, self.recipe.frozen_through)
        check_shown(self.data, known_classes(self.init, self.data.classes))
        for folder in (self.output, self.cache):
            _check_writable(folder)


def make_detector(plan: Plan) -> list[Path]:
    """Train, measure and report; return the checkpoints. Called again after a kill, it resumes.

    Under torchrun every process trains, and the first one measures and reports. Raises DetectorError for what
    cannot be used, and where another run uses the folder.
    """
    started = time.monotonic()
    plan.check()
    with run_folder(plan.output):
        paths = [_train(plan, number) for number in range(plan.members)]
        if int(os.environ.get("RANK", "0")) == 0:
            measured = _measure(plan, paths)
            _write(plan, paths, measured, (time.monotonic() - started) / 60)
    return paths


def _train(plan: Plan, number: int) -> Path:
    """Train one member; the only one is written into the output folder itself."""
    alone = plan.members == 1
    data = plan.data
    return finetune(
        [DatasetSpec(data.train), *(further.spec for further in plan.also)],
        plan.init,
        data.classes,
        plan.output if alone else plan.output / f"member-{number + 1}",
        replace(plan.recipe, seed=plan.recipe.seed + number),
        cache=plan.cache,
        name=plan.name if alone else f"{plan.name}-{number + 1}",
        data_name=plan.data_name,
        validation=Dataset(spread(data.validation.records, plan.measured_images), data.validation.class_ids),
        device=plan.device,
        cache_gib=plan.cache_gib,
        workers=plan.workers,
        on_problem=plan.on_problem,
    )


def _measure(plan: Plan, paths: Sequence[Path]) -> list[Measured]:
    records = spread(plan.data.validation.records, plan.measured_images)
    measured = []
    for path in paths:
        detector = load_detector(path, device=plan.device)
        of_member = measure(detector, detector.name, records, plan.data.rule, plan.precision_wanted)
        measured.append(of_member)
        add_metrics(path, {of_member.measure: of_member.evaluation.mean_ap})
        change_metadata(path, path, thresholds=of_member.thresholds if of_member.thresholds.reached else None)
    if len(paths) > 1:
        together = load_detector(paths, device=plan.device)
        measured.append(
            measure(together, f"all {len(paths)} together", records, plan.data.rule, plan.precision_wanted)
        )
    return measured


def _write(plan: Plan, paths: Sequence[Path], measured: Sequence[Measured], minutes: float) -> None:
    """Write the report and the figures for programs; print the results and the next commands."""
    image = shlex.quote(str(measured[-1].records[0].path))
    options = " ".join(f"--weights {shlex.quote(str(path))}" for path in paths)
    drawn = shlex.quote(str(plan.output / "drawn"))
    commands = [
        f"detector detect {image} {options} --draw {drawn}",
        f"make serve WEIGHTS={shlex.quote(':'.join(map(str, paths)))}",
        f"curl --data-binary @{image} -H 'Content-Type: image/jpeg' localhost:8000/detect",
    ]
    training = load_checkpoint(paths[0]).metadata.training
    runs = {path.parent.name if len(paths) > 1 else plan.name: path.parent for path in paths}
    page = report(plan.data, measured, RunFacts(plan.name, runs, training, commands, minutes))
    write_whole(plan.output / REPORT, utf8_text(page).encode())
    write_whole(plan.output / FIGURES, json.dumps(_figures(plan, measured), indent=1).encode())
    names = plan.data.classes.names
    last = measured[-1].evaluation
    lines = [
        f"\n{member.name}: mAP {100 * member.evaluation.mean_ap:.1f} % ({member.measure})"
        for member in measured
    ]
    lines.append(_about_thresholds(measured[-1].thresholds))
    if len(names) <= 30:
        lines += [f"  {name:<24} {100 * ap:5.1f}" for name, ap in zip(names, last.ap, strict=True)]
    lines += [f"detector  {path} ({path.stat().st_size / 2**20:.1f} MiB)" for path in paths]
    lines += [f"report    {plan.output / REPORT}", f"cache     {plan.cache} (delete it when you are done)"]
    lines += [f"next      {command}" for command in commands]
    tqdm.write("\n".join(lines))


def _about_thresholds(thresholds: Thresholds) -> str:
    wanted = f"{100 * thresholds.precision:.0f} %"
    if not thresholds.reached:
        return f"no score reaches a precision of {wanted}: score_threshold 'auto' has no thresholds to go by"
    common = "none" if thresholds.common is None else f"{thresholds.common:.3f}"
    return f"score threshold for {wanted} right: {common} of all classes together ('auto': each class's own)"


def _figures(plan: Plan, measured: Sequence[Measured]) -> dict[str, object]:
    names = plan.data.classes.names
    return {
        member.name: {
            "measure": member.measure,
            "mAP": round(member.evaluation.mean_ap, 4),
            "pictures": len(member.records),
            "left out": left_out(plan.data.validation.problems),
            "seconds a picture": round(member.seconds, 3),
            "precision wanted": member.thresholds.precision,
            "common threshold": member.thresholds.common,
            "thresholds": dict(zip(names, member.thresholds.scores, strict=True)),
            "AP": {
                names[i]: round(float(member.evaluation.ap[i]), 4)
                for i in member.evaluation.measured.nonzero()[0]
            },
        }
        for member in measured
    }


def _check_writable(folder: Path) -> None:
    check_utf8(folder)
    probe = folder / ".probe"
    try:
        write_whole(probe, b"")
        probe.unlink()
    except OSError as error:
        raise ParameterError(
            f"{folder} cannot be written to ({error.strerror}): name another folder with --output or --cache"
        ) from error
