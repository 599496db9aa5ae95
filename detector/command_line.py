"""How the project's commands and scripts read their options and print their help."""

from collections.abc import Callable
from typing import Any

import typer

from detector.standard_streams import lasting_streams

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
        script()
