"""torchvision's ``googlenet`` as a second architecture.

It differs from the paper: batch normalisation, no response normalisation, and 3x3 where the paper has 5x5.
It carries its own weights and is never mixed with the paper's network.
"""

from collections import OrderedDict

from torch import nn
from torchvision.models import GoogLeNet as TorchvisionNetwork

from detector.models.backbone import Backbone

STAGES = (
    "conv1", "maxpool1", "conv2", "conv3", "maxpool2",
    "inception3a", "inception3b", "maxpool3",
    "inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4",
    "inception5a", "inception5b",
)  # fmt: skip


class TorchvisionGoogLeNet(Backbone):
    """The trunk of torchvision's network, stage by stage under its own names.

    Its published weights were trained on inputs scaled to -1..1: mean and deviation 127.5.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        network = TorchvisionNetwork(aux_logits=False, transform_input=False, init_weights=True)
        stages = OrderedDict((name, getattr(network, name)) for name in STAGES)
        super().__init__(nn.Sequential(stages), num_classes, dropout=0.2)
