"""Where mean AP is lost, as plain text."""

from math import isnan

from numpy import nan_to_num

from detector.evaluation.error_kinds import ErrorKind
from detector.evaluation.errors import ErrorBreakdown
from detector.evaluation.sizes import SIZES
from detector.evaluation.text_table import aligned

MEANING = {
    ErrorKind.CONFUSION: "of another class, in the right place",
    ErrorKind.LOCALISATION: "beside an object of its class",
    ErrorKind.BOTH: "beside an object of another class",
    ErrorKind.DUPLICATE: "of an object found already",
    ErrorKind.BACKGROUND: "where no object is",
    ErrorKind.MISSED: "objects with no detection near",
}


def error_table(errors: ErrorBreakdown) -> str:
    """One line a kind of error and the mAP that mending it would gain, the sizes, the proposals' share."""
    lost = [["where mAP is lost", "mAP gained", "how many", ""]]
    for kind in sorted(errors.gains, key=lambda kind: -nan_to_num(errors.gains[kind])):
        lost.append(
            [
                kind.name.lower(),
                _percent(errors.gains[kind], "+.2f"),
                f"{errors.counts[kind]}",
                MEANING[kind],
            ]
        )
    lost.append(["all wrong detections", _percent(errors.no_false_positives, "+.2f"), "", ""])
    lost.append(["all objects not found", _percent(errors.no_misses, "+.2f"), "", ""])

    sizes = [["objects", "of the picture", "how many", "recall %", "mAP %"]]
    for size in errors.sizes:
        low, high = SIZES[size.name]
        sizes.append(
            [
                size.name,
                f"{100 * low:.0f} to {100 * high:.0f} %",
                f"{size.objects}",
                _percent(size.recall, ".1f"),
                _percent(size.mean_ap, ".2f"),
            ]
        )
    parts = [_with_words_to_the_left(lost), aligned(sizes)]
    if errors.uncovered is not None and errors.objects:
        parts.append(
            f"{errors.uncovered} of {errors.objects} objects "
            f"({100 * errors.uncovered / errors.objects:.1f} %) are covered by no proposal"
        )
    return "\n\n".join(parts)


def _percent(share: float, form: str) -> str:
    return "-" if isnan(share) else f"{100 * share:{form}}"


def _with_words_to_the_left(rows: list[list[str]]) -> str:
    """Rows whose last cell explains the others."""
    lines = aligned([row[:-1] for row in rows]).splitlines()
    return "\n".join(f"{line}  {row[-1]}".rstrip() for line, row in zip(lines, rows, strict=True))
