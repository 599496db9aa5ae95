"""The command ``detector``: detect, classify, and look after weights files."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from detector.command_line import PLAIN, escape_what_cannot_be_printed
from detector.detection import MAX_DETECTIONS, SCORE_THRESHOLD
from detector.drawing import draw, save
from detector.errors import DetectorError, ImageError
from detector.files import write_whole
from detector.images import Decoded, read_file
from detector.loading import load_classifier, load_detector
from detector.proposals import Profile
from detector.weights_cli import weights

app = typer.Typer(
    help="Object detection in the manner of R-CNN with a GoogLeNet backbone.",
    no_args_is_help=True,
    **PLAIN,
)
app.add_typer(weights, name="weights")

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}

Images = Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", metavar="IMAGE|DIR...")]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the result as JSON; '-' for standard output.")
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
    """Find objects in pictures."""
    detector = load_detector(weights, device=device, profile=profile, max_proposals=max_proposals)
    results: list[dict[str, Any]] = []
    unreadable: list[Path] = []
    for path, picture in _pictures(images, unreadable):
        image = picture.pixels
        (found,) = detector.detect([image], score_threshold=score_threshold, max_detections=max_detections)
        results.append({**_about(path, picture), "detections": found.as_dicts(detector.classes)})
        if draw_folder is not None:
            draw_folder.mkdir(parents=True, exist_ok=True)
            drawn = draw(image, found, detector.classes)
            save(draw_folder / f"{len(results):04d}-{path.stem}.png", drawn)
    _report(results, "detections", json_file, unreadable)


@app.command()
def classify(
    images: Images,
    json_file: Json = None,
    weights: Weights = None,
    top: Annotated[int, typer.Option(help="Classes a picture.")] = 5,
    crops: Annotated[int, typer.Option(help="Views a picture: 1, 10 or 144.")] = 1,
    device: Device = "auto",
) -> None:
    """Name what whole pictures show."""
    classifier = load_classifier(weights, device=device)
    results: list[dict[str, Any]] = []
    unreadable: list[Path] = []
    for path, picture in _pictures(images, unreadable):
        (found,) = classifier.classify([picture.pixels], top=top, crops=crops)
        results.append({**_about(path, picture), "classes": found.as_dicts(classifier.classes)})
    _report(results, "classes", json_file, unreadable)


def main() -> None:
    """Entry point: an error of this library is one line on standard error and exit status 1."""
    escape_what_cannot_be_printed()
    for command in entry_points(group="detector.commands"):
        _add_command(command.name, command.load())
    try:
        app()
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error


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


def _pictures(images: Sequence[Path], unreadable: list[Path]) -> Iterator[tuple[Path, Decoded]]:
    """Each picture that can be read; one that cannot is named on standard error and noted."""
    for path in images:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        for file in files:
            try:
                yield file, read_file(file)
            except ImageError as error:
                unreadable.append(file)
                print(f"error: {file}: {error}", file=sys.stderr)


def _about(path: Path, picture: Decoded) -> dict[str, Any]:
    height, width = picture.pixels.shape[:2]
    return {"image": str(path), "width": width, "height": height, "frames": picture.frames}


def _report(
    results: list[dict[str, Any]], kind: str, json_file: Path | None, unreadable: Sequence[Path]
) -> None:
    """Print or write the results; exit with status 1 if a picture could not be read."""
    text = json.dumps(results, indent=1)
    if json_file == Path("-"):
        print(text)
    elif json_file is not None:
        write_whole(json_file, text.encode())
    else:
        for result in results:
            print(f"{result['image']} ({result['width']}x{result['height']})")
            for entry in result[kind]:
                print(f"  {entry['score']:6.1%}  {entry['label']:<24}{_corners(entry.get('box'))}")
    if unreadable:
        raise SystemExit(1)


def _corners(box: dict[str, float] | None) -> str:
    return "" if box is None else "  ".join(f"{value:7.1f}" for value in box.values())


if __name__ == "__main__":
    main()
