"""What the pages tell their readers to type is there: commands, options, files, routes, settings, Python.

Commands are read by their own parsers, and run where that is quick.
"""

import ast
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml
from PIL import Image

from api.frontend.app import create_app, open_platforms
from api.frontend.platforms.names import PlatformName
from api.frontend.settings import Settings
from detector.bulk.shards import ShardBuilder
from detector.cli import command_line, entry
from detector.pretrained import SHIPPED
from tests.api.conftest import serve, wait_until_ready
from tests.documentation import PAGES, ROOT, CommandLine, blocks, code_spans, command_lines
from training.commands import _CHECK, _EVALUATE, _TRAIN

COMMANDS = [command for page in PAGES for command in command_lines(page)]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
MAKEFILE = (ROOT / "Makefile").read_text()


def of(*programs: str, whole: bool | None = None) -> list[Any]:
    """The commands of some programs, for parametrize."""
    return [
        pytest.param(command, id=str(command))
        for command in COMMANDS
        if command.program in programs and whole in (None, command.whole)
    ]


Run = Callable[..., None]


@pytest.fixture
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and scripts read their options, by their own parsers, and do nothing else."""
    run = command_line.run_command

    def read(command: Run, arguments: Sequence[str], prog: str, **settings: Any) -> None:
        @wraps(command)
        def nothing(**options: Any) -> None:
            pass

        run(nothing, arguments, prog, **settings)

    monkeypatch.setattr(command_line, "run_command", read)
    monkeypatch.setattr("api.frontend.server.run", lambda settings: 0)
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])


def printed(function: Callable[[], object], *arguments: str) -> tuple[object, str]:
    """The exit status of what is run with arguments, and all that it printed."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(text), redirect_stderr(text):
        patch.setattr(sys, "argv", list(arguments))
        try:
            function()
        except SystemExit as end:
            return end.code or 0, text.getvalue()
    return 0, text.getvalue()


def read_detector(words: Sequence[str]) -> None:
    """Have ``detector`` read a command line."""
    status, text = printed(entry.main, "detector", *words)
    assert status == 0, text


def read_script(path: Path, words: Sequence[str]) -> None:
    """Have a script read its options; one with a parser of its own is asked for its help."""
    assert path.is_file(), f"there is no {path}"
    if "run_script(main)" in path.read_text():
        status, text = printed(lambda: runpy.run_path(str(path), run_name="__main__"), str(path), *words)
        assert status == 0, text
        return
    status, text = printed(lambda: runpy.run_path(str(path), run_name="__main__"), str(path), "--help")
    if any(word.startswith("--") for word in words):
        assert status == 0, text
    for word in words:
        assert not word.startswith("--") or word.partition("=")[0] in text, text


@cache
def help_of(*words: str) -> str:
    """The help of a command of ``detector``."""
    status, text = printed(entry.main, "detector", *words, "--help")
    assert status == 0, text
    return text


def test_pages_have_commands() -> None:
    """The extraction finds what there is: every page on using the project has some."""
    pages = {command.page for command in COMMANDS if command.whole}
    assert {page for page in TEXTS if page.startswith("docs/")} - pages <= {
        "docs/architecture.md",
        "docs/reference.md",
    }
    assert len(COMMANDS) > 120
    lines = {line for text in TEXTS.values() for line in re.findall(r"(?m)^    (\.venv/bin/.*)$", text)}
    assert len({line.split("  #")[0] for line in lines}) <= len(
        of("detector", "python", "torchrun", whole=True)
    )


@pytest.mark.parametrize("command", of("detector", whole=True))
def test_detector_reads_the_line(
    command: CommandLine, only_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("DETECTOR_")]:
        monkeypatch.delenv(name)
    for name, value in command.variables.items():
        monkeypatch.setenv(name, value)
    read_detector(command.words[1:])


@pytest.mark.parametrize("command", of("detector", whole=False))
def test_detector_has_the_options_of_a_sentence(command: CommandLine) -> None:
    names = []
    for word in command.words[1:]:
        if not re.fullmatch("[a-z-]+", word) or word.startswith("-"):
            break
        names.append(word)
    while True:  # what follows the command's name may be its first argument
        try:
            text = help_of(*names)
            break
        except AssertionError:
            names.pop()
            assert names
    assert text.startswith(f"usage: detector {names[0]}")
    for word in command.words:
        if word.startswith("--") and word != "--help":
            assert word.partition("=")[0] in text, f"detector {' '.join(names)} has no {word}"


