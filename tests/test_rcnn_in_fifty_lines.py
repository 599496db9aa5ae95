"""The detector finds what R-CNN, written out in fifty lines, finds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector import Detector, Scoring
from detector.models.weights import Weights, read_weights
from detector.pretrained import SHIPPED
from examples.rcnn_in_fifty_lines import detect

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def warped() -> Weights:
    """Return the shipped network as R-CNN's: no MultiBox, each region warped."""
    weights = read_weights(SHIPPED)
    tensors = {name: value for name, value in weights.tensors.items() if not name.startswith("multibox.")}
    return replace(
        weights, metadata=replace(weights.metadata, multibox=None, shared_maps=None), tensors=tensors
    )


@pytest.mark.parametrize(
    ("name", "turned", "regions", "least"),
    [
        pytest.param("cat.jpg", False, 24, 2, id="several boxes of one class"),
        pytest.param("coffee.jpg", False, 6, 2, id="windows of twice a crop's side are read halved"),
        pytest.param("cat.jpg", True, 12, 2, id="lies on its side, as its EXIF says"),
    ],
)
def test_the_detector_finds_the_same(
    name: str, turned: bool, regions: int, least: int, tmp_path: Path
) -> None:
    path = EXAMPLES / name
    if turned:
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: by 90 degrees
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(tmp_path / name, exif=exif)
        path = tmp_path / name
    weights = warped()
    plain = Detector(weights, scoring=Scoring(), precision="float32", max_proposals=regions)
    (found,) = plain.detect([path], score_threshold=0.05)
    expected = detect(str(path), weights, regions, threshold=0.05)
    assert len(expected) >= least
    assert [plain.classes.names[label] for label in found.labels] == [label for _, label, _ in expected]
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected], atol=1e-3)
    np.testing.assert_allclose(found.boxes, np.stack([box for _, _, box in expected]), atol=0.5)
