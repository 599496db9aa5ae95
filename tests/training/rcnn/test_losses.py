"""The loss, against what it should be by hand."""

import math

import numpy as np
import pytest
import torch

from detector.models.googlenet import GoogLeNet
from detector.models.region_network import RegionNetwork, RegionOutput
from detector.structures.boxes import as_boxes, decode, iou
from training.rcnn.losses import (
    LossWeights,
    RegionLosses,
    Targets,
    box_errors,
    cross_entropy,
    moved_overlaps,
    region_losses,
    region_weights,
)
from training.rcnn.sampling import UNKNOWN, WHOLE

CLASSES = 2
BACKGROUND = CLASSES
NAN = float("nan")


@pytest.fixture(scope="module")
def network() -> RegionNetwork:
    return RegionNetwork(GoogLeNet(3), torch.arange(3), CLASSES)


def _losses(
    network: RegionNetwork, logits: list, labels: list, overlaps: list, deltas: list | None = None
) -> RegionLosses:
    count = len(labels)
    output = RegionOutput(torch.tensor(logits), torch.zeros(count, 4), torch.tensor(logits))
    targets = Targets(
        torch.tensor(labels),
        torch.tensor(overlaps),
        torch.tensor(deltas) if deltas else torch.full((count, 4), NAN),
        torch.ones(count, dtype=torch.bool),
        torch.tensor(logits),
    )
    return region_losses(network, output, targets, LossWeights(box=1.0, distillation=0.5))


SURE_OF_0, UNSURE = [8.0, 0.0, 0.0], [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("logits", "label", "overlap", "expected"),
    [
        (UNSURE, 0, 1.0, 1.0986),
        (UNSURE, BACKGROUND, 0.4, 1.0986),
        (SURE_OF_0, 0, 1.0, 0.00067),
        (SURE_OF_0, 0, 0.5, 4.00067),
        (SURE_OF_0, 0, 0.65, 2.00067),
        (SURE_OF_0, BACKGROUND, 0.4, 8.00067),
    ],
    ids=[
        "no idea, object",
        "no idea, background",
        "sure and tight",
        "sure of a region that barely fits: half of it is background",
        "sure of a region that fits half-way: a quarter is background",
        "sure of what is background",
    ],
)
def test_classification(
    network: RegionNetwork, logits: list, label: int, overlap: float, expected: float
) -> None:
    part = _losses(network, [logits], [label], [overlap])
    assert part.classification.item() == pytest.approx(expected, abs=1e-4)
    assert part.distillation.item() == pytest.approx(0, abs=1e-6)


def test_whole_pictures_are_only_remembered(network: RegionNetwork) -> None:
    one = _losses(network, [UNSURE], [0], [1.0])
    two = _losses(network, [UNSURE, SURE_OF_0], [0, WHOLE], [1.0, 0.0])
    assert one.classification.item() == pytest.approx(two.classification.item())


def test_box_loss_sums_where_there_are_offsets(network: RegionNetwork) -> None:
    """Offsets of one whitened unit from an output of zero: smooth L1 gives a half for each of the four."""
    scale = [0.1, 0.1, 0.2, 0.2]
    part = _losses(network, [UNSURE, UNSURE], [0, BACKGROUND], [1.0, 0.0], [scale, [NAN] * 4])
    assert part.box.item() == pytest.approx(4 * 0.5)
    assert _losses(network, [UNSURE], [BACKGROUND], [0.0]).box.item() == 0


SCALE = torch.tensor([0.1, 0.1, 0.2, 0.2])


