"""What measures shows its tables and saves the same ones, or nothing."""

from pathlib import Path

import pytest

from detector.cli.run_saving import Benchmark, Saving
from detector.errors import WriteError
from detector.evaluation.measured_table import Column, Table
from detector.evaluation.run_conditions import ROOT
from detector.evaluation.run_record import RunRecord

BENCHMARK = Benchmark("some", "Some figures", "What they are of.")
TABLE = Table.of("cost", [Column("way"), Column("time", "s", ".2f")], [["ours", 0.125]])
DATA = Path("/home/ada/voc100")


def test_what_is_shown_is_what_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.json"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(
        "sys.argv",
        [str(ROOT / "benchmarks/some.py"), "--data", str(DATA), "--save", str(file), "--called", "VOC"],
    )
    saving = Saving(file, "VOC")
    with saving.recording(BENCHMARK, saving.data(DATA, 3), "2 rounds", folder=DATA) as run:
        run.show(TABLE)
    saved = RunRecord.read(file)
    assert saved.tables == (TABLE,)
    assert saved.command == "python benchmarks/some.py --data VOC"
    assert (str(saved.data), saved.setting) == ("VOC, 3 pictures", "2 rounds")
    printed = capsys.readouterr().out
    assert printed.startswith("Some figures\n")
    assert TABLE.text() in printed
    assert "VOC, 3 pictures; 2 rounds" in printed


def test_nothing_is_saved_of_a_run_that_failed(tmp_path: Path) -> None:
    def fail() -> None:
        saving = Saving(tmp_path / "run.json")
        with saving.recording(BENCHMARK, saving.data(None, 2)) as run:
            run.show(TABLE)
            raise SystemExit("the service did not start")

    with pytest.raises(SystemExit, match="did not start"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_file_is_told_before_the_work(tmp_path: Path) -> None:
    begun = False
    with pytest.raises(WriteError), Saving(tmp_path).recording(BENCHMARK, Saving().data(None, 2)):
        begun = True
    assert not begun
