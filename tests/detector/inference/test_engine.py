"""A compiled trunk says what the plain one says."""

import copy
import logging
import shutil

import pytest
import torch

from detector.inference.engine import Engine
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
    trunk = copy.deepcopy(trunk)
    engine = Engine(
        trunk, trunk, lambda maps: (maps,), device="cpu", precision="bfloat16", batch=2, compile=compile
    )
    (maps,) = engine.run(crops)
    return maps


@needs_a_compiler
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
