"""How scripts and commands that measure show their tables and, where asked, save them: one table for both."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from detector.evaluation.measured_table import Table
from detector.evaluation.run_conditions import code, command_line, data_name, hardware, versions
from detector.evaluation.run_record import Data, RunRecord
from detector.io.atomic_write import check_writable

SHIPPED_PICTURES = Data("the two that come with the package", 2)
"""What is measured on where no folder is named."""


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark is called in files, its title on a page, and a sentence of what it shows."""

    name: str
    title: str
    shows: str


@dataclass
class Recording:
    """A run under way: shows tables as they come, and keeps them."""

    tables: list[Table] = field(default_factory=list)

    def show(self, table: Table) -> None:
        """Print a table and keep it."""
        print(f"\n{table.text()}", flush=True)
        self.tables.append(table)


@dataclass(frozen=True)
class Saving:
    """Options of all that measure."""

    file: Annotated[
        Path | None, arg(name="save", help="Write the run's file (JSON): a page is made of it.")
    ] = None
    called: Annotated[
        str | None, arg(help="What the file calls the folder of data, in place of the folder's own name.")
    ] = None

    def name_of(self, data: Path) -> str:
        """Return what the file calls a folder of data."""
        return data_name(data, self.called)

    def data(self, folder: Path | None, pictures: int) -> Data:
        """Name the data that a run is on: so many pictures of a folder, or those of the package."""
        return SHIPPED_PICTURES if folder is None else Data(self.name_of(folder), pictures)

    @contextmanager
    def recording(
        self,
        benchmark: Benchmark,
        data: Data,
        setting: str = "",
        *,
        folder: Path | None = None,
        device: str = "cpu",
        options: Sequence[str] = ("--save", "--called"),
    ) -> Iterator[Recording]:
        """Say what is measured on what; what is shown in the block is written at its end, if it has one.

        ``folder`` is the path that the command names the data by, ``options`` are those of this class, as
        they are called there: the file does not repeat them. Raises WriteError, before the work where that
        can be foreseen.
        """
        if self.file is not None:
            check_writable(self.file)
        begun, machine = date.today().isoformat(), hardware(device)
        commit = code()
        print(benchmark.title)
        print("; ".join(part for part in (str(machine), str(data), setting) if part), flush=True)
        recording = Recording()
        yield recording
        if self.file is not None:
            RunRecord(
                benchmark=benchmark.name,
                title=benchmark.title,
                shows=benchmark.shows,
                command=command_line(sys.argv, data=folder, called=self.called, without=options),
                setting=setting,
                date=begun,
                code=commit,
                hardware=machine,
                data=data,
                versions=versions(),
                tables=tuple(recording.tables),
            ).write(self.file)


SavingOptions = Annotated[Saving, OmitArgPrefixes]
"""The type of a parameter that reads them."""
NOT_SAVED = Saving()
"""Its default."""
