"""The MultiBox network: a head on the maps of a classifier's trunk that proposes boxes of objects.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014): a confidence and box offsets
for each of K anchors (there: priors). The convolutional form is that of Szegedy et al., "Scalable,
High-Quality Object Detection" (arXiv 1412.1441): the anchors lie on grids of several strides, at several
scales of the image. Letters for shapes: N images.
"""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import ParameterError
from detector.models.multibox_spec import MultiBoxSpec

INITIAL_OBJECTNESS = 0.01
"""The objectness of every anchor before training: most anchors hold no object."""

SCALE = (0.1, 0.1, 0.2, 0.2)
"""Offsets are divided by these, as R-CNN's are: an output of 1 moves a box by a typical error."""

_WIDTH, _FINE_WIDTH, _GROUPS = 192, 64, 16


class MultiBoxHead(nn.Module):
    """The head that predicts objectness and box offsets of every anchor from the trunk's maps at two depths.

    Normalisation is by groups of channels: it is the same in training and in use, for every size of batch.
    """

    def __init__(self, spec: MultiBoxSpec) -> None:
        super().__init__()
        self.spec = spec
        fine, coarse = spec.channels
        shapes = [len(grid.sides) for grid in spec.grids]
        self.reduce_fine = nn.Conv2d(fine, _FINE_WIDTH, 1)
        self.reduce = _block(coarse, _WIDTH, 1)
        self.mix = _block(_WIDTH, _WIDTH, 3)
        self.down = nn.ModuleList(_block(_WIDTH, _WIDTH, 3, stride=2) for _ in shapes[2:])
        self.context = nn.Conv2d(_WIDTH, _FINE_WIDTH, 1)
        self.norm_fine = nn.GroupNorm(_GROUPS, _FINE_WIDTH)
        self.mix_fine = _block(_FINE_WIDTH, _FINE_WIDTH, 3)
        widths = [_FINE_WIDTH] + [_WIDTH] * (len(shapes) - 1)
        outputs = [
            nn.Conv2d(width, count * 5, 3, padding=1) for width, count in zip(widths, shapes, strict=True)
        ]
        self.predict = nn.ModuleList(outputs)
        _initialise(self, outputs)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Predict [N,K,5], the objectness logit and whitened offsets, from maps at two depths.

        With GoogLeNet at 224 pixels the maps are [N,480,28,28] and [N,832,14,14]; any other size will do.
        """
        level = self.mix(self.reduce(coarse))  # N x 192 x 14 x 14
        above = F.interpolate(self.context(level), size=fine.shape[2:], mode="nearest")
        detail = torch.relu(self.norm_fine(self.reduce_fine(fine) + above))  # N x 64 x 28 x 28
        levels = [self.mix_fine(detail), level]
        for down in self.down:
            levels.append(down(levels[-1]))  # N x 192 x 7 x 7, x 4 x 4
        outputs = [
            predict(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 5)  # N x h*w*shapes x 5
            for predict, x in zip(self.predict, levels, strict=True)
        ]
        return torch.cat(outputs, dim=1)


def objectness_and_offsets(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split outputs [N,K,5] into objectness [N,K] in 0..1, and offsets [N,K,4] for ``boxes.decode``."""
    return output[..., 0].sigmoid(), output[..., 1:] * output.new_tensor(SCALE)


def stages_read(features: nn.Sequential, stages: Sequence[str]) -> int:
    """Return how many stages of a trunk must run for a head that reads ``stages``.

    Raises ParameterError if the trunk lacks one of them.
    """
    names = [name for name, _ in features.named_children()]
    unknown = [name for name in stages if name not in names]
    if unknown:
        raise ParameterError(f"the trunk has no stage {unknown[0]!r}; it has {', '.join(names)}")
    return 1 + max(names.index(name) for name in stages)


def _initialise(head: nn.Module, outputs: Sequence[nn.Conv2d]) -> None:
    for part in head.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    for output in outputs:
        nn.init.normal_(output.weight, std=0.01)
        with torch.no_grad():
            output.bias.view(-1, 5)[:, 0] = float(np.log(INITIAL_OBJECTNESS / (1 - INITIAL_OBJECTNESS)))  # type: ignore[union-attr]


def _block(channels: int, filters: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2),
            norm=nn.GroupNorm(_GROUPS, filters),
            relu=nn.ReLU(inplace=True),
        )
    )
