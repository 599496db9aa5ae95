"""First weights that fit the pictures: what they are for, measured."""

import pytest
import torch
from torch import Tensor

from detector.models.googlenet import GoogLeNet
from training.classification.initialization import lsuv_initialise


def images(count: int) -> Tensor:
    """Blocks of random colours, of about deviation 1, as ImageNet's are once normalised."""
    torch.manual_seed(0)
    blocks = torch.randn(count, 3, 4, 4) + torch.randn(count, 3, 1, 1)
    return torch.nn.functional.interpolate(blocks, 224) * 0.7


@pytest.fixture(scope="module")
def networks() -> tuple[GoogLeNet, GoogLeNet]:
    """One as it is made, and one that was fitted to eight pictures."""
    torch.manual_seed(0)
    made = GoogLeNet(10, aux=True).train()
    torch.manual_seed(0)
    fitted = GoogLeNet(10, aux=True).train()
    lsuv_initialise(fitted, images(8))
    return made, fitted


def test_every_channel_has_mean_0_and_deviation_1(networks: tuple[GoogLeNet, GoogLeNet]) -> None:
    """Over the pictures that it was fitted to, when they run through once more."""
    _, fitted = networks
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        part.register_forward_hook(lambda _, __, out: seen.append((out.mean((0, 2, 3)), out.std((0, 2, 3)))))
        for part in fitted.modules()
        if isinstance(part, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        fitted(images(8))
    for hook in hooks:
        hook.remove()
    assert len(seen) == 57 + 2, "Table 1's convolutions and the side classifiers'"
    for mean, deviation in seen:
        assert mean.abs().max() < 0.02
        assert (deviation - 1).abs().max() < 0.02


@torch.no_grad()
def test_what_tells_pictures_apart_is_more_of_it(networks: tuple[GoogLeNet, GoogLeNet]) -> None:
    """Of pictures that it was not fitted to: how much they differ, beside what they have in common."""
    shares = []
    for network in networks:
        pooled = network.features(images(16)[8:]).mean(dim=(2, 3))  # N x 1024
        shares.append((pooled.std(dim=0).norm() / pooled.mean(dim=0).norm()).item())
    made, fitted = shares
    assert fitted > 2 * made


def test_a_channel_without_variation_stays_finite() -> None:
    """All pictures black: nothing to fit to, and nothing is divided by zero."""
    torch.manual_seed(0)
    network = GoogLeNet(10)
    lsuv_initialise(network, torch.zeros(2, 3, 224, 224))
    assert all(value.isfinite().all() for value in network.parameters())
