"""What a checkpoint says of itself: every field with odd values, each refused by its name."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from detector.checkpoint_file import EARLIER, Cover, digest, read_file
from detector.checkpoints import covered, load_checkpoint, read_metadata
from detector.errors import CheckpointError, ParameterError
from detector.metadata import Metadata
from detector.pretrained import SHIPPED

GOOD: dict[str, Any] = {
    "name": "mine",
    "architecture": "googlenet",
    "preprocessing": {
        "mean": [123.0, 117.0, 104.0],
        "std": [1.0, 1.0, 1.0],
        "size": 224,
        "context": 16,
        "short_side": 375,
    },
    "classification": {"ids": ["n1", "n2"], "names": ["crane", "crane"]},
    "detection": {"ids": ["a", "b"], "names": ["an A", "a B"]},
    "multibox": {
        "stages": ["inception_3b", "inception_4e"],
        "channels": [480, 832],
        "size": 224,
        "grids": [
            {"cells": 28, "sides": [[8.5, 10.0]]},
            {"cells": 14, "sides": [[40.0, 40.0], [20.0, 90.0]]},
        ],
    },
    "scoring": {"fit_power": 0.5, "nms_iou": 0.3, "vote_iou": None, "refine": 0},
    "training": {"iterations": 3, "init": None},
    "metrics": {"mAP": 0.5},
    "licence": "any",
    "source": "here",
}

MISSING = object()
NAN, ENDLESS, HUGE = float("nan"), float("inf"), 10**400

CHANNEL = (None, True, "1", "", NAN, ENDLESS, HUGE, -1, [], {})
WHOLE = (True, "1", "", NAN, ENDLESS, HUGE, 1e308, -1, 224.5, [], {})
SHARE = (True, "1", "", NAN, ENDLESS, HUGE, 1e308, -0.1, 1.1, [], {})
POWER = (None, True, "1", NAN, ENDLESS, HUGE, 11, -0.1, [])
TEXT = (None, True, 5, NAN, "", " \n", "x" * 10_001, [], {})
OBJECT = (None, True, 5, "", "x", NAN, [], [1])

ODD: list[tuple[str, tuple[Any, ...], str]] = [
    # where, what, how the error begins
    *((name, (*TEXT, MISSING), name) for name in ("name", "architecture", "licence", "source")),
    *((name, (*OBJECT, MISSING), name) for name in ("training", "metrics")),
    ("preprocessing", (*OBJECT, {}, MISSING), "preprocessing"),
    *(
        (f"preprocessing.{name}", (None, 5, "abc", [], [1, 1], {}, MISSING), f"preprocessing: .*{name}")
        for name in ("mean", "std")
    ),
    ("preprocessing.mean.0", (*CHANNEL, 256, 1e308), r"preprocessing: mean of R must lie in 0\.\.255"),
    ("preprocessing.std.2", (*CHANNEL, 0, 1e-9, 1e9), r"preprocessing: std of B must lie in 0\.001"),
    ("preprocessing.size", (None, *WHOLE, 0, 1025, MISSING), "preprocessing: .*size"),
    ("preprocessing.context", (None, *WHOLE, 112, MISSING), "preprocessing: .*context"),
    ("preprocessing.short_side", (*WHOLE, 0, 65_536, MISSING), "preprocessing: .*short_side"),
    ("preprocessing.new", (1, None), "preprocessing: it has 'new', perhaps of a later version"),
    *((task, (True, 5, "x", [], ["a"], {}, MISSING), task) for task in ("classification", "detection")),
    ("detection.ids", (None, 5, "ab", {}, [], ["a"], ["a", "a"], ["a", "b", "c"], MISSING), "detection: "),
    ("detection.ids.0", (*TEXT, "x" * 1001, "a\x1b", "a\u202e", "\ud800"), "detection: a class id"),
    ("detection.names", (None, 5, "ab", {}, [], ["a"], MISSING), "detection: "),
    ("detection.names.1", (*TEXT, "x" * 1001, "a\tb", "\u2028"), "detection: a class name"),
    ("detection.names.0", ("a B",), 'two detection classes have the name "a B"'),
    ("classification.names.0", (*TEXT, "a\n"), "classification: a class name"),
    ("detection.new", (1,), "detection: it has 'new'"),
    ("multibox", (True, 5, "x", [], {}), "multibox: it"),
    ("multibox.stages", (None, 5, "ab", [], ["a"], ["a"] * 3, [1, 2], MISSING), "multibox: .*stage"),
    ("multibox.channels", (None, 5, [], [480], ["480", "832"], MISSING), "multibox: .*channels"),
    ("multibox.channels.1", (None, *WHOLE, 0, 1025), "multibox: channels"),
    ("multibox.size", (None, *WHOLE, 0, 1025, MISSING), "multibox: .*size"),
    ("multibox.grids", (None, 5, "x", [], {}, MISSING), "multibox: .*grids"),
    ("multibox.grids.0", (None, 5, "x", [], {}), "multibox: a grid"),
    ("multibox.grids.1", (MISSING,), r"multibox: grids must be 2 to 8, got 1"),
    ("multibox.grids.0.cells", (None, *WHOLE, 0, 1025, MISSING), "multibox: .*cells"),
    ("multibox.grids.0.sides", (None, 5, "x", [], [5, 5], {}, [[1, 1]] * 1025, MISSING), "multibox: .*sides"),
    ("multibox.grids.0.sides.0", (None, [], [1], [1, 1, 1], "ab"), "multibox: sides of a shape"),
    ("multibox.grids.0.sides.0.1", (*CHANNEL, 0, 1e-9, 1025, 1e308), r"multibox: sides must lie in 0\.001"),
    ("multibox.grids.0.new", (1,), "multibox: a grid has 'new'"),
    ("multibox.new", (1,), "multibox: it has 'new'"),
    ("scoring", (None, True, 5, "x", []), "scoring: it must be an object"),
    *((f"scoring.{one}", POWER, f"scoring: {one}") for one in ("fit_power", "context_power")),
    ("scoring.score_power", (*POWER, 0), "scoring: score_power"),
    *((f"scoring.{name}", (None, *SHARE), f"scoring: {name}") for name in ("nms_iou", "context_floor")),
    ("scoring.vote_iou", SHARE, "scoring: vote_iou"),
    ("scoring.refine", (None, True, 1.0, 2, -1, "0", NAN, HUGE, []), "scoring: refine"),
    ("scoring.refine_regions", (None, *WHOLE, 0, 65_536), "scoring: refine_regions"),
    ("scoring.context", (None, True, 5, "", "dream", [], {}, NAN), "scoring: context must be one of"),
    *((f"scoring.{one}", (None, 0, 1, "true", NAN), f"scoring: {one}") for one in ("flip", "box_regression")),
    ("scoring.new", (1,), "scoring: it has 'new'"),
    ("new", (1, None), "it has 'new', perhaps of a later version; this version knows"),
]  # fmt: skip

CASES = [
    pytest.param(where, value, says, id=f"{where} {'missing' if value is MISSING else repr(value)[:30]}")
    for where, values, says in ODD
    for value in values
]


def _put(entry: Any, where: str, value: Any) -> None:
    """Changes what stands at ``a.b.0`` of JSON."""
    *path, last = (int(part) if part.isdigit() else part for part in where.split("."))
    for part in path:
        entry = entry[part]
    if value is MISSING:
        del entry[last]
    else:
        entry[last] = value


def test_the_good_one_is_good() -> None:
    metadata = Metadata.from_json(GOOD)
    assert metadata.preprocessing.mean == (123.0, 117.0, 104.0)
    assert metadata.classification is not None  # two synsets of one name
    assert metadata.classification.names == ("crane", "crane")
    assert Metadata.from_json(json.loads(json.dumps(metadata.as_json()))) == metadata


@pytest.mark.parametrize(("where", "value", "says"), CASES)
def test_odd_values_are_refused_by_their_names(where: str, value: Any, says: str) -> None:
    """In one line that names the field and, as JSON has it, the value; nothing of Python's own words."""
    entry = copy.deepcopy(GOOD)
    _put(entry, where, value)
    with pytest.raises(ParameterError, match=f"^({says}|it lacks '{where}')") as caught:
        Metadata.from_json(entry)
    said = str(caught.value)
    assert said.isprintable()
    assert len(said) < 400
    for inside in ("None", "argument", "object is not", "unhashable", "int too large"):
        assert inside not in said


