"""The loss, against what it should be by hand."""

import pytest
import torch

from detector.googlenet import GoogLeNet
from detector.region_network import RegionNetwork, RegionOutput
from training.feature_cache import WHOLE
from training.objective import Losses, LossWeights, Targets, losses

CLASSES = 2
BACKGROUND = CLASSES
NAN = float("nan")


@pytest.fixture(scope="module")
def network() -> RegionNetwork:
    return RegionNetwork(GoogLeNet(3), torch.arange(3), CLASSES)


def _losses(
    network: RegionNetwork, logits: list, labels: list, overlaps: list, deltas: list | None = None
) -> Losses:
    count = len(labels)
    output = RegionOutput(torch.tensor(logits), torch.zeros(count, 4), torch.tensor(logits))
    targets = Targets(
        torch.tensor(labels),
        torch.tensor(overlaps),
        torch.tensor(deltas) if deltas else torch.full((count, 4), NAN),
        torch.ones(count, dtype=torch.bool),
        torch.tensor(logits),
    )
    return losses(network, output, targets, LossWeights(box=1.0, distillation=0.5))


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


def test_box_loss_counts_where_there_are_offsets(network: RegionNetwork) -> None:
    """Offsets of one whitened unit from an output of zero: smooth L1 gives a half."""
    scale = [0.1, 0.1, 0.2, 0.2]
    part = _losses(network, [UNSURE, UNSURE], [0, BACKGROUND], [1.0, 0.0], [scale, [NAN] * 4])
    assert part.box.item() == pytest.approx(0.5)
    assert _losses(network, [UNSURE], [BACKGROUND], [0.0]).box.item() == 0


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
    assert losses(network, output, targets, LossWeights()).distillation.item() == pytest.approx(
        expected, abs=1e-3
    )
