"""What would end a script after hours ends it before any picture is read: weights and places to write to."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from training import (
    check_data,
    evaluate_cls,
    evaluate_det,
    evaluate_proposals,
    finetune_det,
    pretrain_cls,
    pseudo_label,
    train_location,
    train_multibox,
)

NO_DATA = Path("no data set is here")
"""Read after all else: an error that names it would say that the data were read first."""

Script = Callable[[Path], Any]

BY_WEIGHTS: list[tuple[str, Script]] = [
    ("evaluate_cls", lambda weights: evaluate_cls.main(NO_DATA, [weights])),
    (
        "evaluate_cls, an ensemble",
        lambda weights: evaluate_cls.main(NO_DATA, [Path(f"{weights}:{weights}.b")]),
    ),
    ("evaluate_det", lambda weights: evaluate_det.main(NO_DATA, [weights])),
    (
        "evaluate_det, an ensemble",
        lambda weights: evaluate_det.main(NO_DATA, [weights] * 2, ensemble=True),
    ),
    ("evaluate_proposals", lambda weights: evaluate_proposals.main(NO_DATA, weights=weights)),
    ("finetune_det", lambda weights: finetune_det.main(NO_DATA, weights)),
    ("pretrain_cls", lambda weights: pretrain_cls.main(NO_DATA, weights.parent / "run", weights)),
    ("pseudo_label", lambda weights: pseudo_label.main(NO_DATA, weights.parent / "run", weights=weights)),
    ("train_location", lambda weights: train_location.main([str(NO_DATA)], weights.parent / "run", weights)),
    ("train_multibox", lambda weights: train_multibox.main([NO_DATA], weights.parent / "run", weights)),
]

DAMAGE: list[tuple[str, Callable[[Path], Any], str]] = [
    ("empty", lambda path: path.write_bytes(b""), "no whole safetensors file"),
    ("a folder", lambda path: path.mkdir(), "is a folder"),
    ("a pipe", os.mkfifo, "is a pipe"),
    ("a loop of links", lambda path: path.symlink_to(path), "lead in a circle"),
]


@pytest.mark.parametrize(("damage", "says"), [one[1:] for one in DAMAGE], ids=[one[0] for one in DAMAGE])
@pytest.mark.parametrize("script", [one[1] for one in BY_WEIGHTS], ids=[one[0] for one in BY_WEIGHTS])
def test_damaged_weights_are_told_before_the_data(
    tmp_path: Path, script: Script, damage: Callable[[Path], Any], says: str
) -> None:
    damage(weights := tmp_path / "weights.safetensors")
    with pytest.raises(SystemExit, match=f"error: .*weights.safetensors .*{says}") as caught:
        script(weights)
    assert "\n" not in str(caught.value.code)


BY_PLACE: list[tuple[str, Script]] = [
    ("evaluate_cls --json", lambda place: evaluate_cls.main(NO_DATA, json_file=place / "a.json")),
    ("evaluate_det --json", lambda place: evaluate_det.main(NO_DATA, json_file=place / "a.json")),
    ("evaluate_det --save-results", lambda place: evaluate_det.main(NO_DATA, save_results=place / "a.json")),
    ("evaluate_det --cache", lambda place: evaluate_det.main(NO_DATA, cache=place / "cache")),
    ("evaluate_proposals --out", lambda place: evaluate_proposals.main(NO_DATA, out=place / "out")),
    ("finetune_det --output", lambda place: finetune_det.main(NO_DATA, output=place / "run")),
    ("finetune_det --cache", lambda place: finetune_det.main(NO_DATA, output=None, cache=place / "cache")),
    ("pretrain_cls --output", lambda place: pretrain_cls.main(NO_DATA, place / "run")),
    ("pseudo_label --output", lambda place: pseudo_label.main(NO_DATA, place / "run")),
    ("train_location --output", lambda place: train_location.main([str(NO_DATA)], place / "run")),
    (
        "train_location --cache",
        lambda place: train_location.main([str(NO_DATA)], place.parent / "open", cache=place / "cache"),
    ),
    ("train_multibox --output", lambda place: train_multibox.main([NO_DATA], place / "run")),
    ("check_data --report", lambda place: check_data.main(NO_DATA, report=place / "a.json")),
    ("check_data --chart", lambda place: check_data.main(NO_DATA, chart=place / "a.png")),
]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may read and not write to; "open" beside it takes all."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    beside = tmp_path / "open"
    beside.mkdir()
    beside.chmod(0o777)
    if os.geteuid() != 0:
        yield folder
        return
    for above in (tmp_path, *tmp_path.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("script", [one[1] for one in BY_PLACE], ids=[one[0] for one in BY_PLACE])
def test_a_folder_that_may_not_be_written_is_told_before_the_data(closed: Path, script: Script) -> None:
    with pytest.raises(SystemExit, match=r"error: cannot write .*closed.*no permission") as caught:
        script(closed)
    assert "\n" not in str(caught.value.code)
