"""Maps of a whole image: the trunk runs over it once at each scale, for all that read its maps.

Regions are cut out of them (:mod:`detector.inference.region_features`), MultiBox proposes from them
(:mod:`detector.proposals.multibox`). Letters for shapes: K channels, h x w cells, A anchors.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.inference.engine import Engine, InferenceNetwork, Outputs
from detector.inference.executor import Executor, ForwardRequest, Priority
from detector.inference.image_scales import ImageScales, ScaledImage, Square, padded_side, scale_image
from detector.inference.region_crops import ImageView, Preprocessing
from detector.models.multibox_head import MultiBoxHead, objectness_and_offsets
from detector.options import CROP_COST

_MULTIBOX = "multibox"


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
            outputs[_MULTIBOX] = self.head(fine, coarse)
        return outputs


class ImageNetwork(InferenceNetwork):
    """Images [N,3,H,W] -> ``maps`` as of :class:`ImageTrunk`, and ``objectness`` [N,A] in 0..1 and
    ``offsets`` [N,A,4] of the head's anchors."""

    def __init__(
        self, features: nn.Sequential, *, stage: str | None = None, head: MultiBoxHead | None = None
    ) -> None:
        """Raises ParameterError if the trunk lacks a stage that is read."""
        super().__init__(ImageTrunk(features, stage, head), _outputs)


def _outputs(maps: Mapping[str, Tensor]) -> Outputs:
    outputs = dict(maps)
    if _MULTIBOX in outputs:
        outputs["objectness"], outputs["offsets"] = objectness_and_offsets(outputs.pop(_MULTIBOX))
    return outputs


@dataclass(frozen=True)
class MapsAtScale:
    """What the trunk gave for an image at one scale.

    ``factors`` [4] float32 turn boxes of the image's view into boxes of its pixels at this scale, which are
    ``height`` x ``width`` with the padding; ``outputs`` are those of :class:`ImageNetwork`, on its device.
    """

    factors: NDArray[np.float32]
    height: int
    width: int
    outputs: Outputs


class ImageMaps:
    """Makes the maps of images, and keeps them with the image's view."""

    def __init__(
        self, network: ImageNetwork, scales: ImageScales | Square, preprocessing: Preprocessing
    ) -> None:
        """The network is neither moved nor copied."""
        self._scales, self._preprocessing = scales, preprocessing
        # Each scale of an image has a size of its own: a batch of one, and never filled up.
        self._engine = Engine(network, batch=1, buckets=(), keep_on_device=True)
        # A single crop goes first: all further work on its image waits for it. An image at its own size is
        # most of its work, and has to wait for its turn.
        self._priority = Priority.URGENT if isinstance(scales, Square) else Priority.NORMAL

    def of(self, view: ImageView, *, mirrored: bool = False, executor: Executor) -> list[MapsAtScale]:
        """Return the maps of an image at each scale, made when they are first asked for."""
        return view.keep((self, mirrored), lambda: self._make(view, mirrored, executor))

    @property
    def cost(self) -> int:
        """What an image of 3:4 takes, in regions that take as long."""
        settings = self._scales
        if isinstance(settings, Square):
            return self._cost_of(settings.size, settings.size)
        sides = [
            [padded_side(side, settings.padding) for side in (scale, scale * 4 // 3)]
            for scale in settings.scales
        ]
        return sum(self._cost_of(height, width) for height, width in sides)

    def _cost_of(self, height: int, width: int) -> int:
        return max(round(CROP_COST * height * width / self._preprocessing.size**2), 1)

    def _make(self, view: ImageView, mirrored: bool, executor: Executor) -> list[MapsAtScale]:
        maps = []
        for image in self._images(view, mirrored):
            height, width = image.pixels.shape[2:]
            rows = partial(_rows_of, image.pixels)
            cost = self._cost_of(height, width)
            request = ForwardRequest(self._engine, 1, rows, self._priority, cost=cost)
            maps.append(MapsAtScale(image.factors, height, width, executor(request)))
        return maps

    def _images(self, view: ImageView, mirrored: bool) -> Iterator[ScaledImage]:
        """Make the image at each scale, when its turn comes."""
        settings, device = self._scales, self._engine.device
        if isinstance(settings, Square):
            height, width = view.pixels.shape[:2]
            crop = view.crops(view.whole, settings.size, device)
            factors = np.array([settings.size / width, settings.size / height] * 2, np.float32)
            yield ScaledImage(crop.flip(3) if mirrored else crop, factors)
            return
        for scale in settings.scales:
            yield scale_image(view.pixels, scale, settings, self._preprocessing, device, mirrored=mirrored)


def _rows_of(rows: Tensor, first: int, last: int) -> Tensor:
    return rows[first:last]
