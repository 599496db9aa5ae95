from detector.evaluation.tables import aligned


def test_first_column_left_others_right() -> None:
    assert (
        aligned([["", "boxes", "s"], ["search", "7", "0.25"]]) == "        boxes     s\nsearch      7  0.25"
    )
