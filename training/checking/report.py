"""What was found in a data set: as text to read, as JSON and as CSV."""

import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from io import StringIO

from detector.io.terminal_text import utf8_text
from training.checking.check import Checked
from training.checking.findings import LEFT_OUT, TITLES, Finding
from training.checking.records import balance_table

_EXAMPLES = 3  # of each kind, in the text


def summary(checked: Checked) -> str:
    """Return the text: what the data set is, the balance of its classes, and what was found, kind by kind."""
    folder = checked.folder
    lines = [f"{folder.root}: {folder.format.upper()}, {len(folder.classes)} classes"]
    for split, counts in checked.counts.items():
        text = f"  {split or 'all':<10} {counts.images:>8,} pictures, {counts.objects.sum():>9,} objects"
        if counts.without_objects:
            text += f", {counts.without_objects:,} without objects"
        if counts.partial:
            text += f", {counts.partial:,} partial (only the classes they list were annotated)"
        lines.append(text)
    lines += ["", balance_table(checked.counts, folder.classes)]
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in checked.findings:
        by_kind[finding.kind].append(finding)
    for heading, kinds in (
        ("Left out of training and measuring", [kind for kind in TITLES if kind in LEFT_OUT]),
        ("To look at", [kind for kind in TITLES if kind not in LEFT_OUT]),
    ):
        present = [kind for kind in kinds if by_kind[kind]]
        if present:
            lines += ["", f"{heading}:"]
        for kind in present:
            of_kind = by_kind[kind]
            lines.append(f"  {len(of_kind):>6,}  {kind}: {TITLES[kind]}")
            lines += [f"            {_place(example)}{example.message}" for example in of_kind[:_EXAMPLES]]
            if len(of_kind) > _EXAMPLES:
                lines.append(f"            and {len(of_kind) - _EXAMPLES:,} more")
    lost = sum(finding.leaves_out for finding in checked.findings)
    lines += ["", f"Problems that leave something out: {lost:,}." if lost else "Nothing has to be left out."]
    return utf8_text("\n".join(lines))


def as_json(checked: Checked) -> bytes:
    """Return everything that was found and counted."""
    folder = checked.folder
    content = {
        "root": str(folder.root),
        "format": str(folder.format),
        "classes": [
            {"id": class_id, "name": name}
            for class_id, name in zip(folder.classes.ids, folder.classes.names, strict=True)
        ],
        "splits": {
            split: {
                "pictures": counts.images,
                "without_objects": counts.without_objects,
                "partial": counts.partial,
                "objects_by_class": counts.objects.tolist(),
                "pictures_by_class": counts.images_of.tolist(),
            }
            for split, counts in checked.counts.items()
        },
        "findings": [
            {
                "kind": finding.kind,
                "leaves_out": finding.leaves_out,
                "split": finding.split,
                "where": finding.where,
                "message": finding.message,
            }
            for finding in checked.findings
        ],
    }
    return utf8_text(json.dumps(content, indent=1, ensure_ascii=False)).encode()


def as_csv(findings: Sequence[Finding]) -> bytes:
    """Return a line a finding."""
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(["kind", "leaves_out", "split", "where", "message"])
    writer.writerows(
        [finding.kind, finding.leaves_out, finding.split, finding.where, finding.message]
        for finding in findings
    )
    return utf8_text(file.getvalue()).encode()


def _place(finding: Finding) -> str:
    return f"{finding.split}/{finding.where}: " if finding.split else ""
