"""The command ``detector batch``: a job over any number of pictures, which goes on where it was killed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from detector.bulk.chunk_detector import ChunkDetector
from detector.bulk.job import QUARANTINE, Job, open_job
from detector.bulk.plan import Plan
from detector.bulk.shards import Shard, results_of, shard_path
from detector.bulk.sources import TarMembers, sources_of
from detector.cli.command_line import at_least
from detector.cli.entry import needs_extra
from detector.cli.inputs import Inputs, note, tell
from detector.cli.interruption import Interrupted, interruptible
from detector.cli.network_options import (
    Classes,
    Device,
    EngineName,
    LeastScore,
    MaxDetections,
    MaxProposals,
    PrecisionName,
    ProfileName,
    Tile,
    Weights,
)
from detector.cli.progress import Progress
from detector.errors import ParameterError
from detector.inference.quarantine import Quarantine
from detector.inference.settings import DetectorSettings
from detector.inference.streaming import AHEAD
from detector.io.atomic_write import check_writable
from detector.io.result_files import CocoFile
from detector.io.terminal_text import printable_path
from detector.options import MAX_DETECTIONS, SCORE_THRESHOLD, Engine, Precision
from detector.pretrained import SHIPPED

SHARD_SIZE = 1000


class Runner(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


def batch(
    inputs: Annotated[
        Sequence[Path],
        Positional,
        arg(
            metavar="DIR|LIST|TAR|PARQUET...",
            help="Folders searched for pictures; lists of paths (.txt, or '-': what standard input lists); "
            "WebDataset's shards (.tar); Parquet files with a column of pictures; patterns in quotes.",
            help_behavior_hint="(required)",
        ),
    ],
    output: Annotated[Path, arg(help="Folder that gets the shards, part-00000.parquet and so on.")],
    coco_file: Annotated[
        Path | None, arg(name="coco", help="Write all that was found into one COCO file (.json) at the end.")
    ] = None,
    column: Annotated[
        str | None,
        arg(
            help="Column of Parquet files with the bytes, paths or addresses of pictures [image, url, path "
            "or another usual name]."
        ),
    ] = None,
    shard_size: Annotated[int, at_least(1), arg(help="Pictures a shard.")] = SHARD_SIZE,
    weights: Weights = (),
    score_threshold: LeastScore = SCORE_THRESHOLD,
    max_detections: MaxDetections = MAX_DETECTIONS,
    classes: Classes = None,
    profile: ProfileName = None,
    max_proposals: MaxProposals = None,
    tile: Tile = None,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
    read_ahead: Annotated[
        int,
        at_least(1),
        arg(help="Pictures read beyond those under way: some more where they come over a network."),
    ] = AHEAD,
    runner: Annotated[
        Runner, arg(help="local: this process; ray: workers on the machines of a Ray cluster.")
    ] = Runner.LOCAL,
    ray_address: Annotated[
        str | None,
        arg(help="Where the cluster is, as Ray writes it; local: start one here [RAY_ADDRESS, or one here]."),
    ] = None,
    workers: Annotated[
        int | None, at_least(1), arg(help="Workers on the cluster [one a GPU, else as many as find room].")
    ] = None,
    worker_cpus: Annotated[
        int | None, at_least(1), arg(help="Processors a worker [4, or its share beside a GPU].")
    ] = None,
) -> None:
    """Find objects in very many pictures, into Parquet files with a row a picture.

    The work is cut into shards, by the order of the inputs, before it begins; a shard appears when all of it
    is done. A run that was killed goes on when the same command is given again: shards that are there stay.
    A folder with the shards of other inputs, weights or settings is refused. A picture that cannot be read
    is a row with its error, and the exit status is 1.
    """
    if runner is Runner.LOCAL and (ray_address or workers or worker_cpus):
        raise ParameterError("--ray-address, --workers and --worker-cpus are for --runner ray: name that too")
    if coco_file is not None:
        if coco_file.suffix.lower() != ".json":
            raise ParameterError(f"{printable_path(coco_file)} is to hold JSON: name it .json")
        check_writable(coco_file)
    settings = DetectorSettings(
        weights=tuple(weights) or (SHIPPED,),
        engine=engine,
        device=device,
        precision=precision,
        profile=profile,
        max_proposals=max_proposals,
        score_threshold=score_threshold,
        max_detections=max_detections,
        classes=classes,
        tile=tile,
    )
    if runner is Runner.RAY:
        with needs_extra("ray", "detector batch --runner ray"):
            make = _on_ray(settings, read_ahead, ray_address, workers, worker_cpus)
    else:
        make = _locally(settings, read_ahead)
    plan, complete = _plan(inputs, column, shard_size)
    with open_job(output, plan, settings) as job, interruptible():
        try:
            _run(job, make)
            if coco_file is not None:
                _write_coco(coco_file, job, settings)
        except Interrupted as signal:
            note(f"interrupted after {job.done} of {len(plan)} pictures: the same command goes on")
            raise SystemExit(128 + signal.number) from None
        print(f"{printable_path(output)}: {len(plan)} pictures in {plan.shards} shards")
        if job.failed:
            tell(f"{job.failed} of {len(plan)} pictures could not be read: their rows have an error")
    if job.failed or not complete:
        raise SystemExit(1)


Make = Callable[[Job, list[int], Callable[[int], object]], Iterator[Shard]]
"""Makes the shards of a job that are given by their numbers; calls a function with how many pictures were
done since."""


def _plan(named: Sequence[Path], column: str | None, shard_size: int) -> tuple[Plan, bool]:
    """Find the pictures, and whether all that is named could be had.

    Raises SystemExit, with status 1, where there are none.
    """
    found = Inputs(tell)
    sources = sources_of((entry.path for entry in found.each(named)), Path.cwd(), column)
    doubtful = [source for source in sources if isinstance(source, TarMembers) and source.doubt]
    for source in doubtful:
        tell(f"{printable_path(source.name)}: {source.doubt}: {len(source)} pictures of it are looked at")
    plan = Plan(sources, shard_size)
    if found.drawings:
        note(f"{found.drawings} drawings of other runs are passed over")
    if not len(plan):
        if not found.incomplete:
            tell("the inputs hold no pictures")
        raise SystemExit(1)
    return plan, not found.incomplete and not doubtful


def _run(job: Job, make: Make) -> None:
    """Make what is not there yet."""
    numbers = job.pending()
    if job.done:
        note(f"{job.plan.shards - len(numbers)} of {job.plan.shards} shards are there, and stay")
    if not numbers:
        return
    with (
        Progress(len(job.plan), job.done, "pictures") as progress,
        closing(make(job, numbers, progress.add)) as shards,  # type: ignore[type-var]
    ):
        for shard in shards:
            job.keep(shard)


def _locally(settings: DetectorSettings, read_ahead: int) -> Make:
    """Return what makes shards in this process."""

    def make(job: Job, numbers: list[int], count: Callable[[int], object]) -> Iterator[Shard]:
        with Quarantine(job.folder / QUARANTINE) as quarantine:
            detector = ChunkDetector(settings, read_ahead=read_ahead, quarantine=quarantine)
            yield from detector.shards(job.chunks(numbers), job.digest, lambda: count(1))

    return make


def _on_ray(
    settings: DetectorSettings,
    read_ahead: int,
    address: str | None,
    count: int | None,
    cpus: int | None,
) -> Make:
    """Return what makes shards on a Ray cluster. Raises ModuleNotFoundError where Ray is not installed."""
    from detector.bulk.ray_runner import Workers, cluster, run_on_ray

    def make(job: Job, numbers: list[int], progress: Callable[[int], object]) -> Iterator[Shard]:
        with cluster(address):
            workers = Workers.of_cluster(settings.device, count, cpus)
            note(f"workers: {workers.count}, each with processors: {workers.cpus}, GPUs: {workers.gpus}")
            chunks = job.chunks(numbers)
            with closing(run_on_ray(settings, chunks, job.digest, workers, read_ahead)) as shards:  # type: ignore[type-var]
                for shard in shards:
                    yield shard
                    progress(shard.pictures)

    return make


def _write_coco(path: Path, job: Job, settings: DetectorSettings) -> None:
    file = CocoFile(path, settings.class_list())
    for number in range(job.plan.shards):
        for result in results_of(shard_path(job.folder, number)):
            file.add(result, Path(result["image"]))
    file.close()
