"""The head of MultiBox: the order of what it says, what it says before training, what it refuses."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import (
    INITIAL_OBJECTNESS,
    SCALE,
    MultiBoxHead,
    MultiBoxNetwork,
    MultiBoxSpec,
    objectness_and_offsets,
    stages_read,
)
from detector.proposals.anchors import Grid

SPEC = MultiBoxSpec(
    ("fine", "coarse"),
    (12, 20),
    64,
    (
        Grid(8, np.array([(6, 6), (9, 5), (5, 9)], np.float32)),
        Grid(4, np.array([(20, 20)], np.float32)),
        Grid(2, np.array([(40, 30), (50, 50)], np.float32)),
        Grid(1, np.array([(60, 60)], np.float32)),
    ),
)
PRIORS = 8 * 8 * 3 + 4 * 4 * 1 + 2 * 2 * 2 + 1


def head(seed: int = 0) -> MultiBoxHead:
    torch.manual_seed(seed)
    return MultiBoxHead(SPEC).eval()


def maps(count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random maps [N,12,8,8] and [N,20,4,4], positive as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(count, 12, 8, 8, generator=generator),
        torch.rand(count, 20, 4, 4, generator=generator),
    )


def test_output_is_in_the_order_of_the_priors() -> None:
    """What the predictor of a grid says at a row, a column and a shape stands where that prior stands."""
    network, heard = head(), []
    for predictor in network.predict:
        predictor.register_forward_hook(lambda module, inputs, output: heard.append(output))
    with torch.no_grad():
        output = network(*maps())
    anchors = SPEC.anchors()
    assert output.shape == (2, PRIORS, 5)
    assert anchors.shape == (PRIORS, 4)
    index = 0
    for grid, said in zip(SPEC.grids, heard, strict=True):
        pitch = SPEC.size / grid.cells
        for row in range(grid.cells):
            for column in range(grid.cells):
                for shape, (w, h) in enumerate(grid.sides):
                    x, y = (column + 0.5) * pitch, (row + 0.5) * pitch
                    assert anchors[index].tolist() == [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                    assert torch.equal(output[:, index], said[:, shape * 5 : shape * 5 + 5, row, column])
                    index += 1


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (7, 0), (2, 5)])
def test_a_prior_hears_of_what_lies_under_it(row: int, column: int) -> None:
    """A change at one place of the fine maps is heard by the priors up to two cells away (two 3x3
    convolutions), and elsewhere by the normalisation alone."""
    fine, coarse = maps(1)
    changed = fine.clone()
    changed[:, :, row, column] += 1
    with torch.no_grad():
        before, after = (head()(one, coarse) for one in (fine, changed))
    heard = (after - before).abs().sum(dim=2)[0, : 8 * 8 * 3].reshape(-1, 3).sum(dim=1).numpy()
    boxes = SPEC.anchors()[: 8 * 8 * 3 : 3]
    away = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - [(column + 0.5) * 8, (row + 0.5) * 8]).max(axis=1)
    assert heard[away <= 16].min() > 2 * heard[away > 16].max()


def test_one_bias_makes_one_shape_fire() -> None:
    network = head()
    with torch.no_grad():
        network.predict[2].bias[5] = 30.0  # the second shape of the third grid
        objectness, _ = objectness_and_offsets(network(*maps(1)))
    first = 8 * 8 * 3 + 4 * 4
    assert np.flatnonzero(objectness[0].numpy() > 0.99).tolist() == [
        first + 1,
        first + 3,
        first + 5,
        first + 7,
    ]
    assert (
        SPEC.anchors()[[first + 1, first + 3], 2:] - SPEC.anchors()[[first + 1, first + 3], :2] == 50
    ).all()


def test_before_training_objects_are_rare() -> None:
    """So that the first minibatches are not spent on unlearning thousands of objects."""
    said = torch.cat([head(seed)(*maps(4, seed)) for seed in range(3)])
    objectness, offsets = objectness_and_offsets(said.detach())
    assert objectness.mean().item() == pytest.approx(INITIAL_OBJECTNESS, rel=0.3)
    assert objectness.max() < 10 * INITIAL_OBJECTNESS
    assert offsets.abs().mean() < 0.1, "and boxes are about where the priors are"


def test_offsets_are_brought_to_pixels_by_the_scale() -> None:
    output = torch.tensor([[[0.0, 1.0, -2.0, 3.0, 0.5]]])
    objectness, offsets = objectness_and_offsets(output)
    assert objectness.tolist() == [[0.5]]
    assert offsets[0, 0].tolist() == pytest.approx([SCALE[0], -2 * SCALE[1], 3 * SCALE[2], 0.5 * SCALE[3]])


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    """In training mode as well: normalisation is by groups of channels, not over the batch."""
    fine, coarse = maps(5)
    network = head().train()
    with torch.no_grad():
        together = network(fine, coarse)
        alone = torch.cat([network(fine[n : n + 1], coarse[n : n + 1]) for n in range(5)])
        used = network.eval()(fine, coarse)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.equal(together, used)


def test_gradient_reaches_every_parameter() -> None:
    network = head().train()
    network(*maps()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("fine", "coarse", "says"),
    [
        ((8, 8), (5, 5), "5 cells do not fit a grid of 4"),
        ((9, 9), (4, 4), "9 cells do not fit a grid of 8"),
        ((8, 8), (3, 3), "3 cells do not fit a grid of 4"),
    ],
    ids=["coarse maps too large", "fine maps too large", "coarse maps too small"],
)
def test_maps_that_do_not_fit_the_grids(fine: tuple[int, int], coarse: tuple[int, int], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        head()(torch.rand(1, 12, *fine), torch.rand(1, 20, *coarse))


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, grids=SPEC.grids[:2])], ids=["four grids", "two grids"])
def test_a_spec_survives_json(spec: MultiBoxSpec) -> None:
    again = MultiBoxSpec.from_json(json.loads(json.dumps(spec.as_json())))
    assert again == spec
    assert np.array_equal(again.anchors(), spec.anchors())
    assert again != replace(spec, size=65)
    first, second = MultiBoxHead(spec), MultiBoxHead(again)
    second.load_state_dict(first.state_dict())


def changed(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(values)


@pytest.mark.parametrize(
    "garble",
    [
        pytest.param(lambda entry: entry.pop("grids"), id="no grids"),
        pytest.param(lambda entry: entry.pop("size"), id="no size"),
        pytest.param(changed(grids=[]), id="not one grid"),
        pytest.param(lambda entry: entry["grids"].pop(), id="one grid, where two maps are read"),
        pytest.param(lambda entry: entry["grids"][1].pop("sides"), id="a grid without shapes"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[]), id="a grid of no shapes"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[1, 2, 3]), id="half a shape"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[[4, -2]]), id="a negative side"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[[4, float("nan")]]), id="no number"),
        pytest.param(lambda entry: entry["grids"][1].update(cells=0), id="a grid of no cells"),
        pytest.param(changed(size=0), id="an input of no pixels"),
        pytest.param(changed(stages=["fine"]), id="one stage"),
        pytest.param(changed(channels=[12, "twenty"]), id="channels that are no number"),
        pytest.param(changed(channels=[12, 0]), id="no channels"),
    ],
)
def test_a_garbled_spec_is_refused(garble: Callable[[dict[str, Any]], Any]) -> None:
    entry = replace(SPEC, grids=SPEC.grids[:2]).as_json()
    MultiBoxSpec.from_json(entry)
    garble(entry)
    with pytest.raises((KeyError, TypeError, ValueError)):
        MultiBoxSpec.from_json(entry)


def trunk() -> nn.Sequential:
    """Four stages; ``late`` is never needed."""
    network = nn.Sequential()
    network.add_module("first", nn.Conv2d(3, 6, 3, stride=4, padding=1))
    network.add_module("fine", nn.Conv2d(6, 12, 3, stride=2, padding=1))
    network.add_module("coarse", nn.Conv2d(12, 20, 3, stride=2, padding=1))
    network.add_module("late", nn.Conv2d(20, 7, 3))
    return network


def test_the_network_runs_the_trunk_as_far_as_it_is_read() -> None:
    features = trunk()
    network = MultiBoxNetwork(features, head())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        fine = features.fine(features.first(images))
        expected = network.head(fine, features.coarse(fine))
        assert torch.equal(network(images), expected)
    assert [name for name, _ in network.trunk.named_children()] == ["first", "fine", "coarse"]
    assert network.trunk.coarse is features.coarse, "shared, not copied"


@pytest.mark.parametrize(
    ("stages", "count"),
    [(("first", "fine"), 2), (("fine", "coarse"), 3), (("late", "first"), 4), (("first", "first"), 1)],
    ids=["two", "three", "whatever their order", "one"],
)
def test_how_many_stages_are_read(stages: tuple[str, str], count: int) -> None:
    assert stages_read(trunk(), stages) == count


@pytest.mark.parametrize(
    "stages", [("fine", "inception_9z"), ("inception_9z", "fine")], ids=["second", "first"]
)
def test_a_stage_that_the_trunk_lacks_is_named(stages: tuple[str, str]) -> None:
    with pytest.raises(ParameterError, match="no stage 'inception_9z'; it has first, fine, coarse, late"):
        MultiBoxNetwork(trunk(), MultiBoxHead(replace(SPEC, stages=stages)))


def test_it_fits_googlenet(classifier_checkpoint: Checkpoint, multibox_spec: MultiBoxSpec) -> None:
    network = MultiBoxNetwork(classifier_checkpoint.backbone.features, MultiBoxHead(multibox_spec)).eval()
    with torch.no_grad():
        output = network(torch.randn(1, 3, 224, 224))
    assert output.shape == (1, len(multibox_spec.anchors()), 5)
