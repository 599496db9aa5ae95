"""Named recipes, and what a detector trained by one makes of a region that is good in every way."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.inference.detector import SCORE_THRESHOLD
from detector.inference.scoring import region_scores
from training.rcnn.recipe import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_sure_region_passes_the_usual_threshold(name: str) -> None:
    """However many factors a score has: else a new detector would seem to find nothing."""
    [[score]] = region_scores(
        np.array([[0.8]], np.float32),
        preset(name).scoring,
        predicted_iou=np.array([0.7], np.float32),
        objectness=np.array([0.25], np.float32),  # what MultiBox is as sure of as it ever is of most objects
        prior=np.array([0.8], np.float32),
    )
    assert score > SCORE_THRESHOLD


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(ParameterError, match="quick"):
        preset("slow")
