"""Which commands there are, and what is said about names that are none and packages that are missing."""

import os
import signal
import sys

import pytest

from detector.cli.entry import OWN, Command, main, needs_extra, run_commands


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["detector", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    return done.value.code


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_the_help_names_all_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    assert _main(monkeypatch, *arguments) == status
    printed = capsys.readouterr().out
    assert printed.startswith("usage: detector COMMAND [OPTIONS]\n")
    assert all(f"\n  {name} " in printed for name in OWN)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["detct"], "error: detector has no command 'detct'; is detect meant?"),
        (["zebra"], "error: detector has no command 'zebra': there are detect, classify, batch, weights"),
        ([""], "error: detector has no command ''"),
        (["weights", "shw"], "error: detector weights has no command 'shw'; is show meant?"),
        (["detect"], "error: images must be given; detector detect --help says more"),
        (["detect", "--json", "-"], "error: images must be given; detector detect --help says more"),
        (["classify", "a.jpg", ""], "error: an argument behind a.jpg is empty: is a variable not set?"),
    ],
)
def test_mistakes_of_usage_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert _main(monkeypatch, *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(says)


def interrupt() -> None:
    """A command that is interrupted."""
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interruption_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(OWN, "show", Command(f"{__name__}:interrupt", "Wait."))  # type: ignore[misc]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert _main(monkeypatch, "show") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [pytest.param(["--help"], 0, id="help"), pytest.param(["train"], 2, id="a command that is not there")],
)
def test_a_package_that_is_left_out_takes_its_commands_along(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    """The container's image has no ``training``, whose entry points are installed all the same."""
    monkeypatch.setitem(sys.modules, "training", None)
    assert _main(monkeypatch, *arguments) == status
    said = capsys.readouterr()
    assert "serve" in said.out + said.err
    assert "\n  train " not in said.out
    assert "Traceback" not in said.err


def test_a_command_without_a_name_takes_all_that_is_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    here = "tests.detector.cli.test_entry"
    commands = {"": Command(f"{here}:usual", "Say it."), "other": Command(f"{here}:other", "Say else.")}
    run_commands("x", commands, ["--text", "other"])
    run_commands("x", commands, ["other"])
    assert capsys.readouterr().out == "usual other\nother\n"
    with pytest.raises(SystemExit):
        run_commands("x", commands, ["--help"])
    assert "x other       Say else." in capsys.readouterr().out


def usual(text: str = "") -> None:
    """Say a text."""
    print("usual", text)


def other() -> None:
    """Say nothing of it."""
    print("other")


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit) as done, needs_extra("training", "detector train"):
        import matplotlib  # noqa: F401
    assert done.value.code == (
        "error: detector train needs the package 'matplotlib', which is not installed: "
        "pip install 'googlenet-detector[training]'"
    )


def test_a_module_of_ours_that_is_missing_is_a_fault_and_no_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("training", "detector train"):
        import training.nowhere  # noqa: F401
