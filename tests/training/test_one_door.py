"""Every script reads every layout: the same images, boxes and splits, the same words for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import Format, open_dataset
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.structures.classes import ilsvrc_cls, ilsvrc_det
from tests.training.small_sets import (
    Images,
    write_agnostic,
    write_coco,
    write_ilsvrc,
    write_voc,
    write_yolo,
)
from training import evaluate_proposals, train_multibox
from training.checking.check import check_data
from training.evaluating.data import open_measured
from training.finetune.training_data import choose_data, further_data
from training.multibox.dataset import read_object_images
from training.rcnn.sampling import SamplingSettings

A, B, C = (10, 10, 60, 60), (50, 20, 95, 70), (5, 50, 40, 78)
TRAIN: Images = {"t1": [A, B], "t2": [C], "t3": [A, C]}
VAL: Images = {"v1": [B], "v2": [A, C]}
BOXES = {"train": TRAIN, "val": VAL}


def voc(root: Path) -> None:
    write_voc(root, {**TRAIN, **VAL})
    for split, images in BOXES.items():
        path = root / f"ImageSets/Main/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in images))


def coco(root: Path) -> None:
    for split, images in BOXES.items():
        write_coco(root, split, images)


def yolo(root: Path) -> None:
    for split, images in BOXES.items():
        write_yolo(root, split, images)


def ilsvrc(root: Path) -> None:
    for split, images in BOXES.items():
        write_ilsvrc(root, "DET", split, images, wnid=ilsvrc_det().ids[3])


def ilsvrc_loc(root: Path) -> None:
    for split, images in BOXES.items():
        name = "train_loc" if split == "train" else split
        write_ilsvrc(root, "CLS-LOC", split, images, list_name=name, wnid=ilsvrc_cls().ids[3])


def agnostic(root: Path) -> None:
    """Boxes without classes of images of DET, whose own annotations have none of them."""
    for split, images in BOXES.items():
        write_ilsvrc(root, "DET", split, {name: [] for name in images}, wnid=ilsvrc_det().ids[3])
    write_agnostic(root, {**TRAIN, **VAL})


LAYOUTS: dict[Format, Callable[[Path], None]] = {
    Format.VOC: voc,
    Format.COCO: coco,
    Format.YOLO: yolo,
    Format.ILSVRC: ilsvrc,
    Format.ILSVRC_LOC: ilsvrc_loc,
    Format.AGNOSTIC: agnostic,
}
WITH_SPLITS = [layout for layout in LAYOUTS if layout is not Format.AGNOSTIC]
FOUND = [Format.VOC, Format.COCO, Format.YOLO, Format.ILSVRC]  # by looking


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    LAYOUTS[request.param](tmp_path / "data")
    return tmp_path / "data"


def each(layouts: list[Format]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("root", "layout"), [(one, one) for one in layouts], indirect=["root"])


def boxes_of(records: list[AnnotatedImage]) -> Images:
    return {
        record.path.stem: [tuple(box) for box in np.rint(record.boxes).astype(int).tolist()]
        for record in records
    }


def test_every_layout_is_tried() -> None:
    assert set(LAYOUTS) == set(Format)


@each(list(LAYOUTS))
def test_every_layout_gives_the_same_boxes(root: Path, layout: Format) -> None:
    folder = open_dataset(root, layout)
    assert folder.format is layout
    dataset = folder.read(on_problem=OnProblem.STOP)
    assert boxes_of(dataset.records) == {**TRAIN, **VAL}
    assert len(folder.classes) == len(dataset.class_ids)
    assert folder.splits == (() if layout is Format.AGNOSTIC else ("train", "val"))
    for split in folder.splits:
        assert boxes_of(folder.read(split).records) == BOXES[split]


@each(FOUND)
def test_looking_finds_the_layout(root: Path, layout: Format) -> None:
    assert open_dataset(root).format is layout


@each(list(LAYOUTS))
def test_fine_tuning_reads_every_layout(root: Path, layout: Format) -> None:
    chosen = choose_data(root, format=layout)
    both = {**boxes_of(chosen.train.records), **boxes_of(chosen.validation.records)}
    assert both == {**TRAIN, **VAL}
    if layout is not Format.AGNOSTIC:
        assert boxes_of(chosen.train.records) == TRAIN
    else:
        assert len(chosen.validation.records) == 1, "a fifth is held out where there are no splits"


@each(WITH_SPLITS)
def test_data_that_joins_fine_tuning(root: Path, layout: Format) -> None:
    settings = SamplingSettings()
    joined = further_data(f"{root}:format={layout}", settings, OnProblem.STOP)
    assert boxes_of(joined.spec.dataset.records) == TRAIN
    joined = further_data(f"{root}:format={layout},split=val", settings, OnProblem.STOP)
    assert boxes_of(joined.spec.dataset.records) == VAL


@each(list(LAYOUTS))
def test_measuring_reads_every_layout(root: Path, layout: Format) -> None:
    """The validation split by default, or all where there is none."""
    measured = open_measured(root, format=layout, split=None, on_problem=OnProblem.STOP, every=1)
    assert boxes_of(list(measured.records)) == ({**TRAIN, **VAL} if layout is Format.AGNOSTIC else VAL)


@each(list(LAYOUTS))
def test_checking_reads_every_layout(root: Path, layout: Format) -> None:
    checked = check_data(open_dataset(root, layout))
    objects = {split: int(counts.objects.sum()) for split, counts in checked.counts.items()}
    assert objects == ({"": 8} if layout is Format.AGNOSTIC else {"train": 5, "val": 3})
    assert not checked.leaves_out


@each(list(LAYOUTS))
def test_training_multibox_reads_every_layout(root: Path, layout: Format) -> None:
    every = read_object_images([root], frozenset(), format=layout, on_problem=OnProblem.STOP)
    is_split = layout in (Format.ILSVRC, Format.ILSVRC_LOC)
    assert boxes_of(every.records) == (TRAIN if is_split else {**TRAIN, **VAL})
    assert every.class_ids == ["object"]


@each(WITH_SPLITS)
def test_training_multibox_on_a_split(root: Path, layout: Format) -> None:
    chosen = read_object_images([root], frozenset(), format=layout, split="val", on_problem=OnProblem.STOP)
    assert boxes_of(chosen.records) == VAL


@each(FOUND)
def test_training_multibox_leaves_out_what_is_measured(root: Path, layout: Format) -> None:
    measured = open_dataset(root).read("val").records
    chosen = read_object_images([root], frozenset(), validation=measured, validation_format=layout)
    assert boxes_of(chosen.records) == TRAIN


@each(list(LAYOUTS))
def test_evaluating_proposals(root: Path, layout: Format, tmp_path: Path) -> None:
    evaluate_proposals.main(root, format=layout, method=["search-single"], out=tmp_path / "out")
    content = json.loads((tmp_path / "out/proposals.json").read_text())
    assert (content["pictures"], content["objects"]) == ((5, 8) if layout is Format.AGNOSTIC else (2, 3))


@each(WITH_SPLITS)
def test_a_list_file_stands_for_a_split(root: Path, layout: Format, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("t2\nv2\n")
    expected = {"t2": [C], "v2": [A, C]}
    measured = open_measured(root, format=layout, split=str(listed), on_problem=OnProblem.STOP, every=1)
    assert boxes_of(list(measured.records)) == expected
    objects = read_object_images([root], frozenset(), format=layout, split=str(listed))
    assert boxes_of(objects.records) == expected


@each(list(LAYOUTS))
def test_an_image_that_is_gone_is_named_alike(root: Path, layout: Format) -> None:
    [gone] = [path for path in root.rglob("*") if path.name in ("v1.jpg", "v1.JPEG")]
    gone.unlink()
    split = None if layout is Format.AGNOSTIC else "val"
    read: list[Callable[[OnProblem], list[tuple[str, str]]]] = [
        lambda stop: [
            (Path(problem.image_id).name, problem.kind)
            for problem in open_measured(root, format=layout, split=split, on_problem=stop, every=1).problems
        ],
        lambda stop: [
            (Path(problem.image_id).name, problem.kind)
            for problem in read_object_images(
                [root], frozenset(), format=layout, split=split, on_problem=stop
            ).problems
        ],
    ]
    for problems in read:
        if layout is Format.YOLO:  # the folder is what lists its images
            assert problems(OnProblem.REPORT) == [("v1", "missing_image")]
        else:
            [(_, kind)] = problems(OnProblem.REPORT)
            assert kind == "missing_image"
        with pytest.raises(DatasetError, match=r"reading with OnProblem\.REPORT"):
            problems(OnProblem.STOP)


@each(WITH_SPLITS)
def test_what_multibox_is_measured_on(root: Path, layout: Format) -> None:
    folder = open_dataset(root, layout)
    assert boxes_of(train_multibox._measured(folder, None, OnProblem.STOP).records) == VAL
    assert boxes_of(train_multibox._measured(folder, "train", OnProblem.STOP).records) == TRAIN
