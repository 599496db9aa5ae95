"""The commands ``detector detect`` and ``detector classify``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from detector.cli.command_line import at_least
from detector.cli.image_run import ImageRun, Output
from detector.cli.network_options import (
    Classes,
    Device,
    EngineName,
    Explain,
    LeastScore,
    MaxDetections,
    MaxProposals,
    PrecisionName,
    ProfileName,
    Tile,
    Weights,
)
from detector.errors import ParameterError
from detector.inference.classifier import Classifier
from detector.inference.explanation import check_explain
from detector.inference.loading import load_ensemble
from detector.inference.settings import DetectorSettings
from detector.io.result_files import Format, format_of
from detector.options import MAX_DETECTIONS, SCORE_THRESHOLD, Engine, Precision
from detector.pretrained import SHIPPED

_OPEN_DESCRIPTOR = Path("/dev/stdout")

Images = Annotated[
    Sequence[Path],
    Positional,
    arg(
        metavar="IMAGE|DIR|LIST|VIDEO...",
        help="Pictures; folders searched for them; patterns in quotes; lists of paths (.txt, or '-': what "
        "standard input lists); videos.",
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
JsonLinesFile = Annotated[
    Path | None,
    arg(
        name="jsonl",
        help="Write a line of JSON for each picture as it is done, and for each that failed one into "
        "NAME.errors.jsonl beside it.",
    ),
]
Resume = Annotated[
    bool, arg(help="Go on with the file of --jsonl: pictures that it holds are not looked at again.")
]
OutputFile = Annotated[
    Path | None, arg(name="output", help="Write the result in the form of --format; yolo and voc: a folder.")
]
OutputFormat = Annotated[
    Format | None, arg(name="format", help="Form of --output [by its name: .json, .jsonl, .csv].")
]
ErrorsFile = Annotated[
    Path | None, arg(name="errors", help="Write a line of JSON for each picture that failed into this file.")
]
Every = Annotated[int, at_least(1), arg(help="Look at every so many frames of a video.")]


def detect(
    images: Images,
    json_file: Json = None,
    jsonl_file: JsonLinesFile = None,
    resume: Resume = False,
    output: OutputFile = None,
    form: OutputFormat = None,
    draw_folder: Annotated[
        Path | None, arg(name="draw", help="Draw the boxes into this folder, also as videos.")
    ] = None,
    crops_folder: Annotated[
        Path | None, arg(name="save-crops", help="Cut the objects out into this folder, a folder a class.")
    ] = None,
    explain: Explain = 0,
    explain_folder: Annotated[
        Path | None,
        arg(
            name="explain-to",
            help="Draw each explanation into this folder: a heat map over the picture, and the factors.",
        ),
    ] = None,
    errors_file: ErrorsFile = None,
    weights: Weights = (),
    score_threshold: LeastScore = SCORE_THRESHOLD,
    max_detections: MaxDetections = MAX_DETECTIONS,
    classes: Classes = None,
    profile: ProfileName = None,
    max_proposals: MaxProposals = None,
    tile: Tile = None,
    every: Every = 1,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
) -> None:
    """Find objects in pictures and videos.

    Folders are searched with all below them, except what systems leave there (hidden files, @eaDir,
    __MACOSX). What cannot be read is named on standard error, one line each (in folders, pictures of other
    kinds such as raw ones in one line for all), and is not part of the result; the others go on, and the exit
    status is 1. An interrupted run (Ctrl-C) keeps what it has found, a killed one what --jsonl has written,
    and --resume goes on with it.
    """
    outputs = _outputs(json_file, jsonl_file, output, form)
    _check_explain(explain, explain_folder, tile, outputs)
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
    with ImageRun(
        "detections",
        outputs,
        draw_folder=draw_folder,
        crops_folder=crops_folder,
        explain_folder=explain_folder,
        errors_file=errors_file,
        resume=resume,
        every=every,
    ) as run:
        files = run.find(images, settings.weights)
        detector = settings.load().for_streams
        find = settings.finder(detector, explain=explain)
        for looked in run.look(
            files,
            lambda image, executor: find(image.pixels, executor=executor),
            detector.classes,
            detector.ensemble.streams,
        ):
            found = looked.found
            if looked.pixels is not None and draw_folder is not None:
                run.save_drawing(looked, found.draw(looked.pixels))
            if looked.pixels is not None and crops_folder is not None:
                run.save_crops(looked, list(zip(found.names, found.crops(looked.pixels), strict=True)))
            if looked.pixels is not None and explain_folder is not None:
                explained = range(min(explain, len(found)))
                run.save_explanations(
                    looked, (found.draw_explanation(looked.pixels, index) for index in explained)
                )
            run.add(looked, found.as_dicts())


def classify(
    images: Images,
    json_file: Json = None,
    jsonl_file: JsonLinesFile = None,
    resume: Resume = False,
    output: OutputFile = None,
    form: OutputFormat = None,
    errors_file: ErrorsFile = None,
    weights: Weights = (),
    top: Annotated[int, arg(help="Classes a picture.")] = 5,
    crops: Annotated[
        Literal[1, 10, 144],
        arg(
            help="Views a picture, averaged. 1: the whole of it; 10: corners and centre of its central "
            "square, and mirrored; 144: four scales, three squares, six crops of each, and mirrored."
        ),
    ] = 1,
    every: Every = 1,
    device: Device = "auto",
    engine: EngineName = Engine.AUTO,
    precision: PrecisionName = Precision.AUTO,
) -> None:
    """Name what whole pictures show.

    A score is the probability of a class, 0..1, averaged over the views and the weights. Ten views take ten
    times as long as one, and so on; several weights likewise, less what they have in common.

    Folders, videos, unreadable pictures and interruptions are treated as by detect.
    """
    outputs = _outputs(json_file, jsonl_file, output, form)
    if any(one.form in (Format.COCO, Format.YOLO, Format.VOC) for one in outputs):
        raise ParameterError("classes of whole pictures have no boxes: --format is json, jsonl or csv")
    with ImageRun("classes", outputs, errors_file=errors_file, resume=resume, every=every) as run:
        files = run.find(images, weights or [SHIPPED])
        ensemble = load_ensemble(weights or None, engine=engine, device=device, precision=precision)
        classifier = Classifier(ensemble.with_streams(ensemble.streams))
        name = classifier.namer(top=top, crops=crops)
        for looked in run.look(
            files,
            lambda image, executor: name(image.pixels, executor=executor),
            classifier.classes,
            ensemble.streams,
        ):
            run.add(looked, looked.found.as_dicts())


def _check_explain(explain: int, folder: Path | None, tile: int | None, outputs: Sequence[Output]) -> None:
    """Raise ParameterError for explanations that cannot be made, or would go nowhere."""
    check_explain(explain, tile)
    if folder is not None and not explain:
        raise ParameterError(
            "--explain-to draws explanations: say of how many objects a picture by --explain"
        )
    forms = {one.form for one in outputs}
    if explain and folder is None and forms and not forms & {Format.JSON, Format.JSONL}:
        raise ParameterError(
            "--explain: the other forms have no place for explanations; write --json or --jsonl, or draw "
            "them by --explain-to"
        )


def _outputs(
    json_file: Path | None, jsonl_file: Path | None, output: Path | None, form: Format | None
) -> list[Output]:
    """Return where results go. Raises ParameterError for a form without a file, and for a name that asks for
    no form."""
    if form is not None and output is None:
        raise ParameterError("--format is the form of --output: name that too")
    given = [(json_file, Format.JSON), (jsonl_file, Format.JSONL)]
    if output is not None:
        given.append((output, form or format_of(output)))
    # A list is printed at the end; other forms are written into the open descriptor.
    outputs = [
        Output(_OPEN_DESCRIPTOR if path == Path("-") and kind is not Format.JSON else path, kind)
        for path, kind in given
        if path is not None
    ]
    if sum(one.form is Format.JSONL for one in outputs) > 1:
        raise ParameterError("--jsonl is given, and --output is JSON lines too: leave one of them out")
    return outputs
