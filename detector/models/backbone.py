"""The interface of a backbone to the heads."""

from torch import Tensor, nn

CHANNELS = 1024
"""Channels of the trunk's last maps, for every architecture."""

LAST_STAGES = 2
"""Stages at the end of every trunk, inception 5a and 5b: a region's own, whatever comes before."""


class Backbone(nn.Module):
    """A trunk of named stages, and a linear classifier on the mean of its last maps.

    ``features`` turns crops [N,3,224,224] into maps [N,1024,7,7]. Its stages have names, so that a part of
    the trunk can be frozen or run alone. A detector whose training moved the trunk may have a second linear
    classifier, ``whole``, for whole images alone (:mod:`training.classification.distillation`).
    """

    whole: nn.Linear | None

    def __init__(self, features: nn.Sequential, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(CHANNELS, num_classes)
        self.whole = None

    def pool(self, maps: Tensor) -> Tensor:
        """Classify the mean of maps [N,1024,h,w]: logits [N,C]."""
        return self.classifier(self.dropout(maps.mean(dim=(2, 3))))

    def classify_whole(self, maps: Tensor) -> Tensor:
        """Classify whole images by their maps [N,1024,h,w]: logits, of which the first are those of the
        classes of whole images."""
        return self.pool(maps) if self.whole is None else self.whole(maps.mean(dim=(2, 3)))

    def logits(self, images: Tensor) -> Tensor:
        """Classify images [N,3,H,W]: logits [N,C]."""
        return self.pool(self.features(images))
