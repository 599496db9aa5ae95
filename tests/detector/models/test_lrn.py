"""Local response normalisation against torch's own."""

import pytest
import torch
from torch.nn import functional as F

from detector.models.lrn import LocalResponseNorm

SHAPES = [
    (2, 64, 7, 9),
    (1, 192, 5, 5),
    (3, 8, 1, 1),
    (2, 3, 4, 4),
]  # the last: fewer channels than the window


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)], ids=["float32", "bfloat16"]
)
def test_equals_torch(
    shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype, tolerance: float
) -> None:
    x = torch.randn(shape) * 200  # as large as GoogLeNet's: the denominator matters
    expected = F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)
    norm = LocalResponseNorm(shape[1]).to(dtype)
    with torch.no_grad():
        got = norm(x.to(dtype, memory_format=layout)).float()
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()


def test_input_is_left_alone() -> None:
    x = torch.randn(1, 64, 3, 3)
    before = x.clone()
    with torch.no_grad():
        LocalResponseNorm(64)(x)
    assert torch.equal(x, before)


def test_gradient_equals_torch() -> None:
    x = torch.randn(2, 16, 3, 3, dtype=torch.float64) * 100
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn_like(x)
    (LocalResponseNorm(16).double()(ours) * weights).sum().backward()
    (F.local_response_norm(theirs, 5, 1e-4, 0.75, 1.0) * weights).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_bfloat16_on_gpu() -> None:
    x = torch.randn(2, 64, 5, 5) * 200
    norm = LocalResponseNorm(64).to("cuda", torch.bfloat16)
    with torch.no_grad():
        got = norm(x.to("cuda", torch.bfloat16, memory_format=torch.channels_last)).float().cpu()
    expected = F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
    assert (got - expected).abs().max() <= 2e-2 * expected.abs().max()
