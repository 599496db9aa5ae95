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
from detector.inference.image_scales import ImageScales, Square
from detector.models.multibox_head import (
    INITIAL_OBJECTNESS,
    SCALE,
    MultiBoxHead,
    objectness_and_offsets,
    stages_read,
)
from detector.models.multibox_spec import MultiBoxSpec
from detector.proposals.anchors import Grid

SPEC = MultiBoxSpec(
    ("fine", "coarse"),
    (12, 20),
    ImageScales((32, 64)),
    (
        Grid(8, 6.5, np.array([(6, 6), (9, 5), (5, 9)], np.float32)),
        Grid(16, 14.5, np.array([(20, 20)], np.float32)),
        Grid(32, 14.5, np.array([(40, 30), (50, 50)], np.float32)),
        Grid(64, 14.5, np.array([(60, 60)], np.float32)),
    ),
)
FINE, COARSE = (8, 8), (4, 4)
"""Cells of the maps of 64 x 64 pixels."""

Cells = tuple[int, int]


def head(seed: int = 0) -> MultiBoxHead:
    torch.manual_seed(seed)
    return MultiBoxHead(SPEC).eval()


def maps(count: int = 2, seed: int = 0, fine: Cells = FINE, coarse: Cells = COARSE) -> tuple[Tensor, Tensor]:
    """Random maps [N,12,8,8] and [N,20,4,4], positive as after a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.rand(count, 12, *fine, generator=generator),
        torch.rand(count, 20, *coarse, generator=generator),
    )


@pytest.mark.parametrize(
    ("fine", "coarse", "cells"),
    [
        pytest.param((8, 8), (4, 4), [(8, 8), (4, 4), (2, 2), (1, 1)], id="a square"),
        pytest.param((6, 20), (3, 10), [(6, 20), (3, 10), (2, 5), (1, 3)], id="lying, odd numbers"),
        pytest.param((14, 2), (7, 1), [(14, 2), (7, 1), (4, 1), (2, 1)], id="standing, one cell wide"),
        pytest.param((2, 2), (1, 1), [(2, 2), (1, 1), (1, 1), (1, 1)], id="one cell"),
    ],
)
def test_output_is_in_the_order_of_the_priors(fine: Cells, coarse: Cells, cells: list[Cells]) -> None:
    """What the predictor of a grid says at a row, a column and a shape stands where that prior stands."""
    network, heard = head(), []
    for predictor in network.predict:
        predictor.register_forward_hook(lambda module, inputs, output: heard.append(output))
    with torch.no_grad():
        output = network(*maps(fine=fine, coarse=coarse))
    anchors = SPEC.anchors(fine, coarse)
    assert output.shape == (2, len(anchors), 5)
    index = 0
    for grid, (height, width), said in zip(SPEC.grids, cells, heard, strict=True):
        for row in range(height):
            for column in range(width):
                for shape, (w, h) in enumerate(grid.sides):
                    x, y = (grid.first_centre + number * grid.stride for number in (column, row))
                    assert anchors[index].tolist() == [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                    assert torch.equal(output[:, index], said[:, shape * 5 : shape * 5 + 5, row, column])
                    index += 1
    assert index == len(anchors)


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
    boxes = SPEC.anchors(FINE, COARSE)[: 8 * 8 * 3 : 3]
    away = np.abs((boxes[:, :2] + boxes[:, 2:]) / 2 - [column * 8 + 6.5, row * 8 + 6.5]).max(axis=1)
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
    fired = SPEC.anchors(FINE, COARSE)[first + 1 : first + 9 : 2]
    assert (fired[:, 2:] - fired[:, :2] == 50).all()


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


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, grids=SPEC.grids[:2])], ids=["four grids", "two grids"])
def test_a_spec_survives_json(spec: MultiBoxSpec) -> None:
    again = MultiBoxSpec.from_json(json.loads(json.dumps(spec.as_json())))
    assert again == spec
    assert np.array_equal(again.anchors(FINE, COARSE), spec.anchors(FINE, COARSE))
    assert again != replace(spec, image=ImageScales((32, 65)))
    first, second = MultiBoxHead(spec), MultiBoxHead(again)
    second.load_state_dict(first.state_dict())


def changed(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(values)


@pytest.mark.parametrize(
    "garble",
    [
        pytest.param(lambda entry: entry.pop("grids"), id="no grids"),
        pytest.param(lambda entry: entry.pop("image"), id="no scales"),
        pytest.param(changed(grids=[]), id="not one grid"),
        pytest.param(changed(grids=[8, 16]), id="grids that are numbers"),
        pytest.param(lambda entry: entry["grids"].pop(), id="one grid, where two maps are read"),
        pytest.param(lambda entry: entry["grids"][1].pop("sides"), id="a grid without shapes"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[]), id="a grid of no shapes"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[1, 2, 3]), id="half a shape"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[[4, -2]]), id="a negative side"),
        pytest.param(lambda entry: entry["grids"][1].update(sides=[[4, float("nan")]]), id="no number"),
        pytest.param(lambda entry: entry["grids"][1].pop("stride"), id="a grid without a stride"),
        pytest.param(lambda entry: entry["grids"][1].update(stride=0), id="cells in one place"),
        pytest.param(lambda entry: entry["grids"][1].update(stride=8.5), id="cells between pixels"),
        pytest.param(lambda entry: entry["grids"][1].pop("first_centre"), id="a grid without a start"),
        pytest.param(lambda entry: entry["grids"][1].update(first_centre="x"), id="a start as text"),
        pytest.param(lambda entry: entry["grids"][1].update(first_centre=True), id="a start that is true"),
        pytest.param(lambda entry: entry["grids"][1].update(first_centre=-1), id="a start outside"),
        pytest.param(
            lambda entry: entry["grids"][1].update(first_centre=float("nan")), id="a start that is no number"
        ),
        pytest.param(lambda entry: entry["grids"][1].update(first_centre=1e9), id="an endless start"),
        pytest.param(changed(image=[32, 64]), id="scales alone"),
        pytest.param(lambda entry: entry["image"].pop("padding"), id="scales without a padding"),
        pytest.param(lambda entry: entry["image"].update(stage="fine"), id="more than scales"),
        pytest.param(lambda entry: entry["image"].update(scales="large"), id="scales as text"),
        pytest.param(lambda entry: entry["image"].update(scales=[]), id="no scale"),
        pytest.param(lambda entry: entry["image"].update(scales=[64, 32]), id="scales that descend"),
        pytest.param(lambda entry: entry["image"].update(scales=[10**9]), id="an endless scale"),
        pytest.param(lambda entry: entry["image"].update(long_side=None), id="no longest side"),
        pytest.param(changed(stages=["fine"]), id="one stage"),
        pytest.param(changed(channels=[12, "twenty"]), id="channels that are no number"),
        pytest.param(changed(channels=[12, 0]), id="no channels"),
    ],
)
def test_a_garbled_spec_is_refused(garble: Callable[[dict[str, Any]], Any]) -> None:
    entry = replace(SPEC, grids=SPEC.grids[:2]).as_json()
    MultiBoxSpec.from_json(entry)
    garble(entry)
    with pytest.raises((KeyError, ValueError)):
        MultiBoxSpec.from_json(entry)


EARLIER = {
    "stages": ["fine", "coarse"],
    "channels": [12, 20],
    "size": 224,
    "grids": [{"cells": cells, "sides": [[9, 7]]} for cells in (28, 14, 7, 4)],
}
"""A head of an earlier file: it reads a square image, and its grids are so many cells a side."""


def test_anchors_of_an_earlier_file_lie_evenly_in_its_square() -> None:
    spec = MultiBoxSpec.from_json(EARLIER)
    assert spec.image == Square(224)
    anchors = spec.anchors((28, 28), (14, 14))
    expected: list[tuple[float, ...]] = []
    for cells in (28, 14, 7, 4):
        centre = (np.arange(cells) + 0.5) * 224 / cells
        expected += [(x - 4.5, y - 3.5, x + 4.5, y + 3.5) for y in centre for x in centre]
    assert np.allclose(anchors, expected)


def test_an_earlier_head_survives_json() -> None:
    spec = MultiBoxSpec.from_json(EARLIER)
    assert MultiBoxSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec


@pytest.mark.parametrize(
    "garble",
    [
        pytest.param(lambda entry: entry.update(size=0), id="no pixels"),
        pytest.param(lambda entry: entry.update(size="large"), id="no number"),
        pytest.param(lambda entry: entry["grids"][0].pop("cells"), id="a grid of no number of cells"),
        pytest.param(lambda entry: entry["grids"][0].update(cells=0), id="no cells"),
    ],
)
def test_a_garbled_earlier_spec_is_refused(garble: Callable[[dict[str, Any]], Any]) -> None:
    entry = json.loads(json.dumps(EARLIER))
    garble(entry)
    with pytest.raises((KeyError, ValueError)):
        MultiBoxSpec.from_json(entry)


def trunk() -> nn.Sequential:
    """Four stages; ``late`` is never needed."""
    network = nn.Sequential()
    network.add_module("first", nn.Conv2d(3, 6, 3, stride=4, padding=1))
    network.add_module("fine", nn.Conv2d(6, 12, 3, stride=2, padding=1))
    network.add_module("coarse", nn.Conv2d(12, 20, 3, stride=2, padding=1))
    network.add_module("late", nn.Conv2d(20, 7, 3))
    return network


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
        stages_read(trunk(), stages)
