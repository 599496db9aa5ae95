"""Batches, precisions and devices of torch's engine; a compiled trunk gives what the plain one gives."""

import logging
import shutil

import numpy as np
import pytest
import torch

from detector.errors import ParameterError
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.torch_engine import (
    InferenceNetwork,
    TensorOutputs,
    TorchEngine,
    choose_device,
    choose_precision,
    place,
)
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint
from detector.models.googlenet import GoogLeNet

needs_a_compiler = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


@pytest.fixture
def trunk() -> torch.nn.Sequential:
    """The first four stages: enough of every kind of layer, and quick to compile."""
    torch.manual_seed(0)
    return GoogLeNet(10).features[:4]


def _run(trunk: torch.nn.Module, *, compile: bool) -> torch.Tensor:
    torch.manual_seed(1)
    crops = torch.randn(5, 3, 32, 32) * 50
    network = place(InferenceNetwork(trunk, lambda maps: {"maps": maps}), device="cpu", precision="bfloat16")
    engine = TorchEngine(network, batch=2, compile=compile)
    return run_directly(ForwardRequest.of(engine, crops))["maps"]


@needs_a_compiler
@pytest.mark.exhaustive
def test_compiled_equals_plain(trunk: torch.nn.Sequential, caplog: pytest.LogCaptureFixture) -> None:
    """Two whole batches and a part of one, within what bfloat16 rounds."""
    plain, compiled = (_run(trunk, compile=compile) for compile in (False, True))
    assert "uncompiled" not in caplog.text, "it was compiled, or this would compare a thing with itself"
    assert (plain - compiled).abs().max() <= 0.02 * plain.abs().max()


def test_without_a_compiler_it_runs_as_it_is(
    trunk: torch.nn.Sequential, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "/nowhere/g++"))
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING):
        compiled = _run(trunk, compile=True)
    assert "The trunk runs uncompiled" in caplog.text
    assert torch.equal(compiled, _run(trunk, compile=False))


class _Logits(torch.nn.Module):
    """Maps [R,1024,7,7] -> ``logits`` [R,C]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, maps: torch.Tensor) -> TensorOutputs:
        return {"logits": self.backbone.pool(maps)}


def pooled(backbone: Backbone) -> InferenceNetwork:
    """A backbone as an engine runs it, in evaluation mode."""
    return InferenceNetwork(backbone.features, _Logits(backbone)).eval()


@pytest.mark.parametrize("buckets", [None, (1, 3)], ids=["as they are", "filled up"])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 9], ids=lambda n: f"{n} crops")
def test_engine_batches_do_not_change_results(count: int, buckets: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    network = GoogLeNet(10)
    engine = TorchEngine(pooled(network), batch=4, buckets=buckets)
    crops = torch.randn(count, 3, 224, 224) * 50
    with torch.no_grad():
        expected = torch.cat([network.logits(crop[None]) for crop in crops]) if count else torch.zeros(0, 10)
    got = run_directly(ForwardRequest.of(engine, crops))["logits"]
    assert got.shape == expected.shape
    assert np.allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        pytest.param(0, 1, id="none"),
        pytest.param(1, 1, id="as many as the smallest"),
        pytest.param(2, 4, id="filled up to the next"),
        pytest.param(5, 9, id="filled up to a whole batch"),
        pytest.param(9, 9, id="a whole batch"),
    ],
)
def test_an_engine_fills_batches_up(rows: int, seen: int) -> None:
    sizes: list[int] = []

    def heads(maps: torch.Tensor) -> TensorOutputs:
        sizes.append(len(maps))
        return {"sum": maps.sum(dim=(1, 2, 3))}

    engine = TorchEngine(InferenceNetwork(torch.nn.Identity(), heads), batch=9, buckets=(4, 1))
    outputs = engine.start(torch.ones(rows, 3, 2, 2)).finish()
    assert sizes == [seen]
    assert outputs["sum"].tolist() == [12.0] * rows


def test_bfloat16_scores_are_close(classifier_checkpoint: Checkpoint) -> None:
    crops = torch.randn(2, 3, 224, 224) * 50
    found = []
    for precision in ("float32", "bfloat16"):
        network = pooled(classifier_checkpoint.backbone)
        engine = TorchEngine(place(network, device="cpu", precision=precision))
        found.append(torch.from_numpy(run_directly(ForwardRequest.of(engine, crops))["logits"]).softmax(1))
    assert (found[0] - found[1]).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: choose_device("quantum"), "unknown device"),
        (lambda: choose_precision("int3", torch.device("cpu")), "unknown precision"),
    ],
)
def test_engine_refuses(call, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(ParameterError, match="no CUDA device"):
        choose_device("cuda")
