"""Trunk, MultiBox and region heads trained together: what is looked at, what learns, what stays."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.image_maps import ImageMaps
from detector.inference.loading import load_detector
from detector.inference.preprocessing import Preprocessing, add_context
from detector.inference.shared_maps import SharedMaps, align
from detector.inference.torch_arrays import TorchArrays
from detector.inference.torch_engine import TorchEngine
from detector.inference.torch_networks import ImageNetwork
from detector.io.decoding import load
from detector.models.backbone import LAST_STAGES
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.image_trunk import MappedStages
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from detector.models.transfer import transfer
from detector.proposals.multibox import MultiBox
from detector.structures.boxes import as_boxes, decode, iou
from detector.structures.proposals import Source
from tests.detector.models.verified import verify_checkpoint
from tests.training.runs import CLASSES, SMALL, keep_all, small_set, train
from tests.training.together import run_together
from training.multibox.anchors import choose_anchors
from training.multibox.losses import MultiBoxLossWeights
from training.rcnn.dataloader import BatchSettings
from training.rcnn.joint_task import JointTask, validation_batches
from training.rcnn.joint_training import JointLosses, JointTrainingModule
from training.rcnn.losses import LossWeights
from training.rcnn.recipe import Recipe, RegionKind
from training.rcnn.sampling import UNKNOWN, WHOLE, Regions, SamplingSettings
from training.scaled_images import ImageBatch, ImageBatches
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import Averaging, Decay

CPU = torch.device("cpu")
SHARED = SharedMaps((48, 96), padding=16)
BATCH = BatchSettings(positives=4, background=5, whole=2, unknown=2, images=3)
BACKGROUND = len(CLASSES)

JOINT = replace(
    SMALL,
    iterations=2,
    regions=RegionKind.SHARED,
    scales=(32, 64),
    frozen_through="pool2",
    shapes=4,
    batch=BatchSettings(positives=3, background=4, whole=1, images=2),
)


@pytest.fixture(scope="module")
def init(init_path: Path) -> Checkpoint:
    return load_checkpoint(init_path)


@pytest.fixture(scope="module")
def preprocessing(init: Checkpoint) -> Preprocessing:
    return replace(init.metadata.preprocessing, short_side=max(SHARED.scales))


@pytest.fixture(scope="module")
def records(data: Path) -> list[AnnotatedImage]:
    """Four pictures with an object of known class, and of unknown class two of them."""
    records = small_set(data).records[:4]
    for index in (1, 3):
        unknown = as_boxes([(5, 5, 40, 35)])
        records[index] = replace(records[index], unknown=unknown)
    return records


def module_of(
    init: Checkpoint,
    spec: MultiBoxSpec,
    frozen: int,
    *,
    shared: SharedMaps = SHARED,
    batch: BatchSettings = BATCH,
    distilled: int = 0,
    weights: LossWeights | None = None,
    world: ProcessGroup | None = None,
) -> JointTrainingModule:
    torch.manual_seed(4)
    network = transfer(init, CLASSES).network
    assert isinstance(network, RegionNetwork)
    return JointTrainingModule(
        network,
        MultiBoxHead(replace(spec, image=shared.image)),
        frozen,
        shared,
        replace(init.metadata.preprocessing, short_side=max(shared.scales)),
        sampling=SamplingSettings(positives=6, background=8),
        batch=batch,
        weights=weights or LossWeights(distillation=0.5 if distilled else 0.0),
        multibox_weights=MultiBoxLossWeights(),
        distilled_classes=distilled,
        seed=5,
        world=world or ProcessGroup(),
    )


def images_of(
    records: Sequence[AnnotatedImage], preprocessing: Preprocessing, batch: int = 3, **settings: bool
) -> ImageBatches:
    return ImageBatches(records, np.ones(len(records)), SHARED, preprocessing, batch, 6, **settings)


def minibatch(images: ImageBatches, number: int = 0, world: ProcessGroup | None = None) -> ImageBatch:
    return next(iter(images.minibatches(number, number + 1, CPU, 0, world)))


def frozen_through(init: Checkpoint, stage: str) -> int:
    names = [name for name, _ in init.backbone.features.named_children()]
    return names.index(stage) + 1 if stage != "none" else 0


def regions_of(boxes: np.ndarray, whole: np.ndarray) -> Regions:
    count = len(boxes)
    return Regions(
        boxes.astype(np.float32),
        np.zeros(count, bool),
        np.where(whole, WHOLE, 0).astype(np.int64),
        np.ones(count, np.float32),
        np.full((count, 4), np.nan, np.float32),
        np.ones(count, bool),
    )


@pytest.mark.parametrize(
    ("scales", "least", "most"),
    [
        pytest.param((48, 96), 2, 90, id="regions of all sizes at two scales"),
        pytest.param((48, 96), 2, 12, id="small ones, all at the larger scale"),
        pytest.param((48,), 2, 90, id="one scale"),
        pytest.param((32, 64, 128, 256), 1, 95, id="four scales"),
    ],
)
def test_regions_are_cut_out_as_a_detector_does(
    init: Checkpoint, multibox_spec: MultiBoxSpec, scales: tuple[int, ...], least: float, most: float
) -> None:
    """Bit by bit, each from the maps of its own image, at the scale of its own size."""
    random, shared = np.random.default_rng(0), replace(SHARED, scales=scales)
    module = module_of(init, multibox_spec, 0, shared=shared)
    count, rows = 3, 40
    maps = [
        torch.from_numpy(random.normal(0, 1, (count, 5, s // 8, s // 6)).astype(np.float32)) for s in scales
    ]
    factors = [
        torch.from_numpy((s / 100 * random.uniform(0.7, 1.4, (count, 4))).astype(np.float32)) for s in scales
    ]
    corner, sides = random.uniform(0, 60, (rows, 2)), random.uniform(least, most, (rows, 2))
    whole = random.random(rows) < 0.2
    image = random.integers(0, count, rows)
    regions = regions_of(np.concatenate([corner, corner + sides], axis=1), whole)
    cells = module._align(maps, image, regions, factors)
    assert cells.shape == (rows, 5, shared.size, shared.size)
    prepare = init.metadata.preprocessing
    for index in range(count):
        own = np.flatnonzero(image == index)
        windows = np.where(
            whole[own, None], regions.boxes[own], add_context(regions.boxes[own], prepare)
        ).astype(np.float32)
        expected = align(
            [part[index : index + 1] for part in maps],
            windows,
            [part[index].numpy() for part in factors],
            shared,
            prepare.size,
            TorchArrays(CPU),
        )
        assert torch.equal(cells[torch.from_numpy(own)], expected)


@torch.no_grad()
def test_training_sees_what_the_detector_sees(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    """Regions of pictures of a minibatch through the training's maps give the detector's probabilities."""
    module = module_of(init, multibox_spec, 7).eval()
    batch = minibatch(images_of(records, preprocessing, mirror=False))
    metadata = replace(
        transfer(init, CLASSES).metadata, preprocessing=preprocessing, shared_maps=SHARED, multibox=None
    )
    detector = Detector(Checkpoint(module.network, metadata), device="cpu", precision="float32")
    boxes = as_boxes([(10, 10, 60, 50), (0, 0, 100, 80), (30, 20, 44, 36)])
    image = np.repeat(np.arange(3), 3)
    regions = regions_of(np.concatenate([boxes] * 3), np.zeros(9, bool))
    features = module.network.backbone.features
    pixels = [scale.normalised(SHARED, preprocessing, CPU) for scale in batch.scales]
    maps = [features[: module._cut](x) for x in pixels]
    cells = module._align(maps, image, regions, [scale.factors for scale in batch.scales])
    found = module.network.outputs_of(features[module._cut : -LAST_STAGES](cells))
    probabilities, fit = found.logits.softmax(dim=1), found.predicted_iou
    assert fit is not None
    for index, record in enumerate(batch.records):
        [expected] = detector.predict(load(record.path), boxes)
        own = image == index
        assert np.allclose(probabilities[own], expected.probabilities, atol=1e-5)
        assert np.allclose(found.deltas[own], expected.deltas, atol=1e-5)
        assert np.allclose(fit[own].sigmoid(), expected.predicted_iou, atol=1e-5)


@torch.no_grad()
def test_it_learns_from_the_boxes_that_a_detector_would_propose(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    """A head that is certain of all priors of one shape and of nothing else; each of both leaves out a few
    boxes that nearly equal another."""
    module = module_of(init, multibox_spec, 7).eval()
    for number, predictor in enumerate(module.multibox.predict):
        assert isinstance(predictor, torch.nn.Conv2d)
        assert predictor.bias is not None
        predictor.weight.zero_()
        nothing = torch.tensor([-20.0, 0, 0, 0, 0])
        predictor.bias.copy_(nothing.repeat(len(predictor.bias) // 5))
        if number == 1:
            predictor.bias[:5] = torch.tensor([4.0, 0.5, -0.5, 0.2, 0.1])
    batch = minibatch(images_of(records, preprocessing, mirror=False))
    features = module.network.backbone.features
    pixels = [scale.normalised(SHARED, preprocessing, CPU) for scale in batch.scales]
    spec = module.multibox.spec
    mapped = MappedStages(features, spec.stages)
    maps = [mapped(x) for x in pixels]
    outputs = [module.multibox(*(part[stage] for stage in spec.stages)) for part in maps]
    anchors = [
        torch.from_numpy(spec.anchors(*((x.shape[2] // s, x.shape[3] // s) for s in (8, 16)))) for x in pixels
    ]
    proposals = module._propose(outputs, anchors, batch)
    engine = TorchEngine(ImageNetwork(features, head=module.multibox), batch=1, buckets=())
    multibox = MultiBox(spec, ImageMaps(engine, spec.image, preprocessing), preprocessing)
    for record, boxes in zip(batch.records, proposals, strict=True):
        found = multibox.propose(load(record.path), 1000)
        sure = found.boxes[found.objectness > 0.9]
        assert len(sure) > 10
        assert iou(sure, boxes).max(axis=1).min() > 0.79
        near = iou(boxes, sure).max(axis=1)
        assert (near > 0.8).sum() >= 0.6 * len(sure)
        assert (boxes >= 0).all()
        assert (boxes <= [record.width, record.height] * 2).all()


def test_a_minibatch_has_regions_of_each_kind_of_its_pictures(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    module = module_of(init, multibox_spec, 7)
    images = images_of(records, preprocessing)
    proposals = [as_boxes([(2, 2, 30, 30), (50, 40, 90, 70), (60, 2, 99, 30), (0, 0, 9, 9)])] * 3
    for number in range(6):
        batch = minibatch(images, number)
        image, regions = module._sample(batch, proposals)
        kinds = {
            "objects": (regions.labels == 0).sum(),
            "background": (regions.labels == BACKGROUND).sum(),
            "whole": regions.whole.sum(),
            "unknown": (regions.labels == UNKNOWN).sum(),
        }
        has_unknown = any(len(record.unknown) for record in batch.records)
        assert kinds == {
            "objects": BATCH.positives,
            "background": BATCH.background,
            "whole": BATCH.whole,
            "unknown": BATCH.unknown if has_unknown else 0,
        }
        assert not regions.mirrored[~regions.whole].any(), "the pictures themselves are mirrored"
        for index, box, label in zip(image, regions.boxes, regions.labels, strict=True):
            record = batch.records[index]
            if label == WHOLE:
                assert box.tolist() == [0, 0, record.width, record.height]
            else:
                own = record.boxes if label == 0 else record.unknown
                overlap = iou(box[None], own).max(initial=0)
                assert overlap >= 0.5 if label in (0, UNKNOWN) else overlap < 0.5
        for index, box, deltas in zip(image, regions.boxes, regions.deltas, strict=True):
            if not np.isnan(deltas).any():
                record = batch.records[index]
                objects = np.concatenate([record.boxes, record.unknown])
                assert iou(decode(box[None], deltas[None]), objects).max() > 0.999
        again, same = module._sample(batch, proposals)
        assert np.array_equal(image, again)
        assert np.array_equal(regions.boxes, same.boxes)


@pytest.mark.parametrize("distilled", [0, 1000], ids=["no teacher", "a teacher"])
@pytest.mark.parametrize(
    "stage",
    ["none", "pool2", "inception_3b", "pool3", "inception_4b", "inception_4d"],
)
def test_gradients_reach_what_is_trained_and_nothing_else(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    stage: str,
    distilled: int,
) -> None:
    """Whether the stages that MultiBox reads are trained, one of them is, or is the last frozen one."""
    if distilled and stage not in ("pool2", "inception_4d"):
        pytest.skip("the teacher is the same")
    frozen = frozen_through(init, stage)
    module = module_of(init, multibox_spec, frozen, distilled=distilled).train()
    losses = module(minibatch(images_of(records, preprocessing)), torch.float32)
    losses.total.backward()
    assert all(torch.isfinite(part) for part in losses)
    assert (losses.distillation > 0) == bool(distilled)
    features = list(module.network.backbone.features.children())
    kept = {id(weight) for part in features[:frozen] for weight in part.parameters()}
    assert bool(kept) == (frozen > 0)
    for name, weight in module.named_parameters():
        if id(weight) in kept:
            assert weight.grad is None, name
            assert not weight.requires_grad, name
        else:
            assert weight.grad is not None, name
            assert weight.grad.abs().sum() > 0, name
    grouped = [weight for group in module.parameter_groups(1, 2, 0.5) for weight in group["params"]]  # type: ignore[attr-defined]
    trained = {id(weight) for weight in module.parameters() if weight.requires_grad}
    assert len(grouped) == len(trained)
    assert {id(weight) for weight in grouped} == trained


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", ["multibox", "regions"])
def test_each_of_both_heads_teaches_the_trunk(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    part: str,
) -> None:
    """Also where the other one's loss is left out."""
    stage = frozen_through(init, "inception_3b")
    module = module_of(init, multibox_spec, stage, weights=LossWeights(distillation=0.0)).eval()
    losses = module(minibatch(images_of(records, preprocessing)), torch.float32)
    multibox = losses.objectness + MultiBoxLossWeights().location * losses.location
    assert torch.allclose(losses.total, losses.classification + losses.box + losses.fit + multibox)
    one = multibox if part == "multibox" else losses.total - multibox
    one.backward()
    features = module.network.backbone.features
    for name in ("inception_4a", "inception_4e"):
        assert all(w.grad is not None and w.grad.any() for w in features.get_submodule(name).parameters())
    after = features.inception_5a.parameters()  # type: ignore[union-attr]
    assert any(w.grad is not None and bool(w.grad.any()) for w in after) == (part == "regions")
    own = module.multibox.parameters()
    assert any(w.grad is not None and bool(w.grad.any()) for w in own) == (part == "multibox")


