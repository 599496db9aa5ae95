"""docs/benchmarks.md is what its generator makes of the runs' files, and those tell nothing of whose machine
it was. That its commands can be typed is held by tests/test_documentation.py, as on all pages."""

import re
from pathlib import Path

import page
import pytest
import run_all

from detector.evaluation.measured_table import Column, Table
from detector.evaluation.run_record import Code, Data, Hardware, RunRecord
from tests.documentation import command_lines

FILES = sorted(run_all.RUNS.glob("*.json"))
SHARED = Path(run_all.ROOT.anchor, "data")

PRIVATE = re.compile(r"(?<![\w.)\]}>-])(?:~\w*|/[\w.-]+)/[\w.-]+")
"""A path from the root of a machine or from somebody's home: two names at least, as ``/home/ada``."""


def record(**changes: object) -> RunRecord:
    """A run with one table."""
    fields: dict[str, object] = {
        "benchmark": "some",
        "title": "Some figures",
        "shows": "What they are of.",
        "command": "python benchmarks/some.py --data VOC",
        "setting": "2 rounds",
        "date": "2026-11-27",
        "code": Code("0123abcdef", clean=True),
        "hardware": Hardware("EPYC", 2, ("AVX2",)),
        "data": Data("VOC", 3),
        "versions": {"python": "3.12.1"},
        "tables": (
            Table.of("1 thread", [Column("way"), Column("time", "s", ".2f")], [["a|b", 0.5]], ["Medians."]),
        ),
    }
    return RunRecord(**(fields | changes))  # type: ignore[arg-type]


def test_a_section_has_all_that_a_figure_depends_on() -> None:
    assert page.page([record()]).removeprefix(page.INTRODUCTION) == (
        "\n## Some figures\n\nWhat they are of.\n\n**1 thread**\n\n"
        "| way | time s |\n| --- | ---: |\n| a\\|b | 0.50 |\n\nMedians.\n\n"
        "    python benchmarks/some.py --data VOC\n\n"
        "Data: VOC, 3 pictures. Setting: 2 rounds. Machine: 2 cores of EPYC with AVX2. "
        "Measured 2026-11-27, commit 0123abcdef; python 3.12.1.\n"
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(Code("0123abcdef", clean=False), "commit 0123abcdef with changes;", id="changed files"),
        pytest.param(Code(), "no commit known;", id="an installed package"),
    ],
)
def test_code_that_nobody_else_has_is_told(code: Code, said: str) -> None:
    assert said in page.page([record(code=code)])


def test_runs_stand_in_the_order_of_the_plan_and_others_behind(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "serving", "detection"):
        record(title=name).write(tmp_path / f"{name}.json")
    assert [run.title for run in page.read_runs(tmp_path)] == ["detection", "serving", "ant", "zebra"]


def test_the_page_is_what_the_files_make(tmp_path: Path) -> None:
    page.main(output=tmp_path / "page.md")
    assert page.PAGE.read_text() == (tmp_path / "page.md").read_text(), "run `make benchmarks-page`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_a_run_of_the_plan(path: Path) -> None:
    run = RunRecord.read(path)
    assert run.benchmark == path.stem
    assert run.benchmark in run_all.PLAN
    assert run.as_json() == path.read_text(), "it was changed by hand"
    assert run.tables


@pytest.mark.parametrize("path", [*FILES, page.PAGE], ids=lambda path: path.name)
def test_nothing_tells_whose_machine_it_was(path: Path) -> None:
    assert not PRIVATE.findall(path.read_text())


@pytest.mark.parametrize(
    ("text", "private"),
    [
        pytest.param("--data /home/ada/voc", True, id="a home"),
        pytest.param('"--cache=/tmp/x"', True, id="behind an option"),
        pytest.param("~/voc/2007", True, id="a home, by its sign"),
        pytest.param("a.safetensors:/srv/b", True, id="the second of several"),
        pytest.param("`POST /detect` takes 3 pictures/s", False, id="a route, a unit"),
        pytest.param("api/frontend/app.py", False, id="a file of the project"),
        pytest.param("[docs](../CONTRIBUTING.md#figures)", False, id="a link"),
    ],
)
def test_what_is_taken_for_a_path_of_a_machine(text: str, private: bool) -> None:
    assert bool(PRIVATE.search(text)) == private


def test_every_command_of_the_page_is_there() -> None:
    """One for each run; what they are is read by the parsers in tests/test_documentation.py."""
    shown = [command for command in command_lines(page.PAGE) if command.whole]
    assert len(shown) == len({RunRecord.read(path).command for path in FILES})


@pytest.mark.parametrize("name", run_all.PLAN)
def test_the_plan_runs_scripts_that_save(name: str) -> None:
    words = run_all.words(name, {run_all.DATA: SHARED, run_all.ILSVRC: SHARED})
    assert not {run_all.DATA, run_all.ILSVRC} & set(words)
    assert str(run_all.RUNS / f"{name}.json") in words
    if words[0] == "-m":
        assert words[1:3] == ["detector.cli.entry", "bench"]
        return
    text = (run_all.ROOT / words[0]).read_text()
    assert "saving: SavingOptions" in text
    assert f'Benchmark(\n    "{name}",' in text
