"""Write docs/benchmarks.md from the files of runs: each figure beside its command, its data, its machine.

    python benchmarks/page.py

The same files make the same page; nothing on it is typed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from run_all import PLAN, ROOT, RUNS
from tyro.conf import arg

from detector.cli.command_line import run_script
from detector.evaluation.measured_table import Table
from detector.evaluation.run_record import RunRecord
from detector.io.atomic_write import write_whole

PAGE = ROOT / "docs" / "benchmarks.md"

INTRODUCTION = """\
# Benchmarks

Made by `benchmarks/page.py` of the files in `benchmarks/runs/`, one for each run; no figure here is typed. \
Each run has the command that made it, the data, the machine, the versions and the commit. Figures of \
different runs compare only where these agree. `VOC` stands for a folder with pictures of PASCAL VOC 2007 \
and their annotations, `ilsvrc` for one that holds `ILSVRC/`, each in its own layout. \
[CONTRIBUTING.md](../CONTRIBUTING.md#figures) tells how to measure again.
"""


def main(
    runs: Annotated[Path, arg(help="The folder of the runs' files.")] = RUNS,
    output: Annotated[Path, arg(help="The page.")] = PAGE,
) -> None:
    """Write the page."""
    write_whole(output, page(read_runs(runs)).encode())


def read_runs(folder: Path) -> list[RunRecord]:
    """Read the runs' files in the order of the plan, others behind by name. Raises ParameterError."""
    order = list(PLAN)
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stem)
    paths.sort(key=lambda path: order.index(path.stem) if path.stem in order else len(order))
    return [RunRecord.read(path) for path in paths]


def page(runs: Sequence[RunRecord]) -> str:
    """Return the page's Markdown."""
    return "\n".join([INTRODUCTION, *(_section(run) for run in runs)])


def _section(run: RunRecord) -> str:
    parts = [f"## {run.title}", run.shows]
    for table in run.tables:
        parts += _table(table)
    parts += [f"    {run.command}", _conditions(run)]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"**{table.title}**"
    words = table.of_words()
    lines = [table.headings(), ["---" if index in words else "---:" for index in range(len(table.columns))]]
    yield "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in [*lines, *table.cells()])
    if table.notes:
        yield " ".join(table.notes)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _conditions(run: RunRecord) -> str:
    """Say in one paragraph what the figures depend on."""
    code = "no commit known" if run.code.commit is None else f"commit {run.code.commit}"
    if run.code.clean is False:
        code += " with changes"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    parts = [f"Data: {run.data}.", f"Setting: {run.setting}." if run.setting else ""]
    parts += [f"Machine: {run.hardware}.", f"Measured {run.date}, {code}; {versions}."]
    return " ".join(part for part in parts if part)


if __name__ == "__main__":
    run_script(main)
