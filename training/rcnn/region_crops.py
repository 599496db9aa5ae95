"""The crops of a picture's training regions: some with context, whole pictures without, some mirrored."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.inference.region_crops import Preprocessing, normalise, warp
from detector.io.decoding import RGB
from detector.structures.boxes import Boxes


def crops_of(
    image: RGB,
    boxes: Boxes,
    whole: NDArray[np.bool_],
    mirrored: NDArray[np.bool_],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Tensor:
    """Crops [R,3,224,224] of boxes [R,4] in a picture [H,W,3], float32 on the device, in their order.

    ``whole`` [R] are cut without context, ``mirrored`` [R] are flipped.
    """
    picture = normalise(image, preprocessing, device)
    crops = picture.new_empty(len(boxes), 3, preprocessing.size, preprocessing.size)
    for chosen, how in ((~whole, preprocessing), (whole, replace(preprocessing, context=0))):
        if chosen.any():
            crops[torch.from_numpy(chosen).to(device)] = warp(picture, boxes[chosen], how)
    flipped = torch.from_numpy(mirrored).to(device)
    crops[flipped] = crops[flipped].flip(3)
    return crops
