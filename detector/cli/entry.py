"""Where the command ``detector`` enters."""

import signal
import sys
from importlib.metadata import entry_points

from detector.cli.standard_streams import lasting_streams


def main() -> None:
    """Run what the command line names.

    A command of another package (``detector serve``) is run before this package's own are imported: those
    need torch, which takes seconds and half a gigabyte, and a service's front does without it.
    """
    name, *arguments = sys.argv[1:] or [""]
    for command in entry_points(group="detector.commands"):
        if command.name == name:
            with lasting_streams():
                raise SystemExit(command.load()(arguments))
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # Ctrl-C while importing: an end without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from detector.cli.commands import main as run_own_commands

    signal.signal(signal.SIGINT, interrupt)
    run_own_commands()
