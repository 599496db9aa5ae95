"""How options are read, and what every script does with empty arguments and text that cannot be shown."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from detector.cli.command_line import DefaultFrom, at_least, option_given, run_command
from detector.errors import ParameterError

SCRIPT = r"""
import os, sys
from detector.cli.command_line import run_script

def main() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    for stream in (sys.stdout, sys.stderr):
        print(f"{name}: \u2713", file=stream)
    raise SystemExit(f"error: {name}")

run_script(main)
"""


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        pytest.param("utf-8", "caf\\udce9.jpg: \u2713", id="a name that is not UTF-8"),
        pytest.param("ascii", "caf\\udce9.jpg: \\u2713", id="and a terminal that is ASCII"),
        pytest.param("utf-8:strict", "caf\\udce9.jpg: \u2713", id="and one that is told to be strict"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_escapes(encoding: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONIOENCODING": encoding, "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == f"{said}\n"
    assert done.stderr.decode() == f"{said}\nerror: caf\\udce9.jpg\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--folder", ""], "an argument behind --folder is empty: is a variable not set?"),
        (["--folder="], "--folder= is empty: is a variable not set?"),
        (["", "--folder", "x"], "an argument behind -c is empty: is a variable not set?"),
    ],
)
def test_an_empty_argument_is_a_mistake_of_usage(arguments: list[str], told: str) -> None:
    """As a path it would mean the folder one is in."""
    script = (
        "from pathlib import Path\nfrom detector.cli.command_line import run_script\n"
        "def main(folder: Path) -> None:\n    print(folder)\nrun_script(main)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {told}\n")


@dataclass(frozen=True)
class Settings:
    """Some settings."""

    rate: float = 0.1
    """Rate of it."""
    wide: bool = False
    """Whether it is wide."""

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ParameterError("rate must be 0 or more")


def _settings(arguments: Sequence[str]) -> Settings:
    if option_given(arguments, "--preset") == "none":
        raise ParameterError("there is no preset none")
    return Settings(rate=0.5) if option_given(arguments, "--preset") == "fast" else Settings()


def command(
    images: Annotated[Sequence[Path], Positional, arg(help="Images.")],
    out: Path | None = None,
    weights: Annotated[Sequence[Path], UseAppendAction] = (),
    count: Annotated[int | None, at_least(1)] = None,
    preset: str = "",
    settings: Annotated[Settings, OmitArgPrefixes, DefaultFrom(_settings)] = Settings(),
) -> None:
    """Print what was read."""
    print(*images, out, *weights, count, settings.rate, settings.wide)


def _read(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    status: object = 0
    try:
        run_command(command, line.split(), "script", spread="images")
    except SystemExit as end:
        status = end.code
    said = capsys.readouterr()
    return status, said.out.strip(), said.err


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        pytest.param("a b", "a b None None 0.1 False", id="defaults"),
        pytest.param("a --out x b --wide c", "a b c x None 0.1 True", id="paths between options"),
        pytest.param("a --out None", "a None None 0.1 False", id="a file called None"),
        pytest.param("a --out - -- -b", "a -b - None 0.1 False", id="a path that begins with a dash"),
        pytest.param("a --weights x --weights y", "a None x y None 0.1 False", id="given again for more"),
        pytest.param("a --count=2 --rate 1e-3", "a None 2 0.001 False", id="numbers"),
        pytest.param("a --preset fast", "a None None 0.5 False", id="a default of another option"),
        pytest.param(
            "a --preset fast --rate 2 --no-wide", "a None None 2.0 False", id="which can be changed"
        ),
    ],
)
def test_options_are_read(line: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _read(line, capsys) == (0, printed, "")


def test_a_file_called_none_is_a_path() -> None:
    read = []

    def keep(out: Path | None = None) -> None:
        read.append(out)

    run_command(keep, ["--out", "None"], "script")
    run_command(keep, [], "script")
    assert read == [Path("None"), None]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a --count 0", "must be 1 or more, got 0"),
        ("a --count many", "many"),
        ("a --rate -1", "rate must be 0 or more"),
        ("a --wdie", "--wdie"),
        ("a --out", "--out"),
        ("--out x", "images must be given"),
        ("a --preset none", "error: there is no preset none"),
    ],
)
def test_mistakes_of_usage(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, told = _read(line, capsys)
    assert (status, printed) == (2, "")
    assert says in told


def test_the_help_shows_the_docstrings_of_fields_and_the_chosen_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, printed, _ = _read("--preset fast --help", capsys)
    assert status == 0
    assert "Rate of it. (default: 0.5)" in printed