def _asked(deltas: list[list[float]], overlaps: list[float]) -> Targets:
    count = len(deltas)
    return Targets(
        torch.zeros(count, dtype=torch.int64),
        torch.tensor(overlaps),
        torch.tensor(deltas),
        torch.ones(count, dtype=torch.bool),
        torch.zeros(count, 0),
    )


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        pytest.param([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4], 0.0, id="right"),
        pytest.param([0.05, 0.0, 0.0, 0.0], [0.0] * 4, 0.5 * 0.5**2, id="half a unit: a square"),
        pytest.param([0.0, 0.0, 0.1, 0.0], [0.0] * 4, 0.5 * 0.5**2, id="of a side, whose unit is larger"),
        pytest.param([0.3, 0.0, 0.0, 0.0], [0.0] * 4, 3 - 0.5, id="three units: a line"),
        pytest.param([0.1, -0.1, 0.2, -0.2], [0.0] * 4, 4 * 0.5, id="all four: their sum, not their mean"),
        pytest.param([0.1, 0.0, 0.0, 0.0], [-0.1, 0.0, 0.0, 0.0], 2 - 0.5, id="the difference counts"),
    ],
)
def test_errors_of_offsets(given: list[float], wanted: list[float], expected: float) -> None:
    errors = box_errors(torch.tensor([given, [0.0] * 4]), _asked([wanted, [NAN] * 4], [0.7, 0.1]), SCALE)
    assert errors.shape == (2,)
    assert errors[0].item() == pytest.approx(expected, abs=1e-6)
    assert errors.isfinite().all(), "where there is nothing to learn, too: weights of zero are times it"


@pytest.mark.parametrize(
    "spread", [0.05, 0.3, 2.0, 30.0], ids=["near", "apart", "far", "beyond what is kept"]
)
def test_overlaps_of_moved_boxes_are_those_of_the_decoded_ones(spread: float) -> None:
    """Whatever the regions' places and sides are."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 300, (200, 2))
    boxes = as_boxes(np.concatenate([corners, corners + rng.uniform(4, 200, (200, 2))], axis=1))
    given, wanted = (rng.normal(0, spread, (200, 4)).astype(np.float32) for _ in range(2))
    expected = np.diag(iou(decode(boxes, given), decode(boxes, wanted)))
    got = moved_overlaps(torch.from_numpy(given), _asked(wanted.tolist(), [0.5] * 200))
    assert np.abs(got.numpy() - expected).max() < 1e-4
    assert np.ptp(expected) > 0.05, "or all would be alike"


@pytest.mark.parametrize(
    ("given", "wanted", "overlap", "expected"),
    [
        pytest.param([0.2, -0.1, 0.3, 0.0], [0.2, -0.1, 0.3, 0.0], 0.6, 1.0, id="moved onto its object"),
        pytest.param([0.0] * 4, [0.0, 0.0, math.log(0.5), 0.0], 0.5, 0.5, id="not moved: as it was"),
        pytest.param([0.5, 0.0, 0.0, 0.0], [0.0] * 4, 1.0, 1 / 3, id="moved away by half a width"),
        pytest.param([3.0, 0.0, 0.0, 0.0], [0.0] * 4, 1.0, 0.0, id="moved off it"),
        pytest.param([3.0, 0.0, 0.0, 0.0], [NAN] * 4, 0.2, 0.2, id="no offsets to learn: the region's own"),
        pytest.param([0.0] * 4, [0.1, NAN, 0.1, 0.1], 0.3, 0.3, id="one is unknown: none is known"),
    ],
)
def test_overlaps_of_moved_boxes(
    given: list[float], wanted: list[float], overlap: float, expected: float
) -> None:
    deltas = torch.tensor([given], requires_grad=True)
    got = moved_overlaps(deltas, _asked([wanted], [overlap]))
    assert got.item() == pytest.approx(expected, abs=1e-5)
    assert not got.requires_grad, "boxes are not moved to where their IoU is easy to predict"


@pytest.mark.parametrize(
    ("location", "iou", "expected_class"),
    [
        # Of SURE_OF_0: 8 times the share of the target that is background.
        pytest.param(True, 1.0, 0.0, id="a location head: of the moved box, which is its object"),
        pytest.param(False, 0.6, 8 / 3, id="an IoU head: of the region as it was proposed"),
    ],
)
def test_which_iou_is_learnt(location: bool, iou: float, expected_class: float) -> None:
    """The one predicted, and the one that says how sure of its class a region shall be."""
    network = RegionNetwork(
        GoogLeNet(3), torch.arange(3), CLASSES, box_regression=False, iou_prediction=not location,
        location=location,
    )  # fmt: skip
    deltas = [[0.1, 0.0, 0.2, 0.0]]
    logits, predicted = torch.tensor([SURE_OF_0]), torch.tensor([2.0])
    output = RegionOutput(logits, torch.tensor(deltas), logits, predicted)
    losses = region_losses(network, output, _asked(deltas, [0.6]), LossWeights(distillation=0.0))
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(predicted, torch.tensor([iou]))
    assert losses.fit.item() == pytest.approx(wanted.item(), rel=1e-4)
    assert losses.classification.item() == pytest.approx(expected_class, abs=1e-3)


@pytest.mark.parametrize(
    ("label", "expected"), [(0, 1.0986), (WHOLE, 1.0986)], ids=["object", "whole picture"]
)
def test_forgetting_costs(network: RegionNetwork, label: int, expected: float) -> None:
    """The teacher is sure, the network has no idea: the divergence is log 3. Background is not asked."""
    logits = torch.tensor([UNSURE, UNSURE, UNSURE])
    targets = Targets(
        torch.tensor([label, 0, BACKGROUND]),
        torch.ones(3),
        torch.full((3, 4), NAN),
        torch.ones(3, dtype=torch.bool),
        torch.tensor([[50.0, 0, 0], [50.0, 0, 0], [0, 0, 0]]),
    )
    output = RegionOutput(logits, torch.zeros(3, 4), logits)
    assert region_losses(network, output, targets, LossWeights()).distillation.item() == pytest.approx(
        expected, abs=1e-3
    )


@pytest.mark.parametrize(
    ("label", "sure", "parts"),
    [
        pytest.param(0, True, (1, 1, 1, 1), id="an object: everything"),
        pytest.param(UNKNOWN, True, (1, 1, 1, 1), id="of unknown class: everything as well"),
        pytest.param(BACKGROUND, True, (1, 0, 1, 0), id="background: to be named, and that it fits nothing"),
        pytest.param(BACKGROUND, False, (0.25, 0, 0, 0), id="perhaps background: named, for a quarter"),
        pytest.param(WHOLE, True, (0, 0, 0, 1), id="a whole picture: remembered"),
    ],
)
def test_what_is_asked(label: int, sure: bool, parts: tuple[float, ...]) -> None:
    """Classification, box, fit, distillation; a second region alone makes up the sums' other half."""
    has_offsets = label not in (BACKGROUND, WHOLE)
    targets = Targets(
        torch.tensor([label, 0]),
        torch.zeros(2),
        torch.tensor([[0.0 if has_offsets else NAN] * 4, [0.0] * 4]),
        torch.tensor([sure, True]),
        torch.zeros(2, 0),
    )
    found = region_weights(targets, BACKGROUND, 0.25)
    assert tuple(share[0].item() for share in found) == parts
    assert tuple(count.item() for count in found.sums()) == tuple(part + 1 for part in parts)


