"""What the whole picture says of the classes of its regions.

GoogLeNet's detector was entered without contextual information for want of time (arXiv 1409.4842, section 8);
others of that year gained by scoring the whole picture (DeepID-Net, arXiv 1412.5661, section 3.6). Here the
whole picture is one more region of the same network. Letters for shapes: R regions, C classes.
"""

import numpy as np
from numpy.typing import NDArray

from detector.inference.scoring import Context, Scoring


def class_posterior(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a picture shows if it shows any class [C], from its probabilities [C+1], background last.

    A whole picture is seldom one object: that it is no object is no evidence against the classes.
    """
    classes = probabilities[:-1]
    return (classes / np.maximum(classes.sum(), np.finfo(np.float32).tiny)).astype(np.float32)


def class_prior(
    picture: NDArray[np.float32], regions: NDArray[np.float32], scoring: Scoring
) -> NDArray[np.float32]:
    """How likely a picture shows each class [C], between ``scoring.context_floor`` and 1.

    ``picture`` [C] is the posterior of the whole picture, ``regions`` [R,C] the probabilities of its regions.
    The likeliest class counts 1: a picture that is hard to make out as a whole keeps its best detections, and
    thresholds keep their meaning. The floor is for objects too small to be seen in the whole picture.
    """
    sign = picture / np.maximum(picture.max(initial=0), np.finfo(np.float32).tiny)
    if scoring.context is Context.REGIONS and len(regions):
        sign = np.maximum(sign, regions.max(axis=0))
    return (scoring.context_floor + (1 - scoring.context_floor) * sign).astype(np.float32)
