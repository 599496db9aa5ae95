"""How the project's commands and scripts read their options and print their help."""

import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import typer

from detector.cli.standard_streams import lasting_streams
from detector.io.terminal_text import printable_path

PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Arguments of every ``typer.Typer`` here. Help texts are no markup: ``[runs/NAME]`` in one is a default that
readers want to see; Rich takes it for a style and leaves it out."""


def run_script(main: Callable[..., None]) -> None:
    """Run a script of one command, whose options are the parameters of ``main``."""
    script = typer.Typer(**PLAIN)
    script.command()(main)
    with lasting_streams():
        check_arguments()
        script()


def check_arguments() -> None:
    """End the command, as for other mistakes of usage, where an argument is empty.

    It is an unset variable (``--output "$OUT"``), and an empty path would mean the folder one is in.
    """
    for before, argument in pairwise(sys.argv):
        if argument == "" or (argument.startswith("--") and argument.endswith("=")):
            where = argument or f"an argument behind {printable_path(before)}"
            print(f"error: {where} is empty: is a variable not set?", file=sys.stderr)
            raise SystemExit(2)
