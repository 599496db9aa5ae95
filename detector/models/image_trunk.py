"""The stages of a trunk that run over a whole image, and a MultiBox head on their maps.

Letters for shapes: N images, K channels, h x w cells, A anchors.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from detector.errors import ParameterError
from detector.models.multibox_head import MultiBoxHead

MULTIBOX = "multibox"
"""The name of a head's outputs among those of an :class:`ImageTrunk`."""


class MappedStages(nn.Module):
    """The first stages of a trunk, up to the last that is read: images [N,3,H,W] -> maps of those read."""

    def __init__(self, features: nn.Sequential, read: Sequence[str]) -> None:
        """Take the stages named in ``read``. Raises ParameterError if the trunk lacks one."""
        super().__init__()
        names = [name for name, _ in features.named_children()]
        for stage in read:
            if stage not in names:
                raise ParameterError(f"the trunk has no stage {stage!r}, only {', '.join(names)}")
        self.read = tuple(read)
        self.stages = features[: 1 + max(names.index(stage) for stage in read)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps: dict[str, Tensor] = {}
        x = images
        for name, stage in self.stages.named_children():
            x = stage(x)
            if name in self.read:
                maps[name] = x
        return maps


class ImageTrunk(nn.Module):
    """The stages of a trunk that run over a whole image, and a MultiBox head on their maps.

    Images [N,3,H,W] -> ``maps`` [N,K,h,w] of ``stage``, if regions are cut out of it, and the head's outputs
    [N,A,5], if there is one.
    """

    def __init__(self, features: nn.Sequential, stage: str | None, head: MultiBoxHead | None) -> None:
        """Raises ParameterError if the trunk lacks a stage that is read."""
        super().__init__()
        read = [*([stage] if stage is not None else []), *(head.spec.stages if head is not None else [])]
        self.stage, self.head = stage, head
        self.mapped = MappedStages(features, list(dict.fromkeys(read)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        maps = self.mapped(images)
        outputs = {} if self.stage is None else {"maps": maps[self.stage]}
        if self.head is not None:
            fine, coarse = (maps[name] for name in self.head.spec.stages)
            outputs[MULTIBOX] = self.head(fine, coarse)
        return outputs
