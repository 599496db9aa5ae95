"""Running a command or a script inside the process of the tests."""

import contextlib
import io
from collections.abc import Callable

from detector.cli import command_line


def run_command(command: Callable[..., None], *arguments: object) -> tuple[int, str]:
    """Run a command as its users call it; return its exit status, and what it printed and told."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            command_line.run_command(command, list(map(str, arguments)), "script.py")
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code)
                return 1, printed.getvalue()
            return end.code or 0, printed.getvalue()
    return 0, printed.getvalue()
