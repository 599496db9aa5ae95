"""Pooled rows, and the classifier's posterior folded onto the detection classes."""

import pytest
import torch

from detector.models.checkpoint import Checkpoint
from detector.models.region_network import ClassPooling, RegionNetwork
from detector.models.transfer import from_classifier
from detector.structures.classes import cls_to_det, ilsvrc_cls, ilsvrc_det


def test_pooled_posterior_is_the_sum_of_the_rows() -> None:
    rows = torch.randn(5, 7) * 10
    labels = torch.tensor([0, 2, 2, 1, 3, 3, 0])
    posterior = ClassPooling(labels, 3)(rows).softmax(dim=1)
    expected = torch.zeros(5, 4).index_add(1, labels, rows.softmax(dim=1))
    assert torch.allclose(posterior, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "label"),
    [([200.0, -200.0, 0.0], 0), ([-1e4, -1e4, 0.0], 2), ([0.0, 0.0, 3e4], 2)],
    ids=["far apart", "far below", "huge"],
)
def test_extreme_rows_stay_finite_and_learn(rows: list[float], label: int) -> None:
    x = torch.tensor([rows], requires_grad=True)
    logits = ClassPooling(torch.tensor([0, 1, 2]), 2)(x)
    torch.nn.functional.cross_entropy(logits, torch.tensor([1])).backward()
    assert logits.isfinite().all()
    assert logits.argmax() == label
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0, 1] < 0  # the true class is pulled up, however far down it is


def test_gradient_of_pooling() -> None:
    labels = torch.tensor([0, 1, 1, 2, 0])
    rows = torch.randn(3, 5, dtype=torch.float32, requires_grad=True)
    (ClassPooling(labels, 2)(rows) * torch.arange(9.0).view(3, 3)).sum().backward()
    plain = rows.detach().clone().requires_grad_()
    groups = [plain[:, labels == group].logsumexp(dim=1) for group in range(3)]
    (torch.stack(groups, dim=1) * torch.arange(9.0).view(3, 3)).sum().backward()
    assert torch.allclose(rows.grad, plain.grad, atol=1e-5)  # type: ignore[arg-type]


def test_folded_posterior(classifier_checkpoint: Checkpoint) -> None:
    """Each class's probability is the sum over its synsets; the 505 others are background."""
    folded = from_classifier(classifier_checkpoint)
    assert folded.metadata.detection == ilsvrc_det()
    crops = torch.randn(2, 3, 224, 224) * 50
    assert isinstance(folded.network, RegionNetwork)
    with torch.no_grad():
        posterior = folded.network(crops).logits.softmax(dim=1)
        synsets = classifier_checkpoint.backbone.logits(crops).softmax(dim=1)
    for label in (0, 58, 199):
        members = [i for i, parent in enumerate(cls_to_det()) if parent == label]
        assert torch.allclose(posterior[:, label], synsets[:, members].sum(dim=1), atol=1e-5)
    others = [i for i, parent in enumerate(cls_to_det()) if parent < 0]
    assert len(others) == 505
    assert torch.allclose(posterior[:, 200], synsets[:, others].sum(dim=1), atol=1e-5)


def test_own_rows_leave_the_classifier_as_it_was(classifier_checkpoint: Checkpoint) -> None:
    network = from_classifier(classifier_checkpoint, own_sub_classes=True).network
    assert isinstance(network, RegionNetwork)
    crops = torch.randn(1, 3, 224, 224) * 50
    with torch.no_grad():
        output = network(crops)
        assert torch.allclose(
            output.sub_classes[:, :1000], classifier_checkpoint.backbone.logits(crops), atol=1e-4
        )
    assert output.sub_classes.shape == (1, 1201)
    assert output.deltas.shape == (1, 4)


@pytest.mark.parametrize(
    ("synset", "detection"),
    [("n02085620", "dog"), ("n02123045", "domestic cat"), ("n10565667", "person"), ("n01440764", None)],
    ids=["Chihuahua", "tabby", "scuba diver", "tench: a fish is none of the 200"],
)
def test_class_map(synset: str, detection: str | None) -> None:
    label = cls_to_det()[ilsvrc_cls().index()[synset]]
    assert (ilsvrc_det().names[label] if label >= 0 else None) == detection


def test_every_detection_class_has_a_synset() -> None:
    assert set(range(200)) <= set(cls_to_det())
    assert sum(label >= 0 for label in cls_to_det()) == 495
