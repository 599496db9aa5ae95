"""``detector serve``: options, variables, help and what it says of mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

from api.frontend.command import METAVARS, SECTIONS, read_settings, serve
from api.frontend.settings import Settings
from detector.cli.entry import main

KEY = "k3y-of-some-client"


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DETECTOR_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        pytest.param("--port 9000", {}, {"port": 9000}, id="an option"),
        pytest.param("", {"PORT": "9000"}, {"port": 9000}, id="a variable"),
        pytest.param("--port 1", {"PORT": "2"}, {"port": 1}, id="both: the option wins"),
        pytest.param("--port 1", {"PORT": "two"}, {"port": 1}, id="a wrong variable that does not count"),
        pytest.param("--port=1", {"HOST": "::1"}, {"port": 1, "host": "::1"}, id="each its own"),
        pytest.param("--max-bytes 2MiB", {}, {"max_bytes": 2 * 1024 * 1024}, id="words with dashes"),
        pytest.param("--compile --no-allow-urls", {"ALLOW_URLS": "1"}, {"compile": True, "allow_urls": False},
                     id="switches"),
        pytest.param("--profile paper", {}, {"profile": "paper"}, id="a choice"),
        pytest.param("--weights a:b", {}, {"models": {"default": (Path("a"), Path("b"))}}, id="an ensemble"),
        pytest.param("--weights a --weights b", {}, {"weights": (Path("a"), Path("b"))}, id="as in detect"),
        pytest.param("--model m=x --model n=y:z", {},
                     {"models": {"m": (Path("x"),), "n": (Path("y"), Path("z"))}}, id="models"),
        pytest.param("--model m=x", {"MODEL": "n=y"}, {"models": {"m": (Path("x"),)}},
                     id="the models of options, not those of both"),
        pytest.param("--model m=x", {"WEIGHTS": "a"},
                     {"models": {"default": (Path("a"),), "m": (Path("x"),)}},
                     id="a model beside the weights"),
        pytest.param("--api-keys a --api-keys b", {}, {"keys": {"a", "b"}}, id="keys"),
    ],
)  # fmt: skip
def test_options_and_variables_become_settings(
    monkeypatch: pytest.MonkeyPatch, arguments: str, environment: dict[str, str], expected: dict[str, object]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"DETECTOR_{name}", value)
    settings = read_settings(Settings, arguments.split(), "detector serve")
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "environment", "lines"),
    [
        pytest.param("--port x", {}, ["--port: Input should be a valid integer"], id="an option"),
        pytest.param("", {"PORT": "x"}, ["DETECTOR_PORT: Input should be a valid integer"], id="a variable"),
        pytest.param(
            "--max-bytes lots", {"DEVICE": "gpu"},
            ["DETECTOR_DEVICE: 'gpu' is no device", "--max-bytes: should be a number of bytes, such as"],
            id="a line each",
        ),
        pytest.param("--model a", {}, ["--model: 'a' should be name=path"], id="no path"),
        pytest.param("--model a=x::y", {}, ["--model: 'x::y' names an empty path"], id="within a model"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    environment: dict[str, str],
    lines: list[str],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"DETECTOR_{name}", value)
    assert serve(arguments.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(lines)
    assert all(line.startswith(start) for line, start in zip(said, lines, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param("--port", "argument --port: expected one argument", id="a value is missing"),
        pytest.param("--prot 1", "unrecognized arguments: --prot 1", id="an option that is none"),
        pytest.param("--por 1", "unrecognized arguments", id="no abbreviations: the next option breaks them"),
        pytest.param("8000", "unrecognized arguments: 8000", id="a word too many"),
    ],
)
def test_options_that_are_none(capsys: pytest.CaptureFixture[str], arguments: str, message: str) -> None:
    with pytest.raises(SystemExit) as done:
        serve(arguments.split())
    assert done.value.code == 2
    assert message in capsys.readouterr().err


def test_a_misspelt_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTOR_WIEGHTS", "a")
    monkeypatch.setenv("DETECTOR_SERVICE_HOST", "10.0.0.1")  # Kubernetes sets it: near to nothing
    assert read_settings(Settings, [], "detector serve") is not None
    assert capsys.readouterr().err == "warning: DETECTOR_WIEGHTS is no setting; is DETECTOR_WEIGHTS meant?\n"


def test_help_explains_every_setting_and_shows_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTOR_API_KEYS", KEY)
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as done:
        serve(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in words
        assert field.description is not None
        assert " ".join(f"{field.description} [DETECTOR_{name.upper()}".split()) in words
    for heading in SECTIONS.values():
        assert f"\n{heading}:\n" in text
    assert "default: 127.0.0.1" in words
    assert KEY not in text


def test_sections_and_placeholders_belong_to_settings() -> None:
    assert set(SECTIONS) | set(METAVARS) <= set(Settings.model_fields)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        pytest.param(["--help"], 0, ["Serve detection and classification over HTTP"], id="it is listed"),
        pytest.param(["serve", "--help"], 0, ["usage: detector serve [OPTIONS]"], id="its own help"),
        pytest.param(
            ["serve", "--port", "x"],
            2,
            ["--port: ", "DETECTOR_API_KEYS: key 1 of 1 has a space"],
            id="mistakes",
        ),
    ],
)
def test_the_command_line_has_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    said: list[str],
) -> None:
    """Through the entry point, as installed."""
    monkeypatch.setenv("DETECTOR_API_KEYS", f"{KEY} {KEY}")
    monkeypatch.setattr(sys, "argv", ["detector", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == status
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert all(words in text for words in said)
    assert KEY not in text


def test_without_its_packages_it_says_what_to_install() -> None:
    without = (
        "import sys; sys.modules['uvicorn'] = None; "
        "from api.frontend.command import serve; sys.exit(serve([]))"
    )
    done = run("-c", without)
    assert done.returncode == 1
    assert "'uvicorn', which is not installed: pip install 'googlenet-detector[serve-cpu]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_library_does_not_need_the_service() -> None:
    """Loading the command imports nothing of the extra: `detector detect` works without it."""
    done = run(
        "-c", "import sys, api.frontend.command; print({'pydantic', 'uvicorn', 'torch'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n"


def test_the_front_is_started_without_torch() -> None:
    """It would take the front half a gigabyte, and seconds in which SIGHUP ends the process."""
    code = (
        "import atexit, sys; from detector.cli.entry import main; sys.argv = ['detector', 'serve', '--help'];"
        "atexit.register(lambda: print('torch is imported:', 'torch' in sys.modules)); main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "detector serve [OPTIONS]" in done.stdout
    assert done.stdout.endswith("torch is imported: False\n")
