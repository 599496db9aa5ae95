"""The file of a run: what was measured, on what, by which command. Pages are made of such files."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.errors import ParameterError
from detector.evaluation.measured_table import Column, Table, counted
from detector.io.atomic_write import write_whole
from detector.io.terminal_text import printable_path

FORMAT = 1


@dataclass(frozen=True)
class Code:
    """The commit that ran, and whether the files were as it has them; None outside a repository."""

    commit: str | None = None
    clean: bool | None = None


@dataclass(frozen=True)
class Hardware:
    """The processor's name, the cores a run may use, the instruction sets that matter to networks, and the
    GPU if one was used."""

    processor: str
    cores: int
    instructions: tuple[str, ...] = ()
    gpu: str | None = None

    def __str__(self) -> str:
        sets = f" with {', '.join(self.instructions)}" if self.instructions else ""
        cores = f"{counted(self.cores, 'core')} of {self.processor}{sets}"
        return f"{self.gpu}, {cores}" if self.gpu else cores


@dataclass(frozen=True)
class Data:
    """What the pages call the data, and how many pictures of it were used; None for data without pictures."""

    name: str
    pictures: int | None = None

    def __str__(self) -> str:
        if self.pictures is None:
            return self.name
        return f"{self.name}, {counted(self.pictures, 'picture')}"


@dataclass(frozen=True)
class RunRecord:
    """One run of one benchmark. ``shows`` is a sentence, ``setting`` what was chosen where the command does
    not say it, ``date`` is like ``2026-11-27``, ``versions`` are of Python and of the packages that count."""

    benchmark: str
    title: str
    shows: str
    command: str
    setting: str
    date: str
    code: Code
    hardware: Hardware
    data: Data
    versions: Mapping[str, str]
    tables: tuple[Table, ...] = ()

    def as_json(self) -> str:
        """Return text in a fixed order that Git compares line by line: a row of a table is a line."""
        return _indented({"format": FORMAT, **asdict(self)}) + "\n"

    def write(self, path: Path) -> None:
        """Write the file whole or not at all. Raises WriteError."""
        write_whole(path, self.as_json().encode())

    @classmethod
    def read(cls, path: Path) -> "RunRecord":
        """Read a file. Raises ParameterError for one that is no run's file."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise ValueError("it holds no object")
            if document.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            return cls(**{name: _read(name, value) for name, value in document.items()})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ParameterError(
                f"{printable_path(path)} is not the file of a run: {error}; save the run again"
            ) from error


def _read(name: str, value: Any) -> Any:
    if name == "tables":
        return tuple(_read_table(**table) for table in value)
    if name == "hardware":
        return Hardware(**{**value, "instructions": tuple(value["instructions"])})
    kinds = {"code": Code, "data": Data}
    return kinds[name](**value) if name in kinds else value


def _read_table(title: str, columns: Any, rows: Any, notes: Any) -> Table:
    return Table.of(title, [Column(**column) for column in columns], rows, notes)


def _indented(value: Any, indent: str = "") -> str:
    """Write JSON in which a list or an object that holds no other takes one line."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(parts, list | tuple) or not any(
        isinstance(part, dict | list | tuple) for part in parts
    ):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = f"{indent} "
    names = [f"{json.dumps(name)}: " for name in value] if isinstance(value, dict) else [""] * len(parts)
    lines = [f"{deeper}{name}{_indented(part, deeper)}" for name, part in zip(names, parts, strict=True)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, ",\n".join(lines), f"{indent}{closing}"])
