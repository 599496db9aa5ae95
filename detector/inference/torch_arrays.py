"""Arrays that are torch tensors, on a CPU or a GPU; gradients go through them, for training."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from detector.inference.arrays import make_in_groups
from detector.inference.preprocessing import Preprocessing
from detector.inference.roi_align import roi_align
from detector.io.decoding import RGB
from detector.io.rgb import check_image
from detector.structures.boxes import Boxes


class TorchArrays:
    """Tensors on one device: a :class:`detector.inference.arrays.Arrays`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def normalise(self, image: RGB, preprocessing: Preprocessing) -> Tensor:
        check_image(image)
        writable = np.require(image, requirements=["C", "W"])  # torch warns of read-only memory
        pixels = torch.from_numpy(writable).to(self.device).permute(2, 0, 1).float()
        mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=self.device)[:, None, None]
        std = torch.tensor(preprocessing.std, dtype=torch.float32, device=self.device)[:, None, None]
        return (pixels - mean) / std

    def pad(self, image: Tensor, before: int, right: int, below: int) -> Tensor:
        return F.pad(image, (before, right, before, below))[None]

    def halve(self, image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 2, ceil_mode=True)

    def sample(self, image: Tensor, windows: Boxes, size: int) -> Tensor:
        count, (height, width) = len(windows), image.shape[1:]
        regions = self._boxes(windows)
        step = (torch.arange(size, dtype=torch.float32, device=image.device) + 0.5) / size
        x = regions[:, :1] + step * (regions[:, 2:3] - regions[:, :1])  # R x size
        y = regions[:, 1:2] + step * (regions[:, 3:4] - regions[:, 1:2])
        grid = torch.stack(  # R x size x size x 2, the image from -1 to 1
            [
                (2 * x / width - 1)[:, None, :].expand(-1, size, -1),
                (2 * y / height - 1)[:, :, None].expand(-1, -1, size),
            ],
            dim=3,
        )
        images = image[None].expand(count, -1, -1, -1)  # one image in memory, seen R times
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def align(self, maps: Tensor, regions: Boxes, size: int, scale: float) -> Tensor:
        boxes = self._boxes(regions)
        return roi_align(maps, torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1), size, scale)

    def mirror(self, rows: Tensor) -> Tensor:
        return rows.flip(-1)

    def take(self, rows: Tensor, index: NDArray[np.int64]) -> Tensor:
        return rows[torch.from_numpy(index).to(rows.device)]

    def concatenate(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts)) if len(parts) > 1 else parts[0]

    def copy(self, rows: Tensor) -> Tensor:
        return rows.clone()

    def in_groups(
        self, groups: NDArray[np.integer], make: Callable[[int, NDArray[np.int64]], Tensor]
    ) -> Tensor:
        return make_in_groups(self, groups, make)

    def _boxes(self, boxes: Boxes) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(boxes, np.float32)).to(self.device)
