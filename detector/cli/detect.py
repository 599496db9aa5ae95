"""The commands ``detector detect`` and ``detector classify``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from detector.cli.command_line import at_least
from detector.cli.image_run import ImageRun
from detector.inference.detector import MAX_DETECTIONS, SCORE_THRESHOLD
from detector.inference.loading import load_classifier, load_detector
from detector.io.visualization import draw
from detector.options import MIN_TILE, Engine, Precision, Profile
from detector.pretrained import SHIPPED

Images = Annotated[
    Sequence[Path],
    Positional,
    arg(
        metavar="IMAGE|DIR...",
        help="Pictures, or folders searched for them.",
        help_behavior_hint="(required)",
    ),
]
Json = Annotated[
    Path | None,
    arg(
        name="json",
        help="Write the result as JSON, an entry for each picture that could be read; '-': standard output.",
    ),
]
Weights = Annotated[
    Sequence[Path],
    UseAppendAction,
    arg(
        help="Checkpoint to use instead of the shipped one; given several times, an ensemble: the average of "
        "all."
    ),
]
Device = Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")]
EngineName = Annotated[Engine, arg(help="What runs the network; torch is needed for a GPU.")]
PrecisionName = Annotated[Precision, arg(help="What it computes in; int8 needs calibrated weights.")]


def detect(
    images: Images,
    json_file: Json = None,
    draw_folder: Annotated[Path | None, arg(name="draw", help="Draw the boxes into this folder.")] = None,
    weights: Weights = (),
    score_threshold: Annotated[float, arg(help="Leave out less certain objects.")] = SCORE_THRESHOLD,
    max_detections: Annotated[int, arg(help="Objects a picture, at most.")] = MAX_DETECTIONS,
    profile: Annotated[
        Profile | None,
        arg(
            help="Where to look. fast: what MultiBox sees at a glance; balanced: that and selective search; "
            "thorough: both, for small things too; paper: all boxes of both, each warped, as in 2014; "
            "search: selective search alone [balanced, if the weights allow]."
        ),
    ] = None,
    max_proposals: Annotated[
        int | None, at_least(1), arg(help="Regions a picture, at most [the profile's own number].")
    ] = None,
    tile: Annotated[
        int | None,
        at_least(MIN_TILE),
        arg(
            help="Also look at overlapping squares of so many pixels of larger pictures: finds small objects."
        ),
    ] = None,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
) -> None:
    """Find objects in pictures.

    Folders are searched with all below them, except what systems leave there (hidden files, @eaDir,
    __MACOSX). What cannot be read is named on standard error, one line each (in folders, pictures of other
    kinds such as HEIC in one line for all), and is not part of the result; the others go on, and the exit
    status is 1. An interrupted run (Ctrl-C) keeps what it has found.
    """
    with ImageRun("detections", json_file, draw_folder) as run:
        files = run.find(images, weights or [SHIPPED])
        detector = load_detector(
            weights or None,
            engine=engine,
            device=device,
            precision=precision,
            profile=profile,
            max_proposals=max_proposals,
        )
        for path, image in run.read(files):
            (found,) = detector.detect(
                [image.pixels], score_threshold=score_threshold, max_detections=max_detections, tile=tile
            )
            run.add(path, image, found.as_dicts(detector.classes))
            if draw_folder is not None:
                run.save_drawing(path, draw(image.pixels, found, detector.classes))


def classify(
    images: Images,
    json_file: Json = None,
    weights: Weights = (),
    top: Annotated[int, arg(help="Classes a picture.")] = 5,
    crops: Annotated[
        Literal[1, 10, 144],
        arg(
            help="Views a picture, averaged. 1: the whole of it; 10: corners and centre of its central "
            "square, and mirrored; 144: four scales, three squares, six crops of each, and mirrored."
        ),
    ] = 1,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
) -> None:
    """Name what whole pictures show.

    A score is the probability of a class, 0..1, averaged over the views and the weights. Ten views take ten
    times as long as one, and so on; several weights likewise, less what they have in common.

    Folders, unreadable pictures and interruptions are treated as by detect.
    """
    with ImageRun("classes", json_file) as run:
        files = run.find(images, weights or [SHIPPED])
        classifier = load_classifier(weights or None, engine=engine, device=device, precision=precision)
        for path, image in run.read(files):
            (found,) = classifier.classify([image.pixels], top=top, crops=crops)
            run.add(path, image, found.as_dicts(classifier.classes))
