"""First weights that fit the pictures: without batch normalisation a deep network starts badly otherwise.

Pooling and rectifying add up. With first weights made for their fan-in alone (arXiv 1502.01852), the last
maps of ImageNet pictures are some ten times the input, and a fifth of that tells pictures apart; the rest is
the same for all, and a usual learning rate makes the classifier swing. So every channel is brought to mean 0
and deviation 1 over some pictures, once, before training (Krähenbühl et al., arXiv 1511.06856, section 3.1,
whose rule is Mishkin and Matas', arXiv 1511.06422, by channel).
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

_LEAST = 1e-3
"""A channel that hardly varies over the pictures is stretched by no more than its inverse."""


@torch.no_grad()
def fit_to(network: nn.Module, pictures: Tensor) -> None:
    """Scale and shift each convolution, in place, for the pictures [N,3,S,S] that the network is to see.

    One forward does it: each convolution is corrected when its turn comes, so the next sees what it will see.
    """
    with ExitStack() as hooks:
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                hooks.callback(part.register_forward_hook(_correct).remove)
        network(pictures)


def _correct(convolution: nn.Module, _: Any, output: Tensor) -> Tensor:
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    mean = output.mean(dim=(0, 2, 3))  # [K]
    deviation = output.std(dim=(0, 2, 3)).clamp_min(_LEAST)  # [K]
    convolution.weight /= deviation[:, None, None, None]
    convolution.bias.copy_((convolution.bias - mean) / deviation)
    return (output - mean[:, None, None]) / deviation[:, None, None]
