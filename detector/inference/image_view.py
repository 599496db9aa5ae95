"""A picture as networks look at it: reduced once, whoever asks for crops of it.

Letters for shapes: H and W of the picture, R windows.
"""

from threading import Lock

import torch
from torch import Tensor

from detector.inference.region_crops import Preprocessing, Pyramid, normalise, reduced, sample
from detector.io.decoding import ImageInput, as_rgb
from detector.structures.boxes import Boxes, as_boxes


class View:
    """A picture [H,W,3] at the size that a network is used to.

    ``pixels`` [H,W,3] uint8 is the reduced picture, ``factors`` [1,4] what to multiply boxes of the picture
    with to have them in it, ``width`` and ``height`` are the picture's own. It keeps bytes until its first
    crop is wanted: many may wait for their turn. Several threads may ask for crops.
    """

    def __init__(self, image: ImageInput, preprocessing: Preprocessing) -> None:
        """``image`` is an array uint8 [H,W,3], or what :func:`detector.io.decoding.as_rgb` makes one of.

        Raises ParameterError for what is no picture.
        """
        image = as_rgb(image)
        self.pixels, self.factors = reduced(image, preprocessing)
        self.height, self.width = image.shape[:2]
        self._preprocessing = preprocessing
        self._pyramid: Pyramid | None = None
        self._making = Lock()

    @property
    def whole(self) -> Boxes:
        """The window [1,4] of the whole picture."""
        height, width = self.pixels.shape[:2]
        return as_boxes([(0, 0, width, height)])

    def crops(self, windows: Boxes, size: int, device: torch.device) -> Tensor:
        """Crops [R,3,size,size] of windows [R,4] of ``pixels``, float32, on a device: always the same one."""
        with self._making:
            if self._pyramid is None:
                self._pyramid = Pyramid(normalise(self.pixels, self._preprocessing, device))
        return sample(self._pyramid, windows, size)
