"""What --also means, and what joins a training that way."""

from pathlib import Path

import pytest

from detector.datasets.problems import OnProblem
from detector.errors import DatasetError, DetectorError, ParameterError
from tests.training.small_sets import rectangles, write_voc
from training.finetune.training_data import further_data
from training.rcnn.sampling import SamplingSettings

SAMPLING = SamplingSettings(positives=9, background=20, jitter=0.2, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures in VOC's layout, and a list of two of them."""
    root = tmp_path_factory.mktemp("sets") / "birds"
    write_voc(root, rectangles(4, seed=1))
    (root / "two.txt").write_text("p00\np02\n")
    return root


def _read(text: str) -> tuple[str, list[str], float, SamplingSettings | None]:
    found = further_data(text, SAMPLING, OnProblem.REPORT)
    names = [record.image_id for record in found.spec.dataset.records]
    return found.name, names, found.spec.weight, found.spec.sampling


def test_a_folder_alone_is_read_whole_and_sampled_as_the_rest(folder: Path) -> None:
    assert _read(str(folder)) == ("birds", ["p00", "p01", "p02", "p03"], 1.0, SAMPLING)


def test_settings_choose_pictures_their_weight_and_how_many_regions_are_kept(folder: Path) -> None:
    text = f"{folder}:split={folder / 'two.txt'}, weight=0.5, positives=4, background=6, format=voc"
    kept = SamplingSettings(positives=4, background=6, jitter=0.2, seed=3)
    assert _read(text) == ("birds", ["p00", "p02"], 0.5, kept)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ("weight", ParameterError, "key=value"),
        ("colour=red", ParameterError, "colour=red"),
        ("weight=much", ParameterError, "much"),
        ("positives=2.5", ParameterError, "2.5"),
        ("format=paper", ParameterError, "paper"),
        ("split=nothing", DatasetError, "nothing"),
    ],
)
def test_what_makes_no_sense_is_said(folder: Path, settings: str, error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        further_data(f"{folder}:{settings}", SAMPLING, OnProblem.REPORT)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="nowhere"):
        further_data(str(tmp_path / "nowhere"), SAMPLING, OnProblem.REPORT)
