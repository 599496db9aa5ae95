"""RoIAlign (He et al., arXiv 1703.06870, section 3) with one bilinear sample in the middle of each bin.

Letters for shapes: N images, K channels, R regions.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag
from torchvision import ops


def roi_align(maps: Tensor, regions: Tensor, size: int, spatial_scale: float) -> Tensor:
    """Sample regions [R,5] (image, x1, y1, x2, y2) from maps [N,K,h,w] -> [R,K,size,size].

    Beyond the maps' edge by up to one cell a sample has the edge's value, further off zero. The values are
    those of ``torchvision.ops.roi_align``. That operator reads one channel after another, so the maps of a
    trunk in channels_last are copied to it and back, and on a CPU its gradient adds up single numbers; there
    a sample is taken as four rows of all channels instead.
    """
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        return _align_rows(maps, regions, size, spatial_scale)
    return ops.roi_align(maps, regions, size, spatial_scale=spatial_scale, sampling_ratio=1, aligned=True)


def _align_rows(maps: Tensor, regions: Tensor, size: int, spatial_scale: float) -> Tensor:
    """Sample rows of all channels; the result is in channels_last."""
    n, channels, height, width = maps.shape
    boxes = regions[:, 1:] * spatial_scale - 0.5
    middles = (torch.arange(size, device=maps.device, dtype=boxes.dtype) + 0.5) / size
    xs = boxes[:, 0, None] + (boxes[:, 2] - boxes[:, 0])[:, None] * middles  # R x size
    ys = boxes[:, 1, None] + (boxes[:, 3] - boxes[:, 1])[:, None] * middles
    columns, across = _taps_or_edge(xs, width)  # R x size x 2 each
    rows, down = _taps_or_edge(ys, height)
    first = (regions[:, 0].long() * (height * width))[:, None, None, None, None]
    # R x size x size x 2 x 2: the four cells around each sample
    cells = first + rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    shares = down[:, :, None, :, None] * across[:, None, :, None, :]
    table = maps.permute(0, 2, 3, 1).reshape(n * height * width, channels).contiguous()
    samples = embedding_bag(cells.reshape(-1, 4), table, per_sample_weights=shares.reshape(-1, 4), mode="sum")
    return samples.view(len(regions), size, size, channels).permute(0, 3, 1, 2)


def _taps_or_edge(at: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the two cells around each position along an axis, and what each counts for: [...,2] both.

    Beyond the edge by up to one cell it is the edge's cell, further off nothing counts.
    """
    inside = (at >= -1) & (at <= length)
    at = at.clamp(0, length - 1)
    low = at.floor().long().clamp_max(max(length - 2, 0))
    high = (low + 1).clamp_max(length - 1)
    share = at - low
    shares = torch.stack([1 - share, share], dim=-1) * inside[..., None]
    return torch.stack([low, high], dim=-1), shares
