"""Further data sets that join a training: their pictures, how often they come, how they are sampled."""

from dataclasses import dataclass
from pathlib import Path

from detector.datasets.formats import Format, open_data
from detector.datasets.pixels import without_unreadable
from detector.datasets.problems import OnProblem
from detector.datasets.split_names import Role, role_of
from detector.errors import ParameterError
from training.regions.mixing import Ingredient
from training.regions.sampling import SamplingSettings

_NUMBERS = ("weight", "positives", "background")
_WORDS = ("split", "format")


@dataclass(frozen=True)
class FurtherData:
    """A data set that joins, in words: ``name`` is that of its folder."""

    name: str
    ingredient: Ingredient


def further_data(text: str, sampling: SamplingSettings, on_problem: OnProblem) -> FurtherData:
    """What ``FOLDER`` or ``FOLDER:key=value,key=value`` means.

    ``split`` is a split or a list file [the training split, else all]; ``format`` the layout [found by
    looking]; ``weight`` how many times as often as by its size a picture is drawn [1]; ``positives`` and
    ``background`` how many regions of a picture are kept [those of ``sampling``].

    Raises ParameterError for text that makes no sense, DatasetError for data that cannot be read.
    """
    path, settings = _parsed(text)
    try:
        layout = Format(settings["format"]) if "format" in settings else None
        weight = float(settings.get("weight", 1))
        kept = SamplingSettings(
            int(settings.get("positives", sampling.positives)),
            int(settings.get("background", sampling.background)),
            sampling.jitter,
            sampling.seed,
        )
    except ValueError as error:
        raise ParameterError(f"--also {text!r}: {error}") from error
    folder = open_data(path, layout)
    split = settings.get("split")
    if split is None:
        split = next((name for name in folder.splits if role_of(name) is Role.TRAIN), None)
    dataset = without_unreadable(folder.read(split, on_problem=on_problem), on_problem)
    return FurtherData(path.resolve().name, Ingredient(dataset, weight, kept))


def further_folder(text: str) -> Path:
    """The folder that such a text names. Raises ParameterError as :func:`further_data` does."""
    return _parsed(text)[0]


def _parsed(text: str) -> tuple[Path, dict[str, str]]:
    """The folder, and its settings by key."""
    if Path(text).is_dir():
        return Path(text), {}
    path, _, rest = text.partition(":")
    settings = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in (*_NUMBERS, *_WORDS):
            raise ParameterError(
                f"--also {text!r}: {part!r} is none of {', '.join((*_WORDS, *_NUMBERS))}, each as key=value"
            )
        settings[key] = value
    return Path(path), settings
