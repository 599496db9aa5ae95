"""The file of a run: written as Git likes it, read as it was, refused where it is something else."""

import json
from pathlib import Path

import pytest

from detector.errors import ParameterError
from detector.evaluation.measured_table import Column, Table
from detector.evaluation.run_record import Code, Data, Hardware, RunRecord

RECORD = RunRecord(
    benchmark="detection",
    title="Seconds a picture",
    shows="How long a picture takes, “ours” beside theirs.",
    command="python benchmarks/detection.py --data VOC",
    setting="3 rounds",
    date="2026-11-27",
    code=Code("0123abcdef", clean=True),
    hardware=Hardware("AMD EPYC", 2, ("AVX2", "AVX-512"), gpu=None),
    data=Data("VOC", 10),
    versions={"python": "3.12.1", "torch": "2.6.0"},
    tables=(
        Table.of(
            "", [Column("way"), Column("time", "s", ".3f")], [["ours", 1.0], ["theirs", None]], ["One."]
        ),
        Table.of("none", [Column("way")], []),
    ),
)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORD.write(tmp_path / "runs/detection.json")
    assert RunRecord.read(tmp_path / "runs/detection.json") == RECORD


def test_a_row_of_a_table_is_a_line_of_the_file() -> None:
    text = RECORD.as_json()
    assert '\n    ["ours", 1.0],\n    ["theirs", null]\n' in text
    assert "“ours”" in text
    assert json.loads(text)["data"] == {"name": "VOC", "pictures": 10}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("no JSON", "Expecting value", id="another kind of file"),
        pytest.param("[]", "holds no object", id="a list"),
        pytest.param("{}", "'format'", id="an object without a format"),
        pytest.param(
            RECORD.as_json().replace('"format": 1', '"format": 2'), "format is not 1", id="of a later version"
        ),
        pytest.param(RECORD.as_json().replace('"title"', '"titel"', 1), "titel", id="an unknown key"),
        pytest.param(
            RECORD.as_json().replace('["ours", 1.0]', '["ours"]'), "1 cells for 2 columns", id="a short row"
        ),
    ],
)
def test_what_is_no_run_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=f"is not the file of a run: .*{told}.*save the run again"):
        RunRecord.read(path)


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        pytest.param(Hardware("Xeon", 1), "1 core of Xeon", id="nothing notable"),
        pytest.param(
            Hardware("EPYC", 16, ("AVX2", "AMX"), "H100"),
            "H100, 16 cores of EPYC with AVX2, AMX",
            id="a GPU and instruction sets",
        ),
    ],
)
def test_hardware_in_words(hardware: Hardware, said: str) -> None:
    assert str(hardware) == said