@pytest.mark.parametrize("command", of("python", "torchrun", "pytest", "bash"))
def test_scripts_are_there_and_read_the_line(command: CommandLine, only_read: None) -> None:
    words = list(command.words[1:])
    if command.program == "pytest" or words[:2] == ["-m", "pytest"]:
        for word in words:
            assert not word.endswith(".py") or (ROOT / word).is_file()
        return
    if words[0] == "-m":
        name = words[1].replace(".", "/")
        assert words[1] == "build" or (ROOT / f"{name}.py").is_file() or (ROOT / name).is_dir()
        return
    while words[0].startswith("-"):  # of torchrun, each with a value
        del words[:2]
    if "..." in words:
        words = words[:1]
        assert (ROOT / words[0]).is_file()
    elif words[0].startswith("examples/") or command.program == "bash":
        assert all((ROOT / word).is_file() for word in words)
    elif command.whole or len(words) > 1:
        read_script(ROOT / words[0], words[1:])
    else:
        assert (ROOT / words[0]).is_file()


@pytest.mark.parametrize("command", of("make"))
def test_make_has_the_target(command: CommandLine) -> None:
    words = [word for word in command.words[1:] if word != "..."]
    for word in words:
        name, equals, _ = word.partition("=")
        assert f"$({name})" in MAKEFILE or not equals, f"the Makefile knows no {name}"
    dry = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr


@pytest.mark.parametrize("command", of("docker", whole=None))
def test_docker_finds_what_is_named(command: CommandLine, only_read: None) -> None:
    words = list(command.words)
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    profiles = {
        profile for service in compose["services"].values() for profile in service.get("profiles", ())
    }
    for option, value in pairwise(words):
        if option == "--profile":
            assert value in profiles
        if option == "-f":
            assert (ROOT / value).is_file()
        if option == "--target":
            assert f" AS {value}\n" in dockerfile
        if option == "-e":
            assert value.partition("=")[0] in settings_variables()
    if words[1] == "run":
        image = next(number for number, word in enumerate(words) if word.startswith("googlenet-detector"))
        read_detector(words[image + 1 :] or ["serve"])


@pytest.mark.parametrize("command", of("pip", "git"))
def test_packages_and_commits_are_there(command: CommandLine) -> None:
    if command.program == "pip":
        for word in command.words:
            for extra in re.findall(r"googlenet-detector\[([\w,-]+)\]", word):
                assert set(extra.split(",")) <= set(EXTRAS)
        return
    if not (ROOT / ".git").exists():
        pytest.skip("no history beside the files")
    path = command.words[command.words.index(">") - 1]
    commit = path.partition(":")[0]
    known = subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, capture_output=True, check=False)
    if known.returncode:
        pytest.skip(f"the history here does not reach {commit}")
    assert subprocess.run(["git", "cat-file", "-e", path], cwd=ROOT, check=False).returncode == 0


PLATFORMS: tuple[tuple[PlatformName, ...], ...] = (
    (PlatformName.OPEN_INFERENCE, PlatformName.SAGEMAKER, PlatformName.LABEL_STUDIO),
    (PlatformName.VERTEX,),
)
"""Those that one service can speak."""


@pytest.fixture(scope="module")
def service() -> Iterator[httpx.Client]:
    """The service as ``make serve`` starts it, but that it speaks the platforms' interfaces too, and gives a
    busy machine time: what is typed has to be answered, however long it takes."""
    settings = Settings(device="cpu", platforms=PLATFORMS[0], timeout_seconds=300)
    with serve(create_app(settings), settings) as client:
        wait_until_ready(client)
        yield client


def asked_here(text: str, service: httpx.Client) -> str:
    """What a page says, asked of the service of the tests."""
    return re.sub(r"localhost:80[08]0", service.base_url.netloc.decode(), text)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("command", of("curl", whole=True))
