"""Tables of measured figures: shown as their columns say, kept as they are."""

import math

import pytest

from detector.errors import ParameterError
from detector.evaluation.measured_table import Cell, Column, Table, aligned


def test_first_column_left_others_right() -> None:
    assert (
        aligned([["", "boxes", "s"], ["search", "7", "0.25"]]) == "        boxes     s\nsearch      7  0.25"
    )


@pytest.mark.parametrize(
    ("form", "cell", "shown"),
    [
        pytest.param(".3f", 0.12345, "0.123", id="a figure, in the column's form"),
        pytest.param("+.1f", 2.0, "+2.0", id="with its sign"),
        pytest.param(".2f", "refused", "refused", id="words stay as they are"),
        pytest.param("", 12, "12", id="no form"),
        pytest.param(".2f", None, "-", id="not measured"),
        pytest.param(".2f", math.nan, "-", id="the mean of nothing"),
        pytest.param(".2f", math.inf, "-", id="a wait without end"),
    ],
)
def test_cells_are_shown_as_their_column_says(form: str, cell: Cell, shown: str) -> None:
    assert Table.of("", [Column("", "s", form)], [[cell]]).cells() == [[shown]]


def test_the_text_has_all_of_it() -> None:
    table = Table.of("2 threads", [Column("way"), Column("time", "s", ".1f")], [["ours", 1.25]], ["Medians."])
    assert table.text() == "2 threads\n\nway   time s\nours     1.2\n\nMedians."


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ParameterError, match="'cost' has 1 cells for 2 columns"):
        Table.of("cost", [Column("a"), Column("b")], [["only"]])
