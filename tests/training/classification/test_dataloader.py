"""Minibatches of whole pictures: a function of seed and number, shared out without loss, broken ones told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import DatasetError
from detector.inference.classifier import Classifier
from detector.inference.executor import ForwardRequest, run_directly
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint
from detector.models.convert_bvlc import PREPROCESSING
from tests.training.labelled_sets import write_folders
from training.classification.augmentation import ColorJitter, PatchSettings
from training.classification.dataloader import (
    Augmentation,
    ImageBatch,
    TrainingBatches,
    ValidationBatches,
)
from training.classification.dataset import ImageList, read_labelled_images
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages

LATE = Augmentation(random_interpolation_from=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """Ten pictures, five of each of two classes."""
    root = tmp_path_factory.mktemp("folders")
    write_folders(root, "train", 5)
    write_folders(root, "val", 1)
    return read_labelled_images(root).train


def pieces(
    images: ImageList,
    augmentation: Augmentation | None = LATE,
    *,
    batch: int = 4,
    accumulate: int = 1,
    seed: int = 0,
    world: ProcessGroup = ProcessGroup(),  # noqa: B008 (frozen)
) -> TrainingBatches:
    return TrainingBatches(
        images, augmentation, size=32, batch=batch, accumulate=accumulate, seed=seed, world=world
    )


def rows(piece: ImageBatch) -> list[tuple[bytes, int]]:
    return [(p.numpy().tobytes(), int(label)) for p, label in zip(piece.pixels, piece.labels, strict=True)]


def test_pieces_are_a_function_of_seed_and_number(images: ImageList) -> None:
    """Whichever was made before, in this process or in a worker."""
    one, other = pieces(images), pieces(images)
    backwards = {number: rows(other[number]) for number in reversed(range(5))}
    assert [rows(one[number]) for number in range(5)] == [backwards[number] for number in range(5)]
    ahead = load_items(other, range(2, 5), torch.device("cpu"), workers=2)
    assert [rows(piece) for piece in ahead] == [backwards[number] for number in range(2, 5)]
    assert rows(pieces(images, seed=1)[0]) != backwards[0]


def test_every_picture_comes_at_most_once_an_epoch(images: ImageList) -> None:
    """Ten pictures make two minibatches of four; which two are left out changes."""
    feed = pieces(images, None)
    assert feed.epoch_length == 2
    epochs = [[row for part in (0, 1) for row in rows(feed[2 * epoch + part])] for epoch in range(6)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({row for epoch in epochs for row in epoch}) == 10
    assert len({tuple(epoch) for epoch in epochs}) == 6, "another order each time"


@pytest.mark.parametrize(
    ("size", "accumulate"),
    [
        pytest.param(1, 2, id="two pieces"),
        pytest.param(2, 1, id="two processes"),
        pytest.param(3, 2, id="both, and they do not divide it"),
    ],
)
def test_shares_make_up_the_minibatch(images: ImageList, size: int, accumulate: int) -> None:
    whole = rows(pieces(images, batch=7)[1])
    shares = [
        pieces(images, batch=7, accumulate=accumulate, world=ProcessGroup(rank, size)) for rank in range(size)
    ]
    parts = [rows(share[accumulate + piece]) for share in shares for piece in range(accumulate)]
    assert sorted(row for part in parts for row in part) == sorted(whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1 + (size > 1)
    assert {share.digest() for share in shares} == {pieces(images, batch=7).digest()}


def test_a_batch_larger_than_the_set_is_the_set(images: ImageList) -> None:
    feed = pieces(images, batch=64)
    assert (feed.batch, feed.epoch_length) == (10, 1)
    assert len(feed[0].labels) == 10


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch": 5},
        {"augmentation": None},
        {"augmentation": replace(LATE, patches=PatchSettings(least=0.5))},
        {"augmentation": replace(LATE, color_jitter=ColorJitter(amount=0.1))},
    ],
    ids=str,
)
def test_a_digest_tells_settings_apart(images: ImageList, other: dict[str, object]) -> None:
    assert pieces(images, **other).digest() != pieces(images).digest()


def test_views_are_those_of_the_classifier(images: ImageList, classifier_checkpoint: Checkpoint) -> None:
    """What is measured in training is what `evaluate_cls` measures."""
    measured = ValidationBatches(images.chosen([0, 7]), PREPROCESSING, ProcessGroup())
    [piece] = [measured[number] for number in range(len(measured))]
    classifier = Classifier(classifier_checkpoint, device="cpu", precision="float32")
    seen = run_directly(ForwardRequest.of(classifier._engine, piece.pixels))["0.probabilities"]
    for index, row in zip((0, 7), seen, strict=True):
        assert np.allclose(classifier.probabilities(load(images.path(index))), row, atol=1e-6)


@pytest.fixture
def broken(tmp_path: Path) -> ImageList:
    """Ten pictures: one cut short, one that is missing, one that is no picture."""
    write_folders(tmp_path, "train", 5)
    write_folders(tmp_path, "val", 1)
    found = read_labelled_images(tmp_path).train
    found.path(2).write_bytes(found.path(2).read_bytes()[:-300])
    found.path(5).unlink()
    found.path(7).write_text("404")
    return found


def test_broken_pictures_are_left_out_and_named(broken: ImageList) -> None:
    feeds = (pieces(broken, batch=10), ValidationBatches(broken, PREPROCESSING, ProcessGroup()))
    for piece in (feeds[0][0], feeds[1][0]):
        assert len(piece.pixels) == len(piece.labels) == 7
        assert sorted(piece.broken) == [2, 5, 7]
        assert "train2.jpg" in piece.broken[2]
        assert "supported format" in piece.broken[7]
    # The others are what they would have been.
    rest = [i for i in range(10) if i not in (2, 5, 7)]
    assert sorted(feeds[0][0].labels.tolist()) == broken.labels[rest].tolist()


def test_each_is_reported_once_also_after_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run" / "broken.txt"
    first = BrokenImages(path, limit=3)
    first.report({"a.jpg": "why a"})
    first.report({})
    first.report({"a.jpg": "why a", "b.jpg": "why b"})
    said = capsys.readouterr().out
    assert said.count("left out a.jpg: why a") == said.count("left out b.jpg: why b") == 1
    again = BrokenImages(path, limit=3)
    again.report({"b.jpg": "why b"})
    assert "skipped" not in capsys.readouterr().out
    again.report({"c.jpg": "why c"})
    assert path.read_text().splitlines() == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(DatasetError, match=r"4 pictures could not be read.*broken\.txt lists them"):
        again.report({"d.jpg": "why d"})
