"""Do all once: what numba compiles lies in ``NUMBA_CACHE_DIR`` then, and nothing was found missing."""

import numpy as np

from detector import load_classifier, load_detector
from detector.precompile import precompile

precompile()
grey = np.full((64, 64, 3), 128, np.uint8)
load_detector(device="cpu").detect(grey)
load_classifier(device="cpu").classify(grey)
