"""Help texts are printed whole, defaults in square brackets among them."""

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from detector.cli.commands import app

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for folder in ("training", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "import typer" in path.read_text()
)


def _commands(command: Any, *words: str) -> Iterator[tuple[list[str], Any]]:
    """Each command without commands of its own, and the words that call it."""
    if not hasattr(command, "commands"):
        yield list(words), command
        return
    for name, below in command.commands.items():
        yield from _commands(below, *words, name)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are as long on every machine."""
    monkeypatch.setenv("COLUMNS", "80")


def _check_whole(printed: str, command: Any) -> None:
    told = [option.help for option in command.params if getattr(option, "help", None)]
    joined = "".join(printed.split())
    missing = [text for text in told if "".join(text.split()) not in joined]
    assert not missing


@pytest.mark.parametrize(
    ("words", "command"),
    [pytest.param(*one, id=" ".join(one[0])) for one in _commands(typer.main.get_command(app))],
)
def test_commands_print_their_help_whole(
    words: list[str], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        app([*words, "--help"])
    assert done.value.code == 0
    _check_whole(capsys.readouterr().out, command)


@pytest.mark.parametrize("path", SCRIPTS, ids=[f"{path.parent.name}/{path.name}" for path in SCRIPTS])
def test_scripts_print_their_help_whole(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(path), run_name="__main__")
    assert done.value.code == 0
    parsed = typer.Typer(add_completion=False)
    parsed.command()(runpy.run_path(str(path), run_name="script")["main"])
    _check_whole(capsys.readouterr().out, typer.main.get_command(parsed))