def test_the_weight_of_multibox_counts(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    batch = minibatch(images_of(records, preprocessing))
    totals = []
    with torch.no_grad():
        for weight in (0.0, 1.0, 3.0):
            weights = LossWeights(distillation=0.0, multibox=weight)
            totals.append(
                module_of(init, multibox_spec, 7, weights=weights).eval()(batch, torch.float32).total
            )
    assert totals[1] > totals[0]
    assert (totals[2] - totals[0]).item() == pytest.approx(3 * (totals[1] - totals[0]).item(), rel=1e-4)


def test_the_teacher_stays_while_its_pupil_learns(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    """It is no part of the weights, nor of their average, and at the start it says what the pupil says."""
    frozen = frozen_through(init, "pool2")
    module = module_of(init, multibox_spec, frozen, distilled=1000).train()
    teacher = module.teacher
    assert teacher is not None
    assert copy.deepcopy(module).teacher is teacher
    features = module.network.backbone.features
    pixels = minibatch(images_of(records, preprocessing)).scales[0].normalised(SHARED, preprocessing, CPU)
    module.eval()  # the teacher has no dropout, and its pupil in training has
    with torch.no_grad():
        begun = features[:frozen](pixels)
        cells = features[frozen : module._cut](begun)[:, :, :7, :7]
        expected = module.network.backbone.pool(features[module._cut :](cells))[:, :1000]
        assert torch.equal(teacher.trunk(begun), features[frozen : module._cut](begun))
    said = [teacher.trunk(begun), teacher.logits(cells)]
    torch.testing.assert_close(said[1], expected, atol=1e-5, rtol=1e-5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    names = {name for name, _ in module.named_parameters()}
    optimizer = torch.optim.SGD([w for w in module.parameters() if w.requires_grad], lr=1e-3)
    module.train()(minibatch(images_of(records, preprocessing)), torch.float32).total.backward()
    optimizer.step()
    assert torch.equal(teacher.trunk(begun), said[0])
    assert torch.equal(teacher.logits(cells), said[1])
    changed = {name for name in names if not torch.equal(module.state_dict()[name], before[name])}
    stages = [name for name, _ in features.named_children()]
    for number, stage in enumerate(stages):
        own = {name for name in names if name.startswith(f"network.backbone.features.{stage}.")}
        assert bool(own & changed) == (bool(own) and number >= frozen), stage
    for head in ("multibox.", "network.location_head.", "network.backbone.classifier."):
        assert any(name.startswith(head) for name in changed), head


@pytest.mark.parametrize("location", [False, True], ids=["heads of earlier versions", "a location head"])
def test_batch_normalisation_keeps_its_statistics(
    preprocessing: Preprocessing, records: list[AnnotatedImage], location: bool
) -> None:
    torch.manual_seed(0)
    backbone = TorchvisionGoogLeNet(4)
    network = RegionNetwork(backbone, torch.tensor([0, 0, 1, 1]), 1, iou_prediction=True, location=location)
    shared = replace(SHARED, stage="inception4e")
    spec = choose_anchors("torchvision-googlenet", backbone.features.eval(), records, shared, 5, seed=0)
    module = JointTrainingModule(
        network, MultiBoxHead(spec), 5, shared, preprocessing,
        sampling=SamplingSettings(positives=6, background=8), batch=BATCH,
        weights=LossWeights(distillation=0.0), multibox_weights=MultiBoxLossWeights(), distilled_classes=0,
        seed=0, world=ProcessGroup(),
    ).train()  # fmt: skip
    before = {name: value.clone() for name, value in module.named_buffers()}
    losses = module(minibatch(images_of(records, preprocessing)), torch.float32)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert len(before) > 50
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    assert module.network.backbone.dropout.training


def task_of(
    module: JointTrainingModule,
    images: ImageBatches,
    folder: Path,
    recipe: Recipe = JOINT,
    world: ProcessGroup | None = None,
    validation: ImageBatches | None = None,
) -> JointTask:
    recipe = replace(recipe, batch=replace(recipe.batch, images=images.batch))
    return JointTask(
        module,
        images,
        recipe,
        broken=BrokenImages(folder / "broken.txt", limit=0),
        device=CPU,
        world=world or ProcessGroup(),
        workers=0,
        validation=validation,
        log=folder / "held_out.jsonl",
    )


@pytest.mark.parametrize(
    ("images", "accumulate", "sizes"),
    [
        pytest.param(3, 1, [3], id="one piece"),
        pytest.param(3, 2, [2, 1], id="two pieces, not of one size"),
        pytest.param(2, 5, [1, 1], id="more pieces than images"),
    ],
)
def test_a_minibatch_in_pieces_has_the_mean_of_their_losses(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    tmp_path: Path,
    images: int,
    accumulate: int,
    sizes: list[int],
) -> None:
    module = module_of(init, multibox_spec, 7).eval()
    source = images_of(records, preprocessing, images)
    task = task_of(module, source, tmp_path, replace(JOINT, accumulate=accumulate))
    [batch] = list(task.minibatches(2, 3))
    pieces = task.pieces(batch)
    assert [len(piece.records) for piece in pieces] == sizes
    with torch.no_grad():
        parts = torch.tensor([[float(one) for one in task.losses(module, piece)] for piece in pieces])
        alone = torch.tensor([[float(one) for one in module(piece, torch.float32)] for piece in pieces])
    assert torch.allclose(parts.sum(dim=0), alone.mean(dim=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "accumulate"),
    [
        pytest.param(2, 1, id="one image each"),
        pytest.param(4, 2, id="two pieces of one image each"),
        pytest.param(2, 2, id="more pieces than images of a process"),
        pytest.param(3, 1, id="shares of two and one"),
    ],
)
def test_the_losses_of_processes_sum_up_to_a_mean(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    tmp_path: Path,
    images: int,
    accumulate: int,
) -> None:
    """A classifier that knows nothing, asked for every class alike: each region costs the same, of however
    many, in however many pieces."""
    known = [replace(record, unknown=as_boxes([])) for record in records]
    source = images_of(known, preprocessing, images)

    def loss(world: ProcessGroup) -> float:
        weights = LossWeights(distillation=0.0, label_smoothing=1.0)
        module = module_of(init, multibox_spec, 7, world=world, weights=weights)
        with torch.no_grad():
            for part in (module.network.backbone.classifier.weight, module.network.backbone.classifier.bias):
                part.zero_()
            task = task_of(module.eval(), source, tmp_path, replace(JOINT, accumulate=accumulate), world)
            [batch] = list(task.minibatches(1, 2))
            return sum(float(task.losses(module, piece).classification) for piece in task.pieces(batch))

    [alone] = run_together(1, loss)
    assert sum(run_together(2, loss)) == pytest.approx(alone, rel=1e-4)


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_held_out_pictures_are_measured_as_a_detector_sees_them(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    tmp_path: Path,
) -> None:
    """A measure is a function of the weights, and a line of the log; a repeated one replaces its line."""
    images = replace(images_of(records, preprocessing, 2), zoom=1.3, color_jitter=True)
    held_out = validation_batches(images)
    assert (held_out.zoom, held_out.color_jitter, held_out.mirror) == (1.0, False, False)
    module = module_of(init, multibox_spec, 7).eval()
    task = task_of(module, images, tmp_path, validation=held_out)
    first, again = task.validate(3, module), task.validate(5, module)
    assert first is not None
    assert again is not None
    assert first.figures == again.figures
    assert first.loss == first.figures["loss"]
    assert list(first.figures) == ["loss", *JointLosses._fields[1:]]
    assert [line["iteration"] for line in lines(tmp_path / "held_out.jsonl")] == [2, 4]
    task.validate(3, module)
    [line] = lines(tmp_path / "held_out.jsonl")
    assert line == {
        "iteration": 2, **{name: pytest.approx(value, abs=1e-5) for name, value in first.figures.items()}
    }  # fmt: skip
    batches = list(held_out.minibatches(0, held_out.epoch_length, CPU, 0))
    with torch.no_grad():
        means = torch.tensor([[float(one) for one in module(batch, torch.float32)] for batch in batches])
    assert list(first.figures.values()) == pytest.approx(means.mean(dim=0).tolist(), rel=1e-4)
    assert task_of(module, images, tmp_path).validate(1, module) is None


def test_the_digest_tells_runs_apart(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
    tmp_path: Path,
) -> None:
    """By the pictures, and by the weights that are trained."""
    images = images_of(records, preprocessing)
    same = task_of(module_of(init, multibox_spec, 7), images, tmp_path).digest()
    assert task_of(module_of(init, multibox_spec, 7), images, tmp_path).digest() == same
    other = module_of(init, multibox_spec, 7)
    with torch.no_grad():
        next(other.multibox.parameters()).add_(1)
    digests = [
        same,
        task_of(other, images, tmp_path).digest(),
        task_of(module_of(init, multibox_spec, 8), images, tmp_path).digest(),
        task_of(module_of(init, multibox_spec, 7), replace(images, seed=7), tmp_path).digest(),
    ]
    assert len(set(digests)) == 4


LEARNING = replace(
    JOINT,
    iterations=10,
    rate=3e-4,
    head_rate=3e-4,
    momentum=0.5,
    averaging=Averaging.NONE,
    batch=BatchSettings(positives=4, background=6, whole=1, images=2),
    loss=LossWeights(distillation=0.0),
)


@pytest.fixture(scope="module")
def learnt(data: Path, init_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that sees its pictures often enough to know them; nothing drops out."""
    output = tmp_path_factory.mktemp("joint")
    start = load_checkpoint(init_path)
    keep_all(start)
    train(data, start, output, LEARNING, validation=False)
    return output


def test_the_loss_falls(learnt: Path) -> None:
    log = lines(learnt / "log.jsonl")
    assert [line["iteration"] for line in log] == list(range(10))
    total = [line["total"] for line in log]
    assert np.mean(total[-4:]) < 0.6 * np.mean(total[:2])


@pytest.mark.exhaustive
def test_both_heads_learn_a_minibatch_by_heart(
    init: Checkpoint,
    multibox_spec: MultiBoxSpec,
    preprocessing: Preprocessing,
    records: list[AnnotatedImage],
) -> None:
    """Each part of the loss falls; that of the IoU, which is no 0 or 1, not far."""
    batch = minibatch(images_of(records, preprocessing, 2))
    module = module_of(init, multibox_spec, frozen_through(init, "inception_3b")).eval()
    optimizer = torch.optim.Adam([weight for weight in module.parameters() if weight.requires_grad], lr=1e-4)
    losses = []
    for _ in range(144):  # the location head begins anew
        part = module(batch, torch.float32)
        losses.append([value.item() for value in part])
        optimizer.zero_grad()
        part.total.backward()
        optimizer.step()
    first = dict(zip(JointLosses._fields, losses[0], strict=True))
    last = dict(zip(JointLosses._fields, np.mean(losses[-6:], axis=0), strict=True))
    for name in ("total", "classification", "box", "objectness", "location"):
        assert last[name] < 0.75 * first[name], (name, first, last)
    assert last["fit"] < first["fit"]


def test_a_run_leaves_a_detector_that_proposes_and_detects(learnt: Path, data: Path) -> None:
    path = learnt / "detector.safetensors"
    metadata = verify_checkpoint(path)
    assert metadata.detection == CLASSES
    assert metadata.shared_maps == SharedMaps((32, 64))
    assert metadata.multibox is not None
    assert metadata.multibox.image == metadata.shared_maps.image
    assert sum(len(grid.sides) for grid in metadata.multibox.grids) == 4
    assert metadata.preprocessing.short_side == 64
    assert metadata.training["frozen_through"] == "pool2"
    assert "multibox" not in metadata.training, "it was trained with the rest"
    detector = load_detector(path, device="cpu", profile="fast", max_proposals=5)
    image = load(small_set(data).records[0].path)
    assert set(detector.propose(image).source) == {Source.MULTIBOX}
    [found] = detector.detect([image], score_threshold=0.0, max_detections=3)
    assert len(found)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= np.array([100, 80, 100, 80]) + 1e-4).all(), "means of boxes are rounded"


def test_what_is_frozen_stays(learnt: Path, init_path: Path) -> None:
    before = load_checkpoint(init_path).backbone.features.state_dict()
    after = load_checkpoint(learnt / "detector.safetensors").backbone.features.state_dict()
    changed = {
        name.split(".")[0] for name in before if not torch.equal(before[name].half(), after[name].half())
    }
    names = [name for name, _ in load_checkpoint(init_path).backbone.features.named_children()]
    trained = names[names.index("pool2") + 1 :]
    assert changed == {name for name in trained if name.startswith("inception")}


ONCE = replace(JOINT, iterations=1, rate=1e-3, head_rate=1e-3)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("own", "kept"),
    [
        pytest.param(True, True, id="a head of the same scales goes on learning"),
        pytest.param(False, False, id="one of other scales is replaced"),
        pytest.param(None, False, id="where there is none a new one is made"),
    ],
)
def test_which_head_is_trained(
    data: Path,
    init_path: Path,
    multibox_spec: MultiBoxSpec,
    tmp_path: Path,
    own: bool | None,
    kept: bool,
) -> None:
    bare = load_checkpoint(init_path)
    start, spec = bare, None
    if own is not None:
        image = SharedMaps((32, 64)).image if own else multibox_spec.image
        spec = replace(multibox_spec, image=image)
        torch.manual_seed(3)
        metadata = replace(bare.metadata, multibox=spec, training={"multibox": {"pictures": 9}})
        start = Checkpoint(bare.network, metadata, MultiBoxHead(spec))
        before = copy.deepcopy(start.multibox.state_dict())  # type: ignore[union-attr]
    result = load_checkpoint(train(data, start, tmp_path, ONCE, validation=False))
    assert result.multibox is not None
    assert result.metadata.multibox is not None
    assert (result.metadata.multibox == spec) is kept
    assert result.metadata.multibox.image == SharedMaps((32, 64)).image
    assert "multibox" not in result.metadata.training
    if start.multibox is not None:
        for name, value in start.multibox.state_dict().items():
            assert torch.equal(value, before[name]), "the init's own stays as it was"
    if kept:
        moved = [
            (result.multibox.state_dict()[name] - value.half().float()).abs().max().item()
            for name, value in before.items()
        ]
        assert 0 < max(moved) < 0.1, "a step away from where it was"


def test_where_what_both_read_stays_nothing_is_trained_jointly(
    data: Path, init_path: Path, tmp_path: Path
) -> None:
    """Frozen through 4e, the regions' maps can be cached, and there is no head."""
    path = train(
        data, load_checkpoint(init_path), tmp_path, replace(ONCE, frozen_through="pool4"), validation=False
    )
    assert load_checkpoint(path).metadata.multibox is None
    assert "objectness" not in lines(tmp_path / "log.jsonl")[0]


def test_a_run_that_no_longer_gets_better_ends(data: Path, init_path: Path, tmp_path: Path) -> None:
    """Rates of nothing: the second measure is as high as the first one."""
    recipe = replace(
        JOINT, iterations=5, rate=0.0, head_rate=0.0, patience=1, validate_every=1, decay=Decay.CONSTANT,
        averaging=Averaging.NONE,
    )  # fmt: skip
    train(data, load_checkpoint(init_path), tmp_path, recipe)
    assert [line["iteration"] for line in lines(tmp_path / "log.jsonl")] == [0, 1]
    measured = lines(tmp_path / "held_out.jsonl")
    assert [line["iteration"] for line in measured] == [0, 1]
    assert measured[0]["loss"] == measured[1]["loss"]
    assert (tmp_path / "detector.safetensors").exists()


def test_too_few_objects_for_the_shapes_are_told(data: Path, init_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="20 shapes of priors need at least as many different boxes"):
        train(data, load_checkpoint(init_path), tmp_path, replace(JOINT, shapes=20), validation=False)
    assert not (tmp_path / "detector.safetensors").exists()