@pytest.mark.parametrize(
    ("unsure", "expected"),
    [
        pytest.param(1.0, (8.0 + 0.0) / 2, id="as much as what is sure"),
        pytest.param(0.25, (0.25 * 8.0 + 0.0) / 1.25, id="a quarter"),
        pytest.param(0.0, 0.0, id="not at all"),
    ],
)
def test_unsure_background_sums_less(network: RegionNetwork, unsure: float, expected: float) -> None:
    """Two backgrounds: one taken for class 0 that may be one, one known for what it is."""
    logits = torch.tensor([SURE_OF_0, [0.0, 0.0, 8.0]])
    targets = Targets(
        torch.tensor([BACKGROUND, BACKGROUND]),
        torch.zeros(2),
        torch.full((2, 4), NAN),
        torch.tensor([False, True]),
        torch.zeros(2, 0),
    )
    output = RegionOutput(logits, torch.zeros(2, 4), logits)
    found = region_losses(network, output, targets, LossWeights(uncertain=unsure)).classification
    assert found.item() == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("logits", "label", "overlap", "smoothing", "expected"),
    [
        # The posterior of SURE_OF_0 is nearly 1, e-8, e-8; of no idea a third each.
        pytest.param(SURE_OF_0, 0, 1.0, 0.0, 0.00067, id="no smoothing"),
        pytest.param(SURE_OF_0, 0, 1.0, 0.3, 0.3 * 16 / 3 + 0.00067, id="a tenth each for two others"),
        pytest.param(
            SURE_OF_0, BACKGROUND, 0.0, 0.3, 0.7 * 8 + 0.3 * 16 / 3 + 0.00067, id="of background too"
        ),
        pytest.param(SURE_OF_0, 0, 0.5, 0.3, 0.7 * 4 + 0.3 * 16 / 3 + 0.00067, id="of a loose region too"),
        pytest.param(UNSURE, 0, 1.0, 0.3, 1.0986, id="no idea: all are asked alike anyway"),
        pytest.param(SURE_OF_0, UNKNOWN, 0.6, 0.0, 0.00034, id="unknown class: some object it is"),
        pytest.param(
            [0.0, 0.0, 8.0], UNKNOWN, 0.9, 0.0, 8.00067 - 0.6931, id="unknown, taken for background"
        ),
        pytest.param(UNSURE, UNKNOWN, 0.9, 0.0, 0.4055, id="unknown, no idea: two thirds are objects"),
        pytest.param(UNSURE, UNKNOWN, 0.9, 0.3, 0.4055, id="nothing to smooth where no class is asked"),
    ],
)
def test_smoothed_and_unknown(
    logits: list, label: int, overlap: float, smoothing: float, expected: float
) -> None:
    weights = LossWeights(label_smoothing=smoothing)
    found = cross_entropy(
        torch.tensor([logits]), torch.tensor([label]), torch.tensor([overlap]), BACKGROUND, weights
    )
    assert found.item() == pytest.approx(expected, abs=1e-4)


