"""Methods by name, their runs, figures and tables."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.evaluation.proposal_methods import Method, MethodRun, chosen, run_methods, search_methods
from detector.evaluation.proposal_recall import ALL, FoundBy, figures, truncate_to_counts_of
from detector.evaluation.tables import comparison_table, coverage_table, precision_table, source_table
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

A, B = (0, 0, 10, 10), (20, 20, 40, 40)


def proposals(*boxes: tuple[int, int, int, int]) -> Proposals:
    return Proposals.of(as_boxes(boxes), Source.SELECTIVE_SEARCH)


def record(name: str, *boxes: tuple[int, int, int, int]) -> AnnotatedImage:
    return AnnotatedImage(name, Path(name), 50, 40, as_boxes(boxes), np.zeros(len(boxes), np.int64))


RECORDS = [record("p", A, B), record("q", A)]
# A exactly and B by half; then A by 0.8, in second place
RUN = MethodRun("mine", [proposals(A, (20, 20, 40, 30)), proposals(B, (0, 0, 10, 8))], [0.1, 0.3])


def test_selective_search_by_name() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    methods = search_methods()
    assert len(methods["search-fast"].propose(image)) > len(methods["search-fast-2x"].propose(image)) > 0


def test_chosen_once_each_in_order() -> None:
    methods = {name: Method(name, lambda _: proposals()) for name in ("a", "b", "c")}
    assert [method.name for method in chosen(["c", "a", "c"], methods)] == ["c", "a"]
    with pytest.raises(ParameterError, match="use one of a, b, c"):
        chosen(["d"], methods)


def test_methods_take_turns_and_slow_ones_stop_early(tmp_path: Path) -> None:
    records = []
    for name, width in (("p", 11), ("q", 12), ("r", 13)):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (width, 10)).save(path)
        records.append(AnnotatedImage(name, path, width, 10, as_boxes([]), np.zeros(0, np.int64)))
    calls = []

    def method(name: str, images: int | None = None) -> Method:
        def propose(image: np.ndarray) -> Proposals:
            calls.append((name, image.shape[1]))
            return proposals((0, 0, image.shape[1], 10))

        return Method(name, propose, images)

    fast, slow = run_methods([method("fast"), method("slow", 2)], records)
    warming = [("fast", 11), ("slow", 11)]
    assert sorted(calls[:4]) == sorted(warming * 2)
    assert calls[4:] == [("fast", 12), ("slow", 12), ("fast", 13)]
    assert [found.boxes[0, 2] for found in slow.proposals] == [11, 12]
    assert len(fast.proposals) == len(fast.seconds) == 3


def test_figures_by_hand() -> None:
    one = figures(RUN, RECORDS, (1, ALL)).as_dict()
    third = 1 / 3
    assert (one["pictures"], one["objects"], one["seconds_a_picture"]) == (2, 3, 0.2)
    assert (one["budgets"], one["boxes"]) == ([1, None], [1, 2])
    assert one["recall@0.5"] == pytest.approx([third, 1])
    assert one["recall@0.7"] == pytest.approx([third, 2 * third])
    assert one["AR"] == pytest.approx([third, 1.6 / 3])
    assert one["MABO"] == pytest.approx([third, 2.3 / 3])
    assert one["AP"] is None, "selective search has no objectness"
    # A takes 5 % of its picture, B 20 %: both are of medium size.
    assert one["recall@0.5 by size"] == {"small": None, "medium": 1.0, "large": None}


def test_a_short_run_is_measured_on_its_own_pictures() -> None:
    one = figures(MethodRun("short", RUN.proposals[:1], [0.1]), RECORDS)
    assert (one.images, one.objects, one.boxes) == (1, 2, 2)


def test_cut_to_another_runs_boxes_picture_by_picture() -> None:
    other = MethodRun("other", [proposals(A), proposals(A, B, A)])
    assert [len(found) for found in truncate_to_counts_of(RUN, other, "cut").proposals] == [1, 2]


def test_tables_show_each_method_and_union() -> None:
    one = figures(RUN, RECORDS, (1, ALL))
    block = coverage_table([one]).split("\n\n")[2].splitlines()
    assert block[0].split() == ["AR,", "%", "1", "all", "boxes", "s/picture"]
    assert block[1].split() == ["mine", "33.3", "53.3", "2", "0.200"]

    half = figures(
        truncate_to_counts_of(RUN, MethodRun("other", [proposals(A)] * 2), "half"), RECORDS, (ALL,)
    )
    rows = [line.split() for line in comparison_table([one, half]).splitlines()[1:]]
    assert rows == [
        ["mine", "2", "100%", "100.0", "66.7", "53.3", "76.7"],
        ["half", "1", "50%", "33.3", "33.3", "33.3", "33.3"],
    ]
    sure = np.array([0.9, 0.4], np.float32)
    ranked = [Proposals(found.boxes, found.source, sure) for found in RUN.proposals]
    rows = [
        line.split()
        for line in precision_table([figures(MethodRun("it", ranked), RECORDS), one]).splitlines()
    ]
    assert rows[1:] == [["it", "83.3", "-", "100.0", "-"], ["mine", "-", "-", "100.0", "-"]]
    assert source_table({"paper": FoundBy(1, 2, 4, 1)}).splitlines()[1].split() == [
        *("paper", "12.5", "25.0", "50.0", "12.5")
    ]
