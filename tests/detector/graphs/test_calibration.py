"""Which pictures a network is measured on, and how it sees them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import ParameterError
from detector.graphs import calibration
from detector.graphs.calibration import measured, pictures_of
from detector.graphs.networks import range_keys
from detector.graphs.stages import trunk_of
from tests.detector.graphs.random_weights import classifier_weights, detector_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of one colour each, one of them deeper, and what is none."""
    for index in range(5):
        path = tmp_path / ("deep/er" if index == 4 else "") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (10 * index, 0, 0)).save(path)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def _colours(folder: Path, count: int) -> list[int]:
    return [int(picture[0, 0, 0]) // 10 for picture in pictures_of(folder, count)]


def test_pictures_are_found_below_a_folder_and_what_cannot_be_read_is_passed_over(folder: Path) -> None:
    assert sorted(_colours(folder, 100)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_as_many_as_were_asked_for_the_same_each_time(folder: Path, count: int) -> None:
    some = _colours(folder, count)
    assert len(set(some)) == count
    assert _colours(folder, count) == some
    assert some != list(range(count)) or count == 1, "spread over the folder"


def test_two_pictures_come_along() -> None:
    pictures = pictures_of(None, 1)
    assert len(pictures) == 2
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("nowhere", "nowhere is no folder of pictures", id="missing"),
        pytest.param("notes.txt", r"notes\.txt is no folder of pictures", id="a file"),
        pytest.param("empty", "empty holds no picture that can be read", id="empty"),
        pytest.param("bad", "bad holds no picture that can be read", id="broken ones alone"),
    ],
)
def test_folders_without_pictures_are_refused(folder: Path, name: str, says: str) -> None:
    (folder / "empty").mkdir()
    (folder / "bad").mkdir()
    (folder / "broken.jpg").rename(folder / "bad" / "broken.jpg")
    with pytest.raises(ParameterError, match=says):
        pictures_of(folder / name, 4)


@pytest.mark.parametrize("shared", [True, False])
def test_a_detector_sees_pictures_at_each_scale_or_as_one_crop(
    monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    shapes = []
    weights = detector_weights(shared=shared)
    keys = range_keys(trunk_of("googlenet"))

    def run_model(engine: str, model: object):
        def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            shapes.append(feeds["rows"].shape)
            return dict.fromkeys(keys, np.ones(3, np.float32))

        return run

    monkeypatch.setattr(calibration, "run_model", run_model)
    ranges = measured(weights, [np.zeros((60, 120, 3), np.uint8)])
    assert set(ranges.values()) == {(0.0, 1.0)}
    assert shapes == ([(1, 3, 96, 160), (1, 3, 128, 224)] if shared else [(1, 3, 224, 224)])


def test_a_network_is_measured_on_a_real_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ranges = measured(classifier_weights(), [picture])
    assert list(ranges) == range_keys(trunk_of("googlenet"))
    assert min(high for _, high in ranges.values()) > 1