@pytest.mark.parametrize("later", ["multibox", "scoring"])
def test_what_earlier_versions_did_not_know_may_lack(later: str) -> None:
    entry = copy.deepcopy(GOOD)
    del entry[later]
    assert Metadata.from_json(entry).name == "mine"


def test_a_measure_without_a_number_is_null() -> None:
    """JSON has no NaN; earlier versions wrote it all the same."""
    metadata = Metadata.from_json({**GOOD, "metrics": {"mAP": NAN, "of": [ENDLESS, 1]}})
    assert metadata.metrics == {"mAP": None, "of": [None, 1]}
    assert metadata.as_json()["metrics"] == {"mAP": None, "of": [None, 1]}


def test_the_shipped_weights_state_a_digest_of_all() -> None:
    """Their tensors are still those of the file of the format before, whose digest this is."""
    assert covered(SHIPPED) is Cover.ALL
    tensors = read_file(SHIPPED).tensors
    assert digest(tensors) == "988a78e98f1d3058959855f35588d9abe12d380c4cce759339097040641f5870"


def test_the_metadata_alone_are_checked_against_the_digest(multibox_path: Path, tmp_path: Path) -> None:
    """A class name changed in the header of a file is not shown, nor served."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(multibox_path.read_bytes().replace(b"accordion", b"accordioN", 1))
    assert path.read_bytes() != multibox_path.read_bytes()
    for read in (read_metadata, load_checkpoint):
        with pytest.raises(CheckpointError, match="is damaged: its metadata and tensors"):
            read(path)


def test_the_format_before_is_told(tmp_path: Path, multibox_path: Path) -> None:
    from safetensors.torch import save_file

    found = read_file(multibox_path)
    header = {"format": EARLIER, "sha256": digest(found.tensors), **found.metadata}
    path = tmp_path / "old.safetensors"
    save_file(found.tensors, path, metadata={"googlenet-detector": json.dumps(header)})
    assert covered(path) is Cover.TENSORS
    assert read_metadata(path) == read_metadata(multibox_path)