def test_side_classifiers_are_asked_the_same(network: RegionNetwork) -> None:
    logits = torch.tensor([SURE_OF_0, UNSURE])
    targets = Targets(
        torch.tensor([0, BACKGROUND]),
        torch.ones(2),
        torch.full((2, 4), NAN),
        torch.ones(2, dtype=torch.bool),
        torch.zeros(2, 0),
    )
    output = RegionOutput(logits, torch.zeros(2, 4), logits)
    weights = LossWeights(auxiliary=0.3)
    none = region_losses(network, output, targets, weights)
    two = region_losses(network, output, targets, weights, auxiliary=[logits, 0 * logits])
    assert none.auxiliary.item() == 0
    assert two.auxiliary.item() == pytest.approx(none.classification.item() + 1.0986, abs=1e-4)
    assert two.total.item() == pytest.approx(none.total.item() + 0.3 * two.auxiliary.item(), abs=1e-4)


@pytest.mark.parametrize("location", [False, True], ids=["a box head", "a location head"])
def test_pieces_add_up_to_the_whole(location: bool) -> None:
    """Each part is a mean over the whole minibatch's regions, also of a piece that has none of them."""
    network = RegionNetwork(GoogLeNet(3), torch.arange(3), CLASSES, location=location)
    logits = torch.tensor([SURE_OF_0, UNSURE, [0.0, 3.0, 1.0], UNSURE])
    targets = Targets(
        torch.tensor([0, BACKGROUND, 1, WHOLE]),
        torch.tensor([0.6, 0.0, 0.9, 0.0]),
        torch.tensor([[0.1] * 4, [NAN] * 4, [0.3] * 4, [NAN] * 4]),
        torch.tensor([True, False, True, True]),
        torch.tensor([UNSURE, UNSURE, SURE_OF_0, SURE_OF_0]),
    )
    output = RegionOutput(logits, torch.zeros(4, 4), logits, torch.zeros(4))
    whole = region_losses(network, output, targets, LossWeights())
    sums = region_weights(targets, BACKGROUND, LossWeights().uncertain).sums()
    rows = [[0, 1], [2], [3]]
    pieces = [
        region_losses(
            network,
            RegionOutput(*(part[piece] for part in output)),
            Targets(*(part[piece] for part in targets)),
            LossWeights(),
            sums=sums,
        )
        for piece in rows
    ]
    for name, expected in whole._asdict().items():
        found = sum(getattr(piece, name).item() for piece in pieces)
        assert found == pytest.approx(expected.item(), rel=1e-5), name
