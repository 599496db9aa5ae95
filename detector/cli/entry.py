"""The command ``detector``: which commands there are, and how the one that is named is found and run.

Nothing is imported here but what says which commands there are: torch takes seconds and half a gigabyte,
which the help and the front of the service do without.
"""

import difflib
import inspect
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from os import PathLike

from detector.cli.standard_streams import lasting_streams
from detector.errors import DetectorError, reason
from detector.io.terminal_text import one_line, printable_path

DESCRIPTION = "Object detection in the manner of R-CNN with a GoogLeNet backbone."

GROUP = "detector.commands"
"""Entry points of commands that other packages bring: functions of the arguments that return the exit status.
The first line of the docstring is the help. Their modules are loaded for that, so they import little."""

_PACKAGES = ("detector", "api", "training")


@dataclass(frozen=True)
class Command:
    """A command: ``target`` is ``module:function``, whose parameters are the options; ``help`` is one line.

    ``spread`` is that of :func:`detector.cli.command_line.run_command`; ``extra`` is what brings the packages
    that it needs besides.
    """

    target: str
    help: str
    spread: str | None = None
    extra: str = "torch"


OWN: Mapping[str, Command | Mapping[str, Command]] = {
    "detect": Command("detector.cli.detect:detect", "Find objects in pictures.", "images"),
    "classify": Command("detector.cli.detect:classify", "Name what whole pictures show.", "images"),
    "batch": Command(
        "detector.cli.batch:batch",
        "Find objects in very many pictures; killed, it goes on.",
        "inputs",
        "batch",
    ),
    "weights": {
        "import": Command(
            "detector.cli.import_weights:import_weights", "Turn foreign GoogLeNet weights into a checkpoint."
        ),
        "add-multibox": Command(
            "detector.cli.import_weights:add_multibox", "Give a checkpoint the MultiBox head of another."
        ),
        "average": Command("detector.cli.weights:average", "Average two trainings of one network."),
        "calibrate": Command(
            "detector.cli.weights:calibrate", "Measure activations, which computing in 8 bits needs."
        ),
        "show": Command("detector.cli.weights:show", "Print what a checkpoint says of itself."),
        "verify": Command(
            "detector.cli.weights:verify", "Check that a checkpoint is whole and fits its network."
        ),
    },
    "export": Command("detector.cli.export:export", "Write a network as a file that other programs run."),
    "bench": Command("detector.cli.bench:bench", "Measure the engines and precisions of this machine."),
}


def main() -> None:
    """Run what the command line names.

    An error of this library or of a file is one line on standard error and exit status 1; mistakes of usage
    end with status 2, Ctrl-C with 130.
    """
    with lasting_streams():
        try:
            _run(sys.argv[1:])
        except DetectorError as error:
            raise SystemExit(f"error: {error}") from error
        except OSError as error:
            where = (
                f"{printable_path(error.filename)}: " if isinstance(error.filename, str | PathLike) else ""
            )
            raise SystemExit(f"error: {where}{reason(error)}") from error
        except KeyboardInterrupt as error:
            print("error: interrupted", file=sys.stderr)
            raise SystemExit(128 + signal.SIGINT) from error
    raise SystemExit(0)


def run_commands(
    prog: str, commands: Mapping[str, Command], arguments: Sequence[str], description: str = ""
) -> None:
    """Run the command that the first argument names, else the one named ``""``, whose help lists the others.

    Where there is no ``""``, print which commands there are; a name that is none ends with status 2.
    """
    name = arguments[0] if arguments else ""
    if name and name in commands:
        _run_command(f"{prog} {name}", commands[name], arguments[1:])
    elif "" in commands:
        others = [f"{prog} {each:<11} {command.help}" for each, command in commands.items() if each]
        _run_command(prog, commands[""], arguments, "\n".join(["See also:", *others] if others else []))
    else:
        _end(prog, {each: command.help for each, command in commands.items()}, arguments, description)


@contextmanager
def needs_extra(extra: str, who: str) -> Iterator[None]:
    """End, where a package of others is missing in the block, with one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _PACKAGES:
            raise
        raise SystemExit(
            f"error: {who} needs the package '{error.name}', which is not installed: "
            f"pip install 'googlenet-detector[{extra}]'"
        ) from error


def _run(arguments: Sequence[str]) -> None:
    name = arguments[0] if arguments else None
    command = OWN.get(name or "")
    if command is not None:
        extra = command.extra if isinstance(command, Command) else "torch"
        with needs_extra(extra, f"detector {name}"):
            if isinstance(command, Command):
                _run_command(f"detector {name}", command, arguments[1:])
            else:
                run_commands(f"detector {name}", command, arguments[1:], _help_of_group(command))
        return
    brought = {point.name: point for point in entry_points(group=GROUP) if _is_installed(point.module)}
    if name in brought:
        raise SystemExit(brought[name].load()(arguments[1:]))
    if name == "--version":
        from detector import __version__

        print(f"detector {__version__}")
        return
    lines = {
        own: command.help if isinstance(command, Command) else _help_of_group(command)
        for own, command in OWN.items()
    }
    lines |= {
        each: (inspect.getdoc(point.load()) or "").partition("\n")[0] for each, point in brought.items()
    }
    _end("detector", lines, arguments, DESCRIPTION)


def _is_installed(module: str) -> bool:
    """Return whether a module's package is there: the container's image leaves ``training`` out."""
    return find_spec(module.partition(".")[0]) is not None


def _help_of_group(commands: Mapping[str, Command]) -> str:
    return f"Look after weights files: {', '.join(commands)}."


def _end(prog: str, lines: Mapping[str, str], arguments: Sequence[str], description: str) -> None:
    """Print the help, where it is asked for, or what is wrong with the name of the command; then end."""
    name = arguments[0] if arguments else None
    if name not in (None, "-h", "--help"):
        near = difflib.get_close_matches(name or "", lines, 1)
        meant = f"; is {near[0]} meant?" if near else f": there are {', '.join(lines)}"
        print(one_line(f"error: {prog} has no command {name!r}{meant}"), file=sys.stderr)
        raise SystemExit(2)
    print(f"usage: {prog} COMMAND [OPTIONS]\n\n{description}\n\ncommands:")
    width = max(map(len, lines))
    for each, line in lines.items():
        print(f"  {each:<{width}}  {line}")
    print(f"\n{prog} COMMAND --help says more of one.")
    raise SystemExit(0 if arguments else 2)


def _run_command(prog: str, command: Command, arguments: Sequence[str], further_help: str = "") -> None:
    from detector.cli.command_line import check_arguments, run_command

    check_arguments(arguments, prog)
    run_command(_load(command.target), arguments, prog, spread=command.spread, further_help=further_help)


def _load(target: str) -> Callable[..., None]:
    """Import a command's function; Ctrl-C in the meantime ends the process without a traceback."""
    module, _, name = target.partition(":")
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    function = getattr(import_module(module), name)
    signal.signal(signal.SIGINT, interrupt)
    return function


if __name__ == "__main__":
    main()
