"""Find everything that is wrong with a data set before hours are spent on it.

    python training/check_data.py ilsvrc
    python training/check_data.py pictures --format voc --report problems.csv --chart balance.png
    python training/check_data.py voc07 --split train.txt --split val.txt

Ends with status 1 if something has to be left out, 0 otherwise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from detector.cli.command_line import run_script
from detector.datasets.open import Format, open_dataset
from detector.io.atomic_write import check_writable, write_whole
from detector.io.output_paths import check_apart
from training.checking.check import check_data
from training.checking.records import balance_chart
from training.checking.report import as_csv, as_json, summary
from training.trainer.command_errors import add_path_to_errors, one_line_errors


def main(
    data: Annotated[Path, Positional, arg(help="Folder of the data set.")],
    format: Annotated[Format | None, arg(help="Its layout; if not given, it is looked for.")] = None,
    split: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(help="A split by name, or a list file by path; give it again for more [all splits]."),
    ] = (),
    decode: Annotated[bool, arg(help="Decode every picture wholly, and find near-duplicates.")] = True,
    report: Annotated[Path | None, arg(help="File for all findings: .json or .csv.")] = None,
    chart: Annotated[Path | None, arg(help="File for a chart of the objects a class (PNG).")] = None,
) -> None:
    """List every problem of a data set, and say how its classes are balanced."""
    if report is not None and report.suffix not in (".json", ".csv"):
        raise SystemExit(f"error: --report {report} must end in .json or .csv")
    with one_line_errors():
        check_apart([report, chart], map(Path, split or []), data)
        for written in filter(None, [report, chart]):
            check_writable(written)
        folder = open_dataset(data, format)
        checked = check_data(folder, split or (), decoded=decode)
        print(summary(checked))
        if report is not None:
            form = as_json(checked) if report.suffix == ".json" else as_csv(checked.findings)
            with add_path_to_errors(report):
                write_whole(report, form)
            print(f"all findings  {report}")
        if chart is not None:
            with add_path_to_errors(chart):
                write_whole(
                    chart, balance_chart(checked.counts, folder.classes, f"Objects a class in {data}")
                )
            print(f"chart         {chart}")
    if checked.leaves_out:
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(main)
