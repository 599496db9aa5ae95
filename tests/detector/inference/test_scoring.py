"""Scoring: its settings, and the score of a region by hand."""

from dataclasses import asdict

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.inference.scoring import (
    Context,
    Scoring,
    class_posterior,
    class_prior,
    filled_objectness,
    region_scores,
)
from detector.structures.boxes import as_boxes

NAN = float("nan")


@pytest.mark.parametrize(
    "scoring",
    [
        pytest.param(Scoring(), id="plain"),
        pytest.param(
            Scoring(0.5, 1, 2.0, Context.REGIONS, 0.2, 0.5, True, True, 0.4, 0.5),
            id="everything changed",
        ),
    ],
)
def test_settings_are_read_back(scoring: Scoring) -> None:
    assert Scoring.from_json(asdict(scoring)) == scoring


def test_a_setting_that_is_left_out_has_its_default() -> None:
    assert Scoring.from_json({"flip": True}) == Scoring(flip=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fit_power": -1}, "fit_power must lie in 0..10"),
        ({"context_power": NAN}, "context_power must lie"),
        ({"objectness_power": "much"}, "objectness_power must lie"),
        ({"context_floor": 1.5}, "context_floor must lie in 0..1"),
        ({"score_power": 0}, "score_power must lie in 0.01..10"),
        ({"nms_iou": True}, "nms_iou must lie"),
        ({"vote_iou": -0.5}, "vote_iou must lie"),
        ({"context": "dream"}, "context must be one of picture, regions"),
        ({"flip": "yes"}, "flip must be true or false"),
        ({"luck": 1}, "this version knows"),
    ],
)
def test_settings_are_checked(settings: dict, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        Scoring.from_json(settings)


def test_what_earlier_versions_had_is_passed_over() -> None:
    """Their weights are read still; nothing else that is unknown is."""
    assert Scoring.from_json({"refine": 1, "refine_regions": 5, "flip": True}) == Scoring(flip=True)
    with pytest.raises(ParameterError, match="settings 'luck', of which"):
        Scoring.from_json({"refine": 1, "luck": 1})


P = [[0.8, 0.1], [0.5, 0.4]]
FIT, OBJECTNESS, PRIOR = [0.25, 1.0], [0.5, 0.2], [1.0, 0.1]

# What is set, and the scores of two regions for two classes.
SCORES = [
    ("the probability alone", {}, P),
    ("fit tells a tight box from a loose one", {"fit_power": 1}, [[0.2, 0.025], [0.5, 0.4]]),
    (
        "the product of all, brought back to where a threshold is expected",
        {"fit_power": 1, "score_power": 0.5},
        [[0.2**0.5, 0.025**0.5], [0.5**0.5, 0.4**0.5]],
    ),
    ("half the power is the root", {"fit_power": 0.5}, [[0.4, 0.05], [0.5, 0.4]]),
    ("objectness", {"objectness_power": 2}, [[0.2, 0.025], [0.02, 0.016]]),
    ("what the picture does not show", {"context_power": 1}, [[0.8, 0.01], [0.5, 0.04]]),
    ("all of it", {"fit_power": 1, "objectness_power": 1, "context_power": 1},
     [[0.1, 0.00125], [0.1, 0.008]]),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "expected"), [s[1:] for s in SCORES], ids=[s[0] for s in SCORES])
def test_scores_are_products_of_their_factors(settings: dict, expected: list) -> None:
    fit, objectness, prior = (np.array(x, np.float32) for x in (FIT, OBJECTNESS, PRIOR))
    scores = region_scores(
        np.array(P, np.float32), Scoring(**settings), predicted_iou=fit, objectness=objectness, prior=prior
    )
    assert scores.dtype == np.float32
    assert np.allclose(scores, expected, atol=1e-6)


def test_what_is_not_known_counts_as_one() -> None:
    probabilities = np.array(P, np.float32)
    asked = Scoring(fit_power=1, objectness_power=1, context_power=1)
    assert np.array_equal(region_scores(probabilities, asked), probabilities)


A, HALF_A, FAR = (0, 0, 40, 40), (0, 0, 40, 20), (200, 200, 240, 240)


@pytest.mark.parametrize(
    ("boxes", "objectness", "filled"),
    [
        pytest.param([A, FAR], [0.9, 0.2], [0.9, 0.2], id="MultiBox keeps its own"),
        pytest.param([A, HALF_A], [0.8, NAN], [0.8, 0.4], id="a search box by its overlap"),
        pytest.param([A, FAR, HALF_A], [0.8, 0.5, NAN], [0.8, 0.5, 0.4], id="the nearest one's"),
        pytest.param([A, FAR], [0.8, NAN], [0.8, 0], id="nothing near: no object"),
        pytest.param([A, FAR], [NAN, NAN], [1, 1], id="none known"),
        pytest.param([], [], [], id="no boxes"),
    ],
)
def test_objectness_is_filled_in(boxes: list, objectness: list, filled: list) -> None:
    got = filled_objectness(as_boxes(boxes), np.array(objectness, np.float32))
    assert np.allclose(got, filled)


# The picture's posterior, its regions, kind of context, floor, and the prior of three classes.
PRIORS = [
    ("the likeliest counts 1", [0.5, 0.25, 0], [], Context.IMAGE, 0.0, [1, 0.5, 0]),
    ("a floor for what is too small to see", [0.5, 0.25, 0], [], Context.IMAGE, 0.2, [1, 0.6, 0.2]),
    ("regions are not asked", [0.5, 0.25, 0], [[0, 0, 0.9]], Context.IMAGE, 0.0, [1, 0.5, 0]),
    ("regions are asked", [0.5, 0.25, 0], [[0, 0.1, 0.9], [0, 0, 0.3]], Context.REGIONS, 0.0, [1, 0.5, 0.9]),
    ("regions, and there are none", [0.5, 0.25, 0], [], Context.REGIONS, 0.0, [1, 0.5, 0]),
    ("a picture of nothing", [0, 0, 0], [], Context.IMAGE, 0.1, [0.1, 0.1, 0.1]),
]


@pytest.mark.parametrize(
    ("image", "regions", "kind", "floor", "expected"), [p[1:] for p in PRIORS], ids=[p[0] for p in PRIORS]
)
def test_the_prior_of_a_class_by_hand(
    image: list, regions: list, kind: Context, floor: float, expected: list
) -> None:
    prior = class_prior(
        np.array(image, np.float32),
        np.array(regions, np.float32).reshape(-1, 3),
        Scoring(context=kind, context_floor=floor),
    )
    assert np.allclose(prior, expected)


@pytest.mark.parametrize(
    ("probabilities", "posterior"),
    [([0.3, 0.1, 0.6], [0.75, 0.25]), ([0, 0, 1], [0, 0])],
    ids=["background is left out", "background alone"],
)
def test_posterior_of_a_picture(probabilities: list, posterior: list) -> None:
    assert np.allclose(class_posterior(np.array(probabilities, np.float32)), posterior)
