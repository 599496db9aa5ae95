"""Named recipes, and what a detector trained by one makes of a region that is good in every way."""

from typing import Any

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.inference.detector import SCORE_THRESHOLD
from detector.inference.scoring import region_scores
from detector.inference.shared_maps import SharedMaps
from training.rcnn.recipe import PRESETS, Recipe, RegionKind, preset


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


OWN = SharedMaps((64, 128), long_side=2.0, padding=16, stage="inception_4d", size=7)
SHARED, WARPED = RegionKind.SHARED, RegionKind.WARPED


@pytest.mark.parametrize(
    ("regions", "scales", "init", "result"),
    [
        pytest.param(None, None, None, None, id="as the init: warped"),
        pytest.param(None, None, OWN, OWN, id="as the init: shared"),
        pytest.param(None, (96,), None, None, id="scales are of no use to warped regions"),
        pytest.param(WARPED, None, OWN, None, id="warped, whatever the init does"),
        pytest.param(SHARED, None, None, SharedMaps(stage="4e"), id="shared, by the stage that is given"),
        pytest.param(SHARED, (96,), None, SharedMaps((96,), stage="4e"), id="shared, at other scales"),
        pytest.param(
            None,
            (96, 192),
            OWN,
            SharedMaps((96, 192), long_side=2.0, padding=16, stage="inception_4d", size=7),
            id="as the init, but at other scales",
        ),
    ],
)
def test_how_regions_are_looked_at(
    regions: RegionKind | None,
    scales: tuple[int, ...] | None,
    init: SharedMaps | None,
    result: SharedMaps | None,
) -> None:
    assert Recipe(regions=regions, scales=scales).shared_maps(init, "4e") == result


@pytest.mark.parametrize("name", ["rcnn", "paper"])
def test_recipes_of_the_papers_warp_regions(name: str) -> None:
    assert preset(name).shared_maps(OWN, "inception_4e") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [({"scales": (200, 100)}, "scales"), ({"scales": ()}, "scales"), ({"zoom": 0.9}, "zoom")],
    ids=str,
)
def test_impossible_settings_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        Recipe(**change)
