"""``detector serve``: the settings as options, then the service. Also what ``python -m api`` does.

The command ``detector`` finds this module through the entry point in pyproject.toml and loads it whenever it
runs, so nothing is imported up here that the library itself does not need.
"""

import argparse
import difflib
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from detector.cli.entry import needs_extra

if TYPE_CHECKING:
    from pydantic import ValidationError

    from api.frontend.settings import Settings

DESCRIPTION = """\
Serve detection and classification over HTTP: the page at /, the interface's description at /docs.

Every option can be an environment variable instead, DETECTOR_PORT for --port and so on; where both are
given, the option counts."""

EPILOG = """\
examples:
  detector serve
  detector serve --weights runs/pictures/detector.safetensors --port 9000
  detector serve --model tools=tools.safetensors --model birds=a.safetensors:b.safetensors
  DETECTOR_API_KEYS_FILE=keys.txt detector serve --host 0.0.0.0

SIGHUP switches to the weights files as they are by then; requests under way are answered by the old ones.

exit status: 0 after SIGTERM or SIGINT, 1 if weights or port cannot be used, 2 for settings that cannot be"""

SECTIONS = {
    "platforms": "interfaces, and where to listen",
    "weights": "networks",
    "max_bytes": "limits of requests",
    "allow_urls": "who may ask for what",
    "log_format": "logs and traces",
    "stall_seconds": "faults and the end",
}
"""Headings of the help, by the first setting below each."""

METAVARS = {
    "platforms": "NAME[,NAME...]",
    "host": "ADDRESS",
    "weights": "PATH[:PATH...]",
    "model": "NAME=PATH[:PATH...]",
    "device": "DEVICE[,DEVICE...]",
    "engine": "ENGINE",
    "precision": "PRECISION",
    "profile": "PROFILE",
    "label_studio_url": "ORIGIN",
    "label_studio_api_key": "KEY",
    "api_keys": "KEY[,KEY...]",
    "api_keys_file": "PATH",
    "cors_origins": "ORIGIN[,ORIGIN...]",
    "log_format": "FORMAT",
    "log_level": "LEVEL",
    "otlp_endpoint": "ADDRESS",
}
"""What stands for an option's value; a number is told by its name's last word."""


def serve(arguments: Sequence[str], name: str = "detector serve") -> int:
    """Serve detection and classification over HTTP.

    Returns the exit status: that of :func:`api.frontend.server.run`, 2 for wrong settings. Raises SystemExit
    where packages are missing, and as argparse does: 0 after ``--help``, 2 for an option that is none.
    """
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there are weights to switch; it would end this
    with needs_extra("serve-cpu", "the service"):
        from api.frontend.server import run
        from api.frontend.settings import Settings
    settings = read_settings(Settings, arguments, name)
    return 2 if settings is None else run(settings)


def read_settings(settings_class: "type[Settings]", arguments: Sequence[str], name: str) -> "Settings | None":
    """Return the settings of arguments and environment; None if they are wrong, which standard error
    tells."""
    from pydantic import ValidationError
    from pydantic_settings import CliSettingsSource

    parser = argparse.ArgumentParser(
        prog=name,
        usage=f"{name} [OPTIONS]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    options = CliSettingsSource[argparse.ArgumentParser](
        settings_class,
        root_parser=parser,
        add_argument_method=_Help(settings_class).add,
        cli_kebab_case=True,
        cli_implicit_flags=True,
    )
    given = parser.parse_args(list(arguments))
    for warning in _misspelt(settings_class, os.environ):
        print(warning, file=sys.stderr)
    try:
        return settings_class(_cli_settings_source=options(parsed_args=given))
    except ValidationError as error:
        print(*_problems(error, vars(given)), sep="\n", file=sys.stderr)
        return None


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Breaks lines at spaces alone: an option stays whole."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_on_hyphens=False)


class _Help:
    """Adds the settings to a parser: each in its section, explained by its description."""

    def __init__(self, settings_class: "type[Settings]") -> None:
        self._fields = settings_class.model_fields
        self._section: argparse._ArgumentGroup | None = None

    def add(self, parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
        """Stand in for ``ArgumentParser.add_argument``, for one setting after the other."""
        setting = options["dest"]
        if setting in SECTIONS:
            self._section = parser.add_argument_group(SECTIONS[setting])
        field = self._fields[setting]
        shown = "" if field.default in (None, (), {}) else f"; default: {_as_text(field.default)}"
        options["help"] = f"{field.description} [{_variable(setting)}{shown}]".replace("%", "%%")
        if "metavar" in options:
            last = setting.rpartition("_")[2].upper()
            options["metavar"] = METAVARS.get(setting, last if last in ("SECONDS", "BYTES") else "N")
        (self._section or parser).add_argument(*names, **options)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _variable(setting: str) -> str:
    return f"DETECTOR_{setting.upper()}"


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _problems(error: "ValidationError", given: dict[str, Any]) -> Iterator[str]:
    """Yield one line a problem, beginning with the option or the variable that it came from."""
    for problem in error.errors(include_input=False, include_url=False):
        setting = str(problem["loc"][0])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"].startswith("byte_size"):
            message = "should be a number of bytes, such as 33554432 or 32MiB"
        yield f"{_option(setting) if setting in given else _variable(setting)}: {message}"


def _misspelt(settings_class: "type[Settings]", environment: Iterable[str]) -> Iterator[str]:
    """Yield a warning for each variable that seems to mean a setting but is none: DETECTOR_WIEGHTS."""
    known = [_variable(setting) for setting in settings_class.model_fields]
    for name in environment:
        if name.startswith("DETECTOR_") and name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.85)
            if near:
                yield f"warning: {name} is no setting; is {near[0]} meant?"
