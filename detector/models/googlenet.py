"""GoogLeNet: "Going Deeper with Convolutions", arXiv 1409.4842, Table 1 and section 5.

Letters for shapes: N images, C classes. The size beside each stage is that of its output for a 224x224 input.
"""

from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.backbone import Backbone
from detector.models.lrn import LocalResponseNorm


class GoogLeNetOutput(NamedTuple):
    """Logits [N,C] of the main classifier and, while training, of the two auxiliary ones (else None)."""

    logits: Tensor
    aux_4a: Tensor | None
    aux_4d: Tensor | None


class GoogLeNet(Backbone):
    """The network of Table 1.

    Images are [N,3,224,224], normalised with the checkpoint's mean and deviation. The auxiliary classifiers
    (section 5, on 4a and 4d) exist only with ``aux`` and run only in training mode; their losses are meant
    to be weighted 0.3.
    """

    def __init__(self, num_classes: int = 1000, *, aux: bool = False) -> None:
        features = nn.Sequential(
            OrderedDict(
                conv1=_conv(3, 64, 7, stride=2),  # N x 64 x 112 x 112
                pool1=_pool(),  # N x 64 x 56 x 56
                norm1=LocalResponseNorm(64),
                conv2_reduce=_conv(64, 64, 1),
                conv2=_conv(64, 192, 3),  # N x 192 x 56 x 56
                norm2=LocalResponseNorm(192),
                pool2=_pool(),  # N x 192 x 28 x 28
                #                       in  1x1   3x3 reduce, 3x3   5x5 reduce, 5x5   pool proj
                inception_3a=Inception(192, 64, 96, 128, 16, 32, 32),  # N x 256 x 28 x 28
                inception_3b=Inception(256, 128, 128, 192, 32, 96, 64),  # N x 480 x 28 x 28
                pool3=_pool(),  # N x 480 x 14 x 14
                inception_4a=Inception(480, 192, 96, 208, 16, 48, 64),  # N x 512 x 14 x 14
                inception_4b=Inception(512, 160, 112, 224, 24, 64, 64),  # N x 512 x 14 x 14
                inception_4c=Inception(512, 128, 128, 256, 24, 64, 64),  # N x 512 x 14 x 14
                inception_4d=Inception(512, 112, 144, 288, 32, 64, 64),  # N x 528 x 14 x 14
                inception_4e=Inception(528, 256, 160, 320, 32, 128, 128),  # N x 832 x 14 x 14
                pool4=_pool(),  # N x 832 x 7 x 7
                inception_5a=Inception(832, 256, 160, 320, 32, 128, 128),  # N x 832 x 7 x 7
                inception_5b=Inception(832, 384, 192, 384, 48, 128, 128),  # N x 1024 x 7 x 7
            )
        )
        super().__init__(features, num_classes, dropout=0.4)
        self.aux_4a = AuxiliaryClassifier(512, num_classes) if aux else None
        self.aux_4d = AuxiliaryClassifier(528, num_classes) if aux else None
        initialise(self)

    def forward(self, images: Tensor) -> GoogLeNetOutput:
        """Classify images [N,3,H,W]: logits [N,C], and those of the auxiliary classifiers while training."""
        aux: dict[str, Tensor | None] = {"inception_4a": None, "inception_4d": None}
        heads = {"inception_4a": self.aux_4a, "inception_4d": self.aux_4d}
        x = images
        for name, stage in self.features.named_children():
            x = stage(x)
            head = heads.get(name)
            if head is not None and self.training:
                aux[name] = head(x)
        return GoogLeNetOutput(self.pool(x), aux["inception_4a"], aux["inception_4d"])


class Inception(nn.Module):
    """Four branches side by side, concatenated over channels (Figure 2b)."""

    def __init__(
        self,
        channels: int,
        c1x1: int,
        c3x3_reduce: int,
        c3x3: int,
        c5x5_reduce: int,
        c5x5: int,
        pool_proj: int,
    ) -> None:
        super().__init__()
        self.branch1 = _conv(channels, c1x1, 1)
        self.branch3 = nn.Sequential(_conv(channels, c3x3_reduce, 1), _conv(c3x3_reduce, c3x3, 3))
        self.branch5 = nn.Sequential(_conv(channels, c5x5_reduce, 1), _conv(c5x5_reduce, c5x5, 5))
        self.branch_pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _conv(channels, pool_proj, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], dim=1)


class AuxiliaryClassifier(nn.Module):
    """An auxiliary classifier (section 5): maps [N,channels,14,14] -> logits [N,C]."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)  # N x channels x 4 x 4
        self.conv = _conv(channels, 128, 1)
        self.hidden = nn.Linear(128 * 4 * 4, 1024)
        self.dropout = nn.Dropout(0.7)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.pool(x)).flatten(1)  # N x 2048
        return self.classifier(self.dropout(torch.relu(self.hidden(x))))


def initialise(module: nn.Module) -> None:
    """Initialise weights for training: convolutions as He et al. 2015 (arXiv 1502.01852), for ReLU.

    Without batch normalisation the activations keep their size over 22 layers only if every layer keeps it.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.01)
            nn.init.zeros_(part.bias)


def _conv(channels: int, filters: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2), relu=nn.ReLU(inplace=True)
        )
    )


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
