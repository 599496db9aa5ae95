"""Measuring detectors by profile: with a detector that is made up, and the script with a real one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.boxes import as_boxes
from detector.checkpoints import read_metadata
from detector.classes import ClassList, ilsvrc_det
from detector.datasets.record import Record
from detector.detection import RegionScores, select
from detector.proposals import Profile, Proposals, Source
from detector.results import Detections
from training.det_run import distinct, profile_table, run_profiles
from training.evaluate_det import main

A, B, C = (0, 0, 40, 40), (50, 0, 90, 40), (5, 5, 45, 45)


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        pytest.param([[A, B], [B, C, A]], 3, id="shared boxes stand once"),
        pytest.param([[A], []], 1, id="a part without boxes"),
        pytest.param([[], []], 0, id="none at all"),
    ],
)
def test_distinct_boxes_give_every_part_back(parts: list, count: int) -> None:
    boxes, rows = distinct([as_boxes(part) for part in parts])
    assert len(boxes) == count
    assert [[tuple(boxes[row]) for row in mine] for mine in rows] == parts


class FakeDetector:
    """Proposes one box fast and two balanced; is sure of A."""

    name = "fake"
    classes = ClassList.of(["a", "b"])

    def __init__(self) -> None:
        self.scored: list[int] = []

    def propose(self, image: np.ndarray, profile: Profile, max_proposals: int | None) -> Proposals:
        boxes = {Profile.FAST: [B], Profile.BALANCED: [A, B]}[profile]
        return Proposals.of(as_boxes(boxes)[:max_proposals], Source.MULTIBOX)

    def score(self, image: np.ndarray, proposals: Proposals) -> RegionScores:
        self.scored.append(len(proposals))
        sure = (proposals.boxes == A).all(axis=1)
        return RegionScores(proposals.boxes, np.stack([sure, ~sure], axis=1).astype(np.float32))

    def refine(self, image: np.ndarray, regions: RegionScores) -> RegionScores:
        return regions

    def select(self, regions: RegionScores, *, score_threshold: float, max_detections: int) -> Detections:
        return select(regions, score_threshold=score_threshold, max_detections=max_detections)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A picture with an object of class 0 at A."""
    path = tmp_path / "p.png"
    Image.new("RGB", (100, 50)).save(path)
    return Record("p", path, 100, 50, as_boxes([A]), np.zeros(1, np.int64))


def test_each_profile_gets_its_own_regions_and_shared_ones_are_scored_once(record: Record) -> None:
    detector = FakeDetector()
    runs = run_profiles(detector, [Profile.FAST, Profile.BALANCED], [record])  # type: ignore[arg-type]
    assert detector.scored == [2]
    fast, balanced = (run.detections["p"] for run in runs)
    assert fast.labels.tolist() == [1]
    assert sorted(balanced.labels.tolist()) == [0, 1]
    assert all(run.seconds[0] > run.proposal_seconds[0] for run in runs)

    measured = [(run, run.evaluate([record])) for run in runs]
    rows = [line.split()[:6] for line in profile_table(measured, [record.boxes]).splitlines()[1:]]
    assert rows == [
        ["fake,", "fast", "0.00", "1", "0.0", "0.0"],
        ["fake,", "balanced", "100.00", "2", "100.0", "100.0"],
    ]


def test_a_budget_of_regions(record: Record) -> None:
    (run,) = run_profiles(FakeDetector(), [Profile.BALANCED], [record], max_proposals=1)  # type: ignore[arg-type]
    assert run.boxes == 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pictures in the official layout, a bright accordion on noise in each."""
    home = tmp_path / "ILSVRC"
    lists = home / "ImageSets/DET"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("p0 1\np1 2\n")
    random = np.random.default_rng(0)
    for kind in ("Data", "Annotations"):
        (home / kind / "DET/val").mkdir(parents=True)
    for name in ("p0", "p1"):
        image = random.integers(60, 110, (60, 80, 3), dtype=np.uint8)
        image[10:50, 20:60] = 240
        Image.fromarray(image).save(home / f"Data/DET/val/{name}.JPEG")
        (home / f"Annotations/DET/val/{name}.xml").write_text(
            f"<annotation><object><name>{ilsvrc_det().ids[0]}</name><bndbox><xmin>20</xmin><ymin>10</ymin>"
            "<xmax>59</xmax><ymax>49</ymax></bndbox></object></annotation>"
        )
    return tmp_path


def test_the_script_measures_and_records(
    data: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(checkpoint_path.read_bytes())
    main(data, [mine], max_proposals=5, device="cpu", record=True)
    printed = capsys.readouterr().out
    assert "2 pictures" in printed
    assert "search" in printed.splitlines()[-1]
    (measure,) = read_metadata(mine).metrics
    assert measure == "DET/val mAP, search, 5 proposals, 2 pictures"


def test_weights_that_cannot_serve_a_profile_say_so_at_once(data: Path, checkpoint_path: Path) -> None:
    with pytest.raises(SystemExit, match="paper needs a MultiBox head"):
        main(data, [checkpoint_path], [Profile.SEARCH, Profile.PAPER], device="cpu")
