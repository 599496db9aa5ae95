"""Class activation maps: their mean and offset are the class's logit."""

import numpy as np
import pytest
import torch

from detector.inference.class_activation import ClassLayer
from detector.models.region_network import ClassPooling

# Sub-classes of class 0, of class 1, of the background (2), and one that takes no part; class 3 has none.
LABELS = np.array([0, 0, 0, 1, 2, 2, -1])


@pytest.fixture
def maps() -> np.ndarray:
    return np.random.default_rng(0).random((4, 16, 7, 5), np.float32)


@pytest.fixture
def layer() -> ClassLayer:
    random = np.random.default_rng(1)
    weight = random.normal(size=(len(LABELS), 16)).astype(np.float32)
    return ClassLayer(weight, random.normal(size=len(LABELS)).astype(np.float32), LABELS)


@pytest.mark.parametrize(
    ("label", "scale"),
    [
        pytest.param(0, 1, id="several sub-classes"),
        pytest.param(1, 1, id="one sub-class"),
        pytest.param(2, 1, id="the background"),
        pytest.param(0, 300, id="logits whose exponentials have no float32"),
    ],
)
def test_mean_and_offset_are_the_logit(layer: ClassLayer, maps: np.ndarray, label: int, scale: int) -> None:
    """As torch's class pooling, which the networks are trained with, has it."""
    maps = maps * np.float32(scale)
    activation, offset = layer.activation(maps, label)
    mean = torch.from_numpy(maps).mean(dim=(2, 3))
    logits = mean @ torch.from_numpy(layer.weight.T.copy()) + torch.from_numpy(layer.bias)
    pooled = ClassPooling(torch.from_numpy(LABELS), 2)(logits)[:, label].numpy()
    assert activation.shape == (4, 7, 5)
    assert np.allclose(activation.mean(axis=(1, 2)) + offset, pooled, rtol=1e-5, atol=1e-4)


def test_of_one_sub_class_the_offset_is_the_bias(layer: ClassLayer, maps: np.ndarray) -> None:
    """Nothing of the evidence is left out of the map."""
    activation, offset = layer.activation(maps, 1)
    assert np.allclose(offset, layer.bias[3], atol=1e-5)
    assert np.allclose(activation, np.einsum("k,rkhw->rhw", layer.weight[3], maps), atol=1e-5)


def test_the_map_is_the_gradient_of_the_logit(layer: ClassLayer, maps: np.ndarray) -> None:
    """A place's part is how the logit changes with it: channels by their gradient, as Grad-CAM has it."""
    given = torch.from_numpy(maps).requires_grad_()
    logits = given.mean(dim=(2, 3)) @ torch.from_numpy(layer.weight.T.copy()) + torch.from_numpy(layer.bias)
    ClassPooling(torch.from_numpy(LABELS), 2)(logits)[:, 0].sum().backward()
    assert given.grad is not None
    weighted = (given.grad * given).sum(dim=1).detach().numpy() * (7 * 5)
    assert np.allclose(layer.activation(maps, 0)[0], weighted, atol=1e-4)


def test_a_class_without_sub_classes_has_an_empty_map(layer: ClassLayer, maps: np.ndarray) -> None:
    activation, offset = layer.activation(maps, 3)
    assert not activation.any()
    assert np.isneginf(offset).all()