def test_curl_is_answered(command: CommandLine, service: httpx.Client, tmp_path: Path) -> None:
    """As it stands but for the port; files that it writes go elsewhere."""
    words = [asked_here(word, service) for word in command.words]
    words = [word.replace("@examples/", f"@{ROOT}/examples/") for word in words]
    done = subprocess.run(
        [*words, "--fail-with-body", "--silent"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


def test_the_reply_of_the_readme_is_that_of_today(service: httpx.Client) -> None:
    [shown] = [orjson.loads(block) for language, block in blocks(TEXTS["README.md"]) if language == "json"]
    body = (ROOT / "examples/cat.jpg").read_bytes()
    reply = service.post(
        "/detect?score_threshold=0.5", content=body, headers={"Content-Type": "image/jpeg"}
    ).json()
    assert list(reply) == list(shown)
    assert list(reply["timing_ms"]) == list(shown["timing_ms"])
    [found], [expected] = reply["detections"], shown["detections"]
    assert (found["label"], found["wnid"]) == (expected["label"], expected["wnid"])
    assert found["score"] == pytest.approx(expected["score"], abs=0.02), "of another engine or precision"
    assert list(found["box"].values()) == pytest.approx(list(expected["box"].values()), abs=3)


def every_option() -> set[str]:
    """The options of all commands."""
    commands: list[tuple[str, ...]] = [("serve",)]
    for name, command in entry.OWN.items():
        commands += [(name,)] if isinstance(command, entry.Command) else [(name, each) for each in command]
    for name, further in (("train", _TRAIN), ("evaluate", _EVALUATE), ("check", _CHECK)):
        commands += [(name, each) if each else (name,) for each in further]
    return {option for words in commands for option in re.findall(r"--[a-z][a-z0-9-]*", help_of(*words))}


OTHERS_OPTIONS = {"--max-restarts", "--profile", "--scale", "--nproc-per-node", "--ilsvrc", "--save"}
"""Of torchrun, Compose and the scripts of benchmarks/."""


@pytest.mark.parametrize("page", TEXTS)
def test_options_of_sentences_are_there(page: str) -> None:
    named = {
        word.partition("=")[0]
        for span in code_spans(TEXTS[page])
        if span.startswith("--")
        for word in span.split()
        if word.startswith("--")
    }
    assert named <= every_option() | OTHERS_OPTIONS


def settings_variables() -> set[str]:
    return {f"DETECTOR_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("page", TEXTS)
def test_what_sentences_name_is_there(page: str) -> None:
    """Settings of the service, extras, routes and files of the project."""
    text = TEXTS[page]
    assert set(re.findall(r"\bDETECTOR_[A-Z_]+\b", text)) <= settings_variables()
    for extra in re.findall(r"googlenet-detector\[([\w,-]+)\]", text):
        assert set(extra.split(",")) <= set(EXTRAS)
    routes = set(create_app(Settings()).openapi()["paths"])
    for names in PLATFORMS:
        for platform in open_platforms(Settings(platforms=names)):
            routes |= {*platform.work, *platform.polled}
    for span in code_spans(text):
        if route := re.fullmatch(r"(?:GET|POST) (/[a-z/]*)(?:\?.*)?", span):
            assert route[1] in routes
        if re.fullmatch(r"(detector|api|training|benchmarks|tests|docs|docker|examples)/[\w/.-]+", span):
            there = (ROOT / span).exists() or list(ROOT.glob(f"{span}.*"))
            assert there or "/mine/" in span, f"there is no {span}"


@pytest.fixture
def readers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that snippets and commands of the pages speak of."""
    for name in ("street.jpg", "cat.jpg", "photos/one.jpg", "examples/cat.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / "examples/cat.jpg", tmp_path / name)
    (tmp_path / "runs/pictures").mkdir(parents=True)
    (tmp_path / "runs/pictures/detector.safetensors").symlink_to(SHIPPED)
    for data in ("screws", "pictures"):
        for split, count in (("train", 3), ("val", 1)):
            for number in range(count):
                for kind in ("images", "labels"):
                    (tmp_path / data / kind / split).mkdir(parents=True, exist_ok=True)
                name = f"{split}/{split}{number}"
                Image.new("RGB", (64, 64), (80 * number, 90, 40)).save(tmp_path / data / f"images/{name}.png")
                (tmp_path / data / f"labels/{name}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
        yaml_text = "names: [screw]\ntrain: images/train\nval: images/val\n"
        (tmp_path / data / "data.yaml").write_text(yaml_text)
    job = ShardBuilder(0, "job")
    job.add_error("photos/two.jpg", "no such file or directory")
    (tmp_path / "found").mkdir()
    (tmp_path / "found/part-00000.parquet").write_bytes(job.finish().data)
    (tmp_path / "mine.txt").write_text("train0\ntrain1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


SNIPPETS = [
    pytest.param(block, id=f"{page}-{number}")
    for page, text in TEXTS.items()
    for number, (language, block) in enumerate(blocks(text))
    if language == "python"
]


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run(snippet: str, readers_folder: Path, request: pytest.FixtureRequest) -> None:
    """As they stand, after the import that the page has shown before."""
    before: dict[str, Any] = {}
    if "localhost" in snippet:
        snippet = asked_here(snippet, request.getfixturevalue("service"))
    exec("from detector import load, load_detector", before)
    exec(compile(ast.parse(snippet), "snippet", "exec"), before)


RUN = (
    "weights show",
    "detect photos/ street.jpg",
    "classify cat.jpg --crops 10",
    "check pictures",
    "serve --help",
)
"""The beginnings of those commands that are done within seconds."""

QUICK = [
    case
    for case in of("detector", whole=True)
    if " ".join(case.values[0].words[1:]).startswith(RUN)  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("command", QUICK)
def test_quick_ones_do_what_they_say(command: CommandLine, readers_folder: Path) -> None:
    status, text = printed(entry.main, *command.words)
    assert status == 0, text
    for option, value in pairwise(command.words):
        if option in ("--json", "--draw", "--report", "--chart"):
            assert (readers_folder / value).exists(), f"{option} {value}"


def test_each_of_the_quick_ones_is_on_a_page() -> None:
    lines = [" ".join(case.values[0].words[1:]) for case in QUICK]  # type: ignore[attr-defined]
    for beginning in RUN:
        assert any(line.startswith(beginning) for line in lines), f"{beginning} is on no page any more"
