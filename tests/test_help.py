"""Help texts are printed whole, defaults in square brackets among them."""

import inspect
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import training.commands
from detector.cli.entry import GROUP, OWN, Command, main

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path
    for folder in ("training", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
    if "run_script(main)" in path.read_text()
)
ENTRY_POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]


def _commands(commands: Mapping[str, Any], *words: str) -> Iterator[tuple[list[str], Command]]:
    """Each command, and the words that call it."""
    for name, command in commands.items():
        called = [*words, name] if name else list(words)
        if isinstance(command, Command):
            yield called, command
        else:
            yield from _commands(command, *called)


def _helps(command: Callable[..., None]) -> Iterator[str]:
    """The help of each option, and the docstring."""
    yield inspect.getdoc(command) or ""
    for parameter in inspect.signature(command).parameters.values():
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if getattr(mark, "help", None):
                yield mark.help


def _check_whole(printed: str, command: Callable[..., None]) -> None:
    """Compare without spaces and the lines of the boxes, which a long text is broken at."""
    joined = "".join(printed.replace("│", "").split())
    missing = [text for text in _helps(command) if "".join(text.split()) not in joined]
    assert not missing


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are as long on every machine."""
    monkeypatch.setenv("COLUMNS", "80")


def _function(target: str) -> Callable[..., None]:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(
    ("words", "command"), [pytest.param(*each, id=" ".join(each[0])) for each in _commands(OWN)]
)
def test_commands_print_their_help_whole(
    words: list[str], command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["detector", *words, "--help"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    _check_whole(capsys.readouterr().out, _function(command.target))


@pytest.mark.parametrize("path", SCRIPTS, ids=[f"{path.parent.name}/{path.name}" for path in SCRIPTS])
def test_scripts_print_their_help_whole(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "import litserve" in path.read_text():
        pytest.importorskip("litserve", reason="of the extra 'peers'")
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(path), run_name="__main__")
    assert done.value.code == 0
    _check_whole(capsys.readouterr().out, runpy.run_path(str(path), run_name="script")["main"])


TRAINING = [
    pytest.param(door, words, command, id=" ".join([door, *words]))
    for door, commands in (
        ("train", training.commands._TRAIN),
        ("evaluate", training.commands._EVALUATE),
        ("check", training.commands._CHECK),
    )
    for words, command in _commands(commands)
]


@pytest.mark.parametrize(("door", "words", "command"), TRAINING)
def test_commands_of_training_are_its_scripts(
    door: str, words: list[str], command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _function(ENTRY_POINTS[door])
    with pytest.raises(SystemExit) as done:
        run([*words, "--help"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: {' '.join(['detector', door, *words])} [-h]")
    _check_whole(printed, _function(command.target))


def test_the_help_lists_all_commands_and_imports_no_torch() -> None:
    """Those of other packages, too, as installing them would name them."""
    code = (
        "import atexit, sys; from importlib.metadata import EntryPoint; import detector.cli.entry as entry\n"
        f"points = [EntryPoint(*each, entry.GROUP) for each in {ENTRY_POINTS!r}.items()]\n"
        "entry.entry_points = lambda group: points\n"
        "atexit.register(lambda: print('torch is imported:', 'torch' in sys.modules))\n"
        "sys.argv = ['detector', '--help']; entry.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in (*OWN, *ENTRY_POINTS):
        [line] = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".")
    assert lines[-1] == "torch is imported: False"
