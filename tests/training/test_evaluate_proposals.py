"""The script, on a few pictures that the test makes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.io.decoding import load
from detector.proposals.selective_search.search import selective_search
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source
from training import evaluate_proposals
from training.evaluate_proposals import main

ANNOTATION = (
    "<annotation><size><width>96</width><height>80</height></size><object><name>{name}</name><bndbox>"
    "<xmin>21</xmin><ymin>11</ymin><xmax>60</xmax><ymax>50</ymax></bndbox></object></annotation>"
)


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of a bright square on noise."""
    home = tmp_path_factory.mktemp("voc") / "VOC2007"
    random = np.random.default_rng(0)
    for folder in ("JPEGImages", "Annotations"):
        (home / folder).mkdir(parents=True)
    for name in "abc":
        image = random.integers(60, 110, (80, 96, 3), dtype=np.uint8)
        image[10:50, 20:60] = 240
        Image.fromarray(image).save(home / f"JPEGImages/{name}.jpg", quality=95)
        (home / f"Annotations/{name}.xml").write_text(ANNOTATION.format(name="cat"))
    return home


class FakeDetector:
    """A detector whose MultiBox head always says the middle of the picture."""

    has_multibox = True

    def multibox(self, image: np.ndarray, max_boxes: int = 200) -> Proposals:
        found = Proposals.of(as_boxes([(20, 10, 60, 50)]), Source.MULTIBOX)
        return Proposals(found.boxes, found.source, np.ones(1, np.float32))

    def propose(self, image: np.ndarray, profile: str = "balanced") -> Proposals:
        mine = self.multibox(image)
        if profile == "fast":
            return mine
        theirs = selective_search(image, superpixel_scale=2)
        return Proposals(
            np.concatenate([mine.boxes, theirs.boxes]),
            np.concatenate([mine.source, theirs.source]),
            np.concatenate([mine.objectness, theirs.objectness]),
        )


def test_searches_alone(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(voc, method=["search-fast", "search-single"], every=2, out=tmp_path)
    content = json.loads((tmp_path / "proposals.json").read_text())
    assert (content["pictures"], content["objects"]) == (2, 2)
    assert [one["name"] for one in content["methods"]] == ["search-fast", "search-single"]
    assert content["methods"][0]["recall@0.5"][-1] == 1
    assert content["methods"][0]["budgets"][-1] is None
    assert content["compared"] == []
    assert load(tmp_path / "proposals.png").ndim == 3
    printed = capsys.readouterr().out
    assert "2 pictures, 2 objects" in printed
    assert "search-single" in printed


def test_with_multibox(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate_proposals, "load_detector", lambda *_, **__: FakeDetector())
    main(voc, out=tmp_path)
    content = json.loads((tmp_path / "proposals.json").read_text())
    assert [one["name"] for one in content["methods"]] == [
        *("search-fast", "search-fast-2x", "multibox", "profile-fast", "profile-balanced", "profile-paper")
    ]
    assert [one["name"] for one in content["compared"]] == [
        "search-fast",
        "profile-balanced",
        "search-fast, as many as profile-balanced",
        "profile-paper",
        "search-fast, as many as profile-paper",
    ]
    by = content["found_by"]["profile-paper"]
    assert by["both"] + by["multibox_only"] == 3
    assert "found by, %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"method": ["search-slow"]}, "unknown method 'search-slow'", id="no such method"),
        pytest.param({"split": "nowhere"}, "has no split .nowhere.", id="no such split or list"),
    ],
)
def test_what_is_wrong_is_said(
    voc: Path,
    tmp_path: Path,
    options: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluate_proposals, "load_detector", lambda *_, **__: FakeDetector())
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(voc, out=tmp_path, **options)


def test_a_folder_of_no_layout(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no data set of a known layout"):
        main(tmp_path, out=tmp_path)
