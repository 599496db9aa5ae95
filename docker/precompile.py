"""Detect once: what numba compiles lies in ``NUMBA_CACHE_DIR`` then, and nothing was found missing."""

import numpy as np

from detector import load_classifier, load_detector
from detector.proposals.selective_search.search import selective_search

# Noise has many segments to merge: every compiled function is called.
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
print(len(selective_search(noise).boxes), "proposals")
load_detector(device="cpu").detect([noise])
load_classifier(device="cpu").classify([noise])
