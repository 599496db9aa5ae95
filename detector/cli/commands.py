"""The command ``detector``: detect, classify, and look after weights files."""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from typing import Annotated

import typer

from detector import __version__
from detector.cli.image_run import ImageRun, reason
from detector.cli.options import PLAIN, check_arguments
from detector.cli.standard_streams import lasting_streams
from detector.cli.weights import weights
from detector.errors import DetectorError
from detector.inference.detector import MAX_DETECTIONS, SCORE_THRESHOLD
from detector.inference.loading import load_classifier, load_detector
from detector.io.terminal_text import printable_path
from detector.io.visualization import draw
from detector.options import Profile
from detector.pretrained import SHIPPED

app = typer.Typer(
    no_args_is_help=True,
    **PLAIN,
)
app.add_typer(weights, name="weights")


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"detector {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True),
    ] = False,
) -> None:
    """Object detection in the manner of R-CNN with a GoogLeNet backbone."""


Images = Annotated[
    list[Path], typer.Argument(help="Pictures, or folders searched for them.", metavar="IMAGE|DIR...")
]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Write the result as JSON, an entry for each picture that could be read; '-': standard output.",
    ),
]
Weights = Annotated[
    list[Path] | None,
    typer.Option(
        help="Checkpoint to use instead of the shipped one; given several times, an ensemble: the average of "
        "all."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


@app.command()
def detect(
    images: Images,
    json_file: Json = None,
    draw_folder: Annotated[
        Path | None, typer.Option("--draw", help="Draw the boxes into this folder.")
    ] = None,
    weights: Weights = None,
    score_threshold: Annotated[float, typer.Option(help="Leave out less certain objects.")] = SCORE_THRESHOLD,
    max_detections: Annotated[int, typer.Option(help="Objects a picture, at most.")] = MAX_DETECTIONS,
    profile: Annotated[
        Profile | None,
        typer.Option(
            help="Where to look. fast: what MultiBox sees at a glance; balanced: that and selective search; "
            "paper: all boxes of both; search: selective search alone [balanced, if the weights allow]."
        ),
    ] = None,
    max_proposals: Annotated[
        int | None, typer.Option(help="Regions a picture, at most [the profile's own number].", min=1)
    ] = None,
    device: Device = "auto",
) -> None:
    """Find objects in pictures.

    Folders are searched with all below them, except what systems leave there (hidden files, @eaDir,
    __MACOSX). What cannot be read is named on standard error, one line each (in folders, pictures of other
    kinds such as HEIC in one line for all), and is not part of the result; the others go on, and the exit
    status is 1. An interrupted run (Ctrl-C) keeps what it has found.
    """
    with ImageRun("detections", json_file, draw_folder) as run:
        files = run.find(images, weights or [SHIPPED])
        detector = load_detector(weights, device=device, profile=profile, max_proposals=max_proposals)
        for path, image in run.read(files):
            (found,) = detector.detect(
                [image.pixels], score_threshold=score_threshold, max_detections=max_detections
            )
            run.add(path, image, found.as_dicts(detector.classes))
            if draw_folder is not None:
                run.save_drawing(path, draw(image.pixels, found, detector.classes))


@app.command()
def classify(
    images: Images,
    json_file: Json = None,
    weights: Weights = None,
    top: Annotated[int, typer.Option(help="Classes a picture.")] = 5,
    crops: Annotated[int, typer.Option(help="Views a picture: 1, 10 or 144.")] = 1,
    device: Device = "auto",
) -> None:
    """Name what whole pictures show.

    Folders, unreadable pictures and interruptions are treated as by detect.
    """
    with ImageRun("classes", json_file) as run:
        files = run.find(images, weights or [SHIPPED])
        classifier = load_classifier(weights, device=device)
        for path, image in run.read(files):
            (found,) = classifier.classify([image.pixels], top=top, crops=crops)
            run.add(path, image, found.as_dicts(classifier.classes))


def main() -> None:
    """Entry point: an error of this library or of a file is one line on standard error and exit status 1."""
    with lasting_streams():
        check_arguments()
        for command in entry_points(group="detector.commands"):
            _add_command(command.name, command.load())
        try:
            app()
        except DetectorError as error:
            raise SystemExit(f"error: {error}") from error
        except OSError as error:
            where = (
                f"{printable_path(error.filename)}: " if isinstance(error.filename, str | PathLike) else ""
            )
            raise SystemExit(f"error: {where}{reason(error)}") from error


def _add_command(name: str, run: Callable[[Sequence[str]], int]) -> None:
    """A command of another package, which reads its arguments itself, ``--help`` among them."""

    def command(context: typer.Context) -> None:
        raise typer.Exit(run(context.args))

    app.command(
        name,
        help=run.__doc__,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(command)


if __name__ == "__main__":
    main()
