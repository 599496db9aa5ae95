"""Maps of an image's training regions after the frozen stages: of warped crops, or cut out of shared maps.

Letters for shapes: R regions of an image; a map is [K,h,w] after the frozen stages.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.inference.image_maps import MapsAtScale
from detector.inference.image_scales import scale_image, zoomed
from detector.inference.preprocessing import Preprocessing, add_context
from detector.inference.shared_maps import SharedMaps, align, stages_through
from detector.inference.torch_arrays import TorchArrays
from detector.io.decoding import RGB
from detector.structures.boxes import Boxes, flip
from training.rcnn.sampling import crops_of

Run = Callable[[nn.Sequential, Tensor], Tensor]
"""Runs stages over crops or an image [N,3,H,W], or over maps."""

_PIECE = {"cpu": 16, "cuda": 256}  # crops at once: more leave a processor's cache


class RegionMaps:
    """Computes the maps of regions as a detector will see them."""

    def __init__(
        self,
        frozen: nn.Sequential,
        preprocessing: Preprocessing,
        shared: SharedMaps | None,
        device: torch.device,
        run: Run,
    ) -> None:
        """``frozen`` are the stages that keep their weights, ``run`` runs some of them.

        Raises ParameterError where maps are shared by more stages than are frozen.
        """
        self._frozen, self._preprocessing, self._shared = frozen, preprocessing, shared
        self._device, self._run, self._arrays = device, run, TorchArrays(device)
        if shared is not None:
            names = [name for name, _ in frozen.named_children()]
            if shared.stage not in names:
                raise ParameterError(
                    f"stages up to {shared.stage} run over the whole picture and keep their weights: freeze "
                    "them (--frozen-through pool4), or train on warped regions"
                )
            self._cut = stages_through(names, shared.stage)

    def __call__(
        self,
        image: RGB,
        boxes: Boxes,
        whole: NDArray[np.bool_],
        mirrored: NDArray[np.bool_],
        *,
        zoom: float = 1.0,
    ) -> Tensor:
        """Return maps [R,K,h,w] of boxes [R,4] of an image [H,W,3].

        ``whole`` [R] have no context, ``mirrored`` [R] are seen in the mirrored image. With ``zoom`` shared
        maps are of scales so many times as large.
        """
        if self._shared is None:
            crops = crops_of(image, boxes, whole, mirrored, self._preprocessing, self._device)
            return torch.cat(
                [self._run(self._frozen, piece) for piece in crops.split(_PIECE[self._device.type])]
            )
        windows = np.where(whole[:, None], boxes, add_context(boxes, self._preprocessing))
        settings = self._shared if zoom == 1.0 else zoomed(self._shared, zoom)
        result: Tensor | None = None
        for turned in np.unique(mirrored).tolist():
            rows = np.flatnonzero(mirrored == turned)
            chosen = flip(windows[rows], image.shape[1]) if turned else windows[rows]
            maps, factors = [], []
            for scale in settings.scales:
                scaled = scale_image(
                    image, scale, settings, self._preprocessing, self._arrays, mirrored=turned
                )
                maps.append(self._run(self._frozen[: self._cut], scaled.pixels))
                factors.append(scaled.factors)
            after = self._after(maps, chosen, factors, settings)
            if result is None:
                result = after.new_empty(len(boxes), *after.shape[1:])
            result[torch.from_numpy(rows).to(self._device)] = after
        assert result is not None
        return result

    def cut_out(self, scales: Sequence[MapsAtScale], boxes: Boxes, whole: NDArray[np.bool_]) -> Tensor:
        """Return maps [R,K,h,w] of boxes [R,4] of an image, not mirrored, out of its ``maps`` at each scale.

        ``whole`` [R] have no context.
        """
        assert self._shared is not None
        windows = np.where(whole[:, None], boxes, add_context(boxes, self._preprocessing))
        maps = [part.outputs["maps"].float() for part in scales]
        return self._after(maps, windows, [part.factors for part in scales], self._shared)

    def _after(
        self,
        maps: Sequence[Tensor],
        windows: Boxes,
        factors: Sequence[NDArray[np.float32]],
        settings: SharedMaps,
    ) -> Tensor:
        """Cut windows out of an image's maps at each scale, and run the other frozen stages."""
        cells = align(maps, windows, factors, settings, self._preprocessing.size, self._arrays)
        return self._run(self._frozen[self._cut :], cells)
