"""How the project's commands and scripts read their options and print their help."""

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Any

import typer

PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
"""Arguments of every ``typer.Typer`` here. Help texts are no markup: ``[runs/NAME]`` in one is a default that
readers want to see; Rich takes it for a style and leaves it out."""


def run_script(main: Callable[..., None]) -> None:
    """Run a script of one command, whose options are the parameters of ``main``."""
    escape_what_cannot_be_printed()
    script = typer.Typer(**PLAIN)
    script.command()(main)
    script()


def escape_what_cannot_be_printed() -> None:
    """Let standard output and error show what their encoding lacks as escapes: it would end the command.

    That is every byte of a file name that is not UTF-8, and most letters on a terminal that is ASCII.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
