"""No output replaces what is read, or another output."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from detector.errors import ParameterError
from detector.io.output_paths import check_apart


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("in.json", "data/labels.json", "old.json"):
        (tmp_path / name).write_text("kept")
    (tmp_path / "link.json").symlink_to("in.json")
    os.link(tmp_path / "in.json", tmp_path / "hard.json")
    return tmp_path


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        pytest.param(["new.json", "other.json"], None, id="files of their own"),
        pytest.param(["old.json"], None, id="an older output"),
        pytest.param([None, None], None, id="none"),
        pytest.param(["data/new.json"], None, id="a new file in the data set"),
        pytest.param(["/dev/null", "/dev/null"], None, id="a device twice"),
        pytest.param(["in.json"], "is also read", id="the input"),
        pytest.param(["data/../in.json"], "is also read", id="the input, spelt otherwise"),
        pytest.param(["link.json"], "is also read", id="a link to the input"),
        pytest.param(["hard.json"], "is also read", id="the input under another name"),
        pytest.param(["data/labels.json"], "is a file in the data set", id="labels of the data set"),
        pytest.param(["new.json", "data/../new.json"], "is named twice", id="one new file twice"),
        pytest.param(["data/chart.png"], "one of its pictures", id="a new picture in the data set"),
        pytest.param(["chart.png"], None, id="a picture elsewhere"),
    ],
)
def test_outputs_stay_apart(place: Path, outputs: list[str | None], says: str | None) -> None:
    paths = [None if name is None else Path(name) for name in outputs]
    with nullcontext() if says is None else pytest.raises(ParameterError, match=says):
        check_apart(paths, [Path("in.json"), None], Path("data"))
