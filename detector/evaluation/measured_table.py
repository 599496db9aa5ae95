"""A table of what was measured: numbers as they are, and how they are shown, on a terminal and on a page."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from detector.errors import ParameterError

Cell = str | int | float | None
"""None is what was not measured; infinity and NaN become it."""
ABSENT = "-"


def counted(count: int, noun: str) -> str:
    """Return ``1 thread``, ``2 threads``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return rows of cells as lines: columns of ``left`` to the left, others to the right, as wide as need
    be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


@dataclass(frozen=True)
class Column:
    """What the numbers below a heading are, in which unit, and the format (as ``.3f``) they are shown in."""

    name: str
    unit: str = ""
    form: str = ""

    @property
    def heading(self) -> str:
        """The name and the unit."""
        return " ".join(part for part in (self.name, self.unit) if part)

    def shown(self, cell: Cell) -> str:
        """Return a cell as readers see it; words stay as they are."""
        if cell is None:
            return ABSENT
        return cell if isinstance(cell, str) else format(cell, self.form)


@dataclass(frozen=True)
class Table:
    """Columns, rows of as many cells, and sentences that belong below them. The title may be empty."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        title: str,
        columns: Sequence[Column],
        rows: Sequence[Sequence[Cell]],
        notes: Sequence[str] = (),
    ) -> "Table":
        """Make a table of any sequences. Raises ParameterError for a row of more or fewer cells."""
        kept = tuple(tuple(_kept(cell) for cell in row) for row in rows)
        return cls(title, tuple(columns), kept, tuple(notes))

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ParameterError(
                    f"a row of the table {self.title!r} has {len(row)} cells for {len(self.columns)} columns"
                )

    def headings(self) -> list[str]:
        """Return the first line."""
        return [column.heading for column in self.columns]

    def cells(self) -> list[list[str]]:
        """Return the other lines, as they are shown."""
        return [
            [column.shown(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows
        ]

    def of_words(self) -> list[int]:
        """Return which columns are read from the left: those that hold no number."""
        return [
            index
            for index in range(len(self.columns))
            if not any(isinstance(row[index], int | float) for row in self.rows)
        ]

    def text(self) -> str:
        """Return all of it for a terminal: the title, the table, the notes."""
        table = aligned([self.headings(), *self.cells()], self.of_words())
        parts = [self.title, table, "\n".join(self.notes)]
        return "\n\n".join(part for part in parts if part)


def _kept(cell: Cell) -> Cell:
    """Keep six digits, more than any run repeats."""
    if not isinstance(cell, float):
        return cell
    return float(f"{cell:.6g}") if math.isfinite(cell) else None
