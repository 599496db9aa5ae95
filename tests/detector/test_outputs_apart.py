"""No output replaces what is read, or another output."""

import os
from pathlib import Path

import pytest

from detector.errors import ParameterError
from detector.files import check_apart


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
    ("outputs", "fine"),
    [
        pytest.param(["new.json", "other.json"], True, id="files of their own"),
        pytest.param(["old.json"], True, id="an older output"),
        pytest.param([None, None], True, id="none"),
        pytest.param(["data/new.json"], True, id="a new file in the data set"),
        pytest.param(["/dev/null", "/dev/null"], True, id="a device twice"),
        pytest.param(["in.json"], False, id="the input"),
        pytest.param(["data/../in.json"], False, id="the input, spelt otherwise"),
        pytest.param(["link.json"], False, id="a link to the input"),
        pytest.param(["hard.json"], False, id="the input under another name"),
        pytest.param(["data/labels.json"], False, id="labels of the data set"),
        pytest.param(["new.json", "data/../new.json"], False, id="one new file twice"),
    ],
)
def test_outputs_stay_apart(place: Path, outputs: list[str | None], *, fine: bool) -> None:
    paths = [None if name is None else Path(name) for name in outputs]
    if fine:
        check_apart(paths, [Path("in.json")], Path("data"))
        return
    with pytest.raises(ParameterError, match=r"is named twice, or is also read|in the data set"):
        check_apart(paths, [Path("in.json")], Path("data"))
