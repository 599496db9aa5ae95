"""A detector of other classes carries over what is known of them, and nothing it should not."""

import copy
from dataclasses import replace

import pytest
import torch

from detector.errors import CheckpointError
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.region_network import BoxHead, IoUHead, RegionNetwork
from detector.models.transfer import from_classifier, transfer
from detector.pretrained import SHIPPED
from detector.structures.classes import ClassList, class_aliases, cls_to_det, ilsvrc_cls, ilsvrc_det, voc

SYNSET = dict(zip(ilsvrc_cls().names, range(1000), strict=True))
COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bench", "bird"),
    *("traffic light", "parking meter", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra"),
    *("backpack", "umbrella", "handbag", "tie", "skis", "sports ball", "tennis racket", "bottle", "cup"),
    *("wine glass", "bowl", "banana", "apple", "orange", "broccoli", "hot dog", "pizza", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard"),
    *("cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "clock", "vase", "teddy bear"),
    "hair drier",
)


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(SHIPPED)


def parts(checkpoint: Checkpoint) -> tuple[RegionNetwork, torch.Tensor, torch.Tensor]:
    """The network, its rows with their biases [S,1025], and their labels."""
    network = checkpoint.network
    assert isinstance(network, RegionNetwork)
    classifier = network.backbone.classifier
    rows = torch.cat([classifier.weight.detach(), classifier.bias.detach()[:, None]], dim=1)
    return network, rows, network.pooling.labels


@pytest.mark.parametrize(
    ("class_id", "name", "means"),
    [
        pytest.param("n02084071", "whatever", {"n02084071"}, id="a WordNet id says it all"),
        pytest.param("dog", "dog", {"n02084071"}, id="the name of a detection class"),
        pytest.param("aeroplane", "aeroplane", {"n02691156"}, id="VOC's word for it"),
        pytest.param(
            "7", "Traffic-Light", {"n06874185"}, id="case and hyphens do not matter; numbers as ids"
        ),
        pytest.param("zebras", "zebras", {"n02391049"}, id="a plural"),
        pytest.param("bus", "bus", {"n02924116"}, id="an s that is no plural"),
        pytest.param("umbrella", "umbrella", {"n04507155"}, id="a synset outside the 200 classes"),
        pytest.param("kite", "kite", {"kite"}, id="the synset of that name is a bird, COCO's a toy"),
        pytest.param("plane", "plane", {"n02691156"}, id="the synset of that name is a carpenter's tool"),
        pytest.param("crane", "crane", {"crane"}, id="two synsets of one name: no telling which"),
        pytest.param("widget", "widget", {"widget"}, id="nothing known"),
        pytest.param("bottle", "bottle", {"n04557648", "n04591713", "n02823428", "n03983396"}, id="several"),
    ],
)
def test_which_known_classes_a_class_of_another_list_means(class_id: str, name: str, means: set[str]) -> None:
    assert class_aliases(class_id, name) == means


@pytest.mark.parametrize("names", [voc().ids, COCO], ids=["VOC", "COCO, without those that ILSVRC lacks"])
def test_every_class_of_well_known_sets_is_known(names: tuple[str, ...]) -> None:
    known = {*ilsvrc_det().ids, *ilsvrc_cls().ids}
    assert [name for name in names if not class_aliases(name, name) <= known] == []


def test_a_classifier_becomes_what_folding_gives(untrained: Checkpoint) -> None:
    _, rows, labels = parts(transfer(untrained, ilsvrc_det()))
    _, expected, expected_labels = parts(from_classifier(untrained, own_sub_classes=True))
    assert torch.equal(labels, expected_labels)
    assert torch.equal(rows, expected)


def test_a_detector_of_its_own_classes_is_unchanged(shipped: Checkpoint) -> None:
    again = transfer(shipped, ilsvrc_det())
    network, _, _ = parts(again)
    crops = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 50
    assert isinstance(shipped.network, RegionNetwork)
    with torch.no_grad():
        new, old = network(crops), shipped.network(crops)
    assert torch.equal(new.logits, old.logits)
    assert torch.equal(new.deltas, old.deltas)
    assert again.multibox is shipped.multibox


def test_a_list_of_other_classes(shipped: Checkpoint) -> None:
    classes = ClassList.of(["dog", "Chihuahua", "umbrella", "widget", "sofa"])
    changed = transfer(shipped, classes)
    _, rows, labels = parts(changed)
    _, old, _ = parts(shipped)
    assert changed.metadata.detection == classes
    assert changed.metadata.classification == ilsvrc_cls()
    assert changed.metadata.metrics == {}
    assert torch.equal(rows[:1000], old[:1000])
    assert torch.equal(labels[1000:], torch.arange(6))
    dogs = [row for row, label in enumerate(cls_to_det()) if label == ilsvrc_det().names.index("dog")]
    own = {name: 1000 + ilsvrc_det().names.index(name) for name in ("dog", "sofa")}
    for label, synsets, start in [
        (0, set(dogs) - {SYNSET["Chihuahua"]}, old[own["dog"]]),
        (1, {SYNSET["Chihuahua"]}, None),
        (2, {SYNSET["umbrella"]}, None),
        (3, set(), old[1000:1200].mean(dim=0)),
        (4, {SYNSET["studio couch"]}, old[own["sofa"]]),
    ]:
        assert {int(row) for row in torch.nonzero(labels[:1000] == label)} == synsets, label
        if start is None:
            (row,) = synsets
            start = old[row] - 2.0 * torch.eye(1025)[-1]
        assert torch.allclose(rows[1000 + label], start, atol=1e-6), label
    assert torch.equal(rows[-1], old[-1])


@pytest.mark.parametrize("earlier", [False, True], ids=["a location head", "heads of earlier versions"])
def test_heads_that_say_where_objects_lie_are_kept(shipped: Checkpoint, earlier: bool) -> None:
    """They know nothing of classes."""
    init = replace(shipped, network=copy.deepcopy(shipped.network))
    assert isinstance(init.network, RegionNetwork)
    if earlier:
        init.network.location_head, init.network.box_head = None, BoxHead()
        init.network.fit_head = IoUHead()
    network, _, _ = parts(transfer(init, ClassList.of(["dog", "widget"])))
    for name in ("location_head", "box_head", "fit_head"):
        before, after = getattr(init.network, name), getattr(network, name)
        assert (before is None) == (after is None) == (earlier == (name == "location_head")), name
        if before is not None:
            kept = after.state_dict()
            assert all(torch.equal(value, kept[key]) for key, value in before.state_dict().items()), name


@pytest.mark.parametrize(
    ("names", "label"),
    [
        pytest.param(["dog", "umbrella"], 2, id="all known: what is something else is background"),
        pytest.param(["dog", "hard hat"], -1, id="one unknown: it may look like any synset"),
    ],
)
def test_synsets_of_no_class(shipped: Checkpoint, names: list[str], label: int) -> None:
    network, _, labels = parts(transfer(shipped, ClassList.of(names)))
    assert labels[SYNSET["crash helmet"]] == label
    rows = torch.zeros(1, 1003)
    before = network.pooling(rows)
    rows[0, SYNSET["crash helmet"]] = 20.0
    after = network.pooling(rows)
    assert torch.equal(before[0, :2], after[0, :2])
    assert (after[0, 2] > before[0, 2] + 5) == (label == 2)


def test_a_detector_of_your_own_can_start_another(shipped: Checkpoint) -> None:
    """By name, aliases included, though WordNet knows nothing of it."""
    mine = transfer(shipped, ClassList.of(["widget", "aeroplane"]))
    network, rows, _ = parts(mine)
    with torch.no_grad():
        network.backbone.classifier.weight[1000:] += 1.0  # as if trained
    _, rows, _ = parts(mine)
    _, new, labels = parts(transfer(mine, ClassList.of(["Airplane", "Widget", "gadget"])))
    assert torch.equal(new[1000], rows[1001])
    assert torch.equal(new[1001], rows[1000])
    assert torch.allclose(new[1002], rows[1000:1002].mean(dim=0))
    assert {int(row) for row in torch.nonzero(labels[:1000] == 0)} == {SYNSET["airliner"]}


def test_an_untrained_folded_detector_gets_rows_and_a_location_head(untrained: Checkpoint) -> None:
    network, rows, _ = parts(transfer(from_classifier(untrained), ClassList.of(["dog", "widget"])))
    assert network.location_head is not None
    assert len(rows) == 1003
    assert torch.equal(rows[1001], torch.zeros(1025))


def test_the_result_is_apart_from_what_it_came_from(untrained: Checkpoint) -> None:
    start = from_classifier(untrained, own_sub_classes=True)
    before = start.backbone.features.conv1.conv.weight.detach().clone()
    with torch.no_grad():
        transfer(start, voc()).backbone.features.conv1.conv.weight.zero_()
    assert torch.equal(start.backbone.features.conv1.conv.weight, before)


def test_a_classifier_of_other_classes_is_refused(untrained: Checkpoint) -> None:
    other = replace(untrained, metadata=replace(untrained.metadata, classification=voc()))
    with pytest.raises(CheckpointError, match="1000 ILSVRC classes"):
        transfer(other, voc())


def test_a_classifier_of_whole_images_alone_stays_as_it_is(untrained: Checkpoint) -> None:
    """It is not trained with the regions, whose loss does not read it."""
    start = from_classifier(untrained, own_sub_classes=True)
    start.backbone.whole = torch.nn.Linear(1024, 1000)
    kept = transfer(start, voc()).backbone.whole
    assert kept is not None
    assert kept is not start.backbone.whole
    assert torch.equal(kept.weight, start.backbone.whole.weight)
    assert torch.equal(kept.bias, start.backbone.whole.bias)
    assert not any(parameter.requires_grad for parameter in kept.parameters())
    assert all(parameter.requires_grad for parameter in start.backbone.whole.parameters())
