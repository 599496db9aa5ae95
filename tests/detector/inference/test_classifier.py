"""Views of whole pictures, and the classifier that averages over them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.errors import CheckpointError, ParameterError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.loading import load_classifier
from detector.inference.test_time_crops import crop_windows
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.convert_bvlc import PREPROCESSING, read_bvlc
from detector.models.metadata import Metadata
from detector.structures.boxes import area, as_boxes
from detector.structures.classes import ilsvrc_cls, ilsvrc_det


@pytest.mark.parametrize(("width", "height"), [(256, 256), (640, 480), (300, 900), (1, 1)])
@pytest.mark.parametrize("count", [1, 10, 144])
def test_views_lie_inside_the_picture(width: int, height: int, count: int) -> None:
    crops = crop_windows(width, height, count)
    assert len(crops.windows) == len(crops.mirrored) == count
    assert crops.mirrored.sum() == count // 2
    assert (crops.windows >= -1e-3).all()
    assert (crops.windows <= np.array([width, height] * 2) + 1e-3).all()
    assert (area(crops.windows) > 0).all()


def test_the_single_view_is_the_whole_picture() -> None:
    assert crop_windows(640, 480, 1).windows.tolist() == [[0, 0, 640, 480]]


def test_ten_views_of_a_256_square() -> None:
    boxes = crop_windows(256, 256, 10).windows.tolist()
    expected = [
        [0, 0, 224, 224],
        [32, 0, 256, 224],
        [0, 32, 224, 256],
        [32, 32, 256, 256],
        [16, 16, 240, 240],
    ]
    assert boxes[:5] == expected
    assert boxes[5:] == expected


def test_144_views_of_a_wide_picture() -> None:
    """At scale 256 a 512x256 picture has squares at its left, centre and right; each is seen whole, too."""
    boxes = crop_windows(512, 256, 144).windows.tolist()
    for square in ([0, 0, 256, 256], [128, 0, 384, 256], [256, 0, 512, 256]):
        assert boxes.count(square) == 8  # four scales, mirrored and not
    assert [0, 0, 224, 224] in boxes
    assert len({tuple(box) for box in boxes}) == 3 * (4 * 5 + 1)


@pytest.mark.parametrize("count", [0, 2, 100])
def test_other_counts_are_refused(count: int) -> None:
    with pytest.raises(ParameterError, match="1, 10 or 144"):
        crop_windows(10, 10, count)


def test_softmax_is_averaged_over_the_views(classifier_checkpoint: Checkpoint) -> None:
    """A picture that is its own mirror image is seen alike from both sides."""
    classifier = Classifier(classifier_checkpoint, device="cpu", precision="float32")
    half = np.random.default_rng(0).integers(0, 256, (80, 50, 3), dtype=np.uint8)
    image = np.concatenate([half, half[:, ::-1]], axis=1)
    scores = classifier.probabilities(image, crops=10)
    assert scores.shape == (1000,)
    assert scores.sum() == pytest.approx(1, abs=1e-4)
    mirrored = classifier.probabilities(np.ascontiguousarray(image[:, ::-1]), crops=10)
    assert np.abs(scores - mirrored).max() < 1e-6


def test_best_first(checkpoint_path: Path) -> None:
    """A detector's checkpoint classifies too: its first rows are the 1000 classes."""
    classifier = load_classifier(checkpoint_path, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    (found,) = classifier.classify([image], top=7)
    assert len(found.labels) == 7
    assert (np.diff(found.scores) <= 0).all()
    assert found.labels.max() < 1000


@pytest.mark.parametrize("top", [0, 1001])
def test_top_is_bounded(classifier_checkpoint: Checkpoint, top: int) -> None:
    with pytest.raises(ParameterError, match="top"):
        Classifier(classifier_checkpoint, device="cpu").classify([], top=top)


def test_detection_alone_cannot_classify(classifier_checkpoint: Checkpoint) -> None:
    metadata = replace(classifier_checkpoint.metadata, classification=None, detection=ilsvrc_det())
    with pytest.raises(CheckpointError, match="no classes of whole pictures"):
        Classifier(replace(classifier_checkpoint, metadata=metadata))


def test_bvlc_weights_know_real_pictures(shared: Path) -> None:
    """Every twentieth picture of CLS-LOC val; all 1,000 give 66 % and 88 % (training/evaluate_cls.py)."""
    network = read_bvlc(shared / "weights" / "bvlc_googlenet.npz")
    classifier = Classifier(Checkpoint(network, Metadata("bvlc", "googlenet", PREPROCESSING, ilsvrc_cls())))
    images = read_ilsvrc_cls(shared / "ilsvrc", "val").images[::20]
    found = classifier.classify([load(image.path) for image in images])
    top1 = np.mean([image.label == one.labels[0] for image, one in zip(images, found, strict=True)])
    top5 = np.mean([image.label in one.labels for image, one in zip(images, found, strict=True)])
    assert top1 > 0.5
    assert top5 > 0.75


def saying(checkpoint: Checkpoint, label: int) -> Checkpoint:
    """With a classifier of whole images that always says one class, 3 to 1 for all others together."""
    whole = nn.Linear(1024, 1000)
    with torch.no_grad():
        whole.weight.zero_()
        whole.bias.zero_()
        whole.bias[label] = np.log(3 * 999)
    checkpoint.backbone.whole = whole
    return checkpoint


def test_a_classifier_of_whole_images_has_the_word(checkpoint_path: Path) -> None:
    """Of its own network alone; what the network says of regions is the same."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    plain, other = load_checkpoint(checkpoint_path), saying(load_checkpoint(checkpoint_path), 7)
    found = Classifier(other, device="cpu").probabilities(image)
    assert found.argmax() == 7
    assert found[7] == pytest.approx(0.75, abs=1e-5)
    before = Classifier(plain, device="cpu").probabilities(image)
    together = Classifier([plain, other], device="cpu")
    assert np.allclose(together.probabilities(image), (before + found) / 2, atol=1e-6)
    assert np.allclose(together.member_probabilities(image), [before, found], atol=1e-6)
    boxes = as_boxes([(0, 0, 80, 60), (10, 10, 50, 40)])
    [ours], [theirs] = (Detector(one, device="cpu").predict(image, boxes) for one in (plain, other))
    for part, expected in zip(theirs, ours, strict=True):
        assert part is not None
        assert expected is not None
        assert np.array_equal(part, expected)
