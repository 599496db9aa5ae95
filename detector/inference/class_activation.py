"""Class activation maps: where in a region the evidence for a class lies (Zhou et al., arXiv 1512.04150).

The classifier is a linear layer on the mean of the last maps, so a logit is the mean over all places of what
the same layer makes of each place. Letters for shapes: R regions, K channels of the last maps, h x w their
cells, S sub-classes, C classes (background is the last of the C+1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ClassLayer:
    """The linear layer of a region network: weight [S,K] and bias [S] float32, and the class of each
    sub-class: ``labels`` [S], 0..C-1, C for background, -1 for one that takes no part.

    A class's logit is the log-sum-exp of its sub-classes' (:mod:`detector.models.region_network`).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    labels: NDArray[np.int64]

    def activation(
        self, maps: NDArray[np.float32], label: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the activation maps [R,h,w] of a class in regions whose last maps are [R,K,h,w], and offsets
        [R]: the mean of a map and its offset are the class's logit.

        A class of several sub-classes has the mean of their maps, each weighted by its share of the class's
        probability in the region: what the class's logit changes by with each of theirs. The log-sum-exp is
        then the weighted mean of their logits and the entropy of the shares, which is no place's: it goes
        with the bias into the offset. A class without sub-classes has a map of zeros, and minus infinity.
        """
        own = np.flatnonzero(self.labels == label)
        if not len(own):
            count, _, height, width = maps.shape
            return np.zeros((count, height, width), np.float32), np.full(count, -np.inf, np.float32)
        weight, bias = self.weight[own], self.bias[own]  # S' x K, S'
        logits = maps.mean(axis=(2, 3)) @ weight.T + bias  # R x S'
        top = logits.max(axis=1, keepdims=True)
        whole = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))  # R
        shares = np.exp(logits - whole[:, None])  # R x S'
        activation = np.einsum("rk,rkhw->rhw", shares @ weight, maps)
        return activation.astype(np.float32), (whole - activation.mean(axis=(1, 2))).astype(np.float32)
