"""Local response normalisation across channels, fast in bfloat16 and channels_last on CPU and GPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LocalResponseNorm(nn.Module):
    """Local response normalisation: ``x / (k + alpha / size * sum of x**2 over size channels) ** 0.75``.

    Krizhevsky et al. 2012, section 3.3, with Caffe's numbers; alpha is divided by the size as in Caffe.
    The sum over a window of channels is a 1x1 convolution with a banded matrix: a matrix product that every
    device runs well in every precision and memory format. torch's own ``local_response_norm`` pools over a
    fifth dimension instead, which is slow and has no bfloat16 kernel on the CPU.

    x [N,C,H,W] -> [N,C,H,W].
    """

    band: Tensor
    k: Tensor

    def __init__(self, channels: int, size: int = 5, alpha: float = 1e-4, k: float = 1.0) -> None:
        super().__init__()
        channel = torch.arange(channels)
        near = (channel[:, None] - channel[None, :]).abs() <= size // 2
        band = near.float() * (alpha / size)
        self.register_buffer("band", band[:, :, None, None], persistent=False)  # C x C x 1 x 1
        self.register_buffer("k", torch.full((channels,), k), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        square = x * x
        scale = F.conv2d(square, self.band, self.k)
        if torch.is_grad_enabled() and x.requires_grad:
            root = scale.rsqrt()
            return x * root * root.sqrt()
        # In place: on a CPU most time goes into allocating memory, not into arithmetic.
        scale.rsqrt_()
        torch.sqrt(scale, out=square)
        return square.mul_(scale).mul_(x)
