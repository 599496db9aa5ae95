"""The wheel: what is installed from it, without the sources beside it, does what the checkout does."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel and, of this one, what the wheel depends on.

    The dependencies are found by a path file, whose own path files are not read: an editable installation of
    the sources is not seen.
    """
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    listed = subprocess.run(
        [
            "git",
            "-C",
            ROOT,
            "ls-files",
            "-z",
            "*.py",
            "detector",
            "api",
            "training",
            "pyproject.toml",
            "*.md",
            "LICENSE",
        ],
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("no git checkout, whose files would be packaged")
    for name in set(filter(None, listed.stdout.split("\0"))):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    _run(
        [
            sys.executable,
            "-c",
            "import setuptools.build_meta as build, sys; build.build_wheel(sys.argv[1])",
            folder,
        ],
        cwd=sources,
    )
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python"]
    _run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], cwd=folder)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    shutil.rmtree(sources)
    return environment / "bin"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "photo.png")
    return path


def test_it_detects(installed: Path, photo: Path, tmp_path: Path) -> None:
    _run([installed / "detector", "detect", photo, "--json", tmp_path / "found.json"], cwd=tmp_path)
    (entry,) = json.loads((tmp_path / "found.json").read_text())
    assert Path(entry["image"]).name == "photo.png"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--version"], r"^detector \d+\.\d+", id="version"),
        pytest.param(["weights", "verify"], "is whole", id="the shipped weights are in it"),
        pytest.param(["serve", "--help"], "detector serve", id="the service's command"),
        pytest.param(["train", "--help"], "usage: detector train", id="training's command"),
        pytest.param(["--help"], "check .* evaluate .* serve .* train", id="all commands"),
        pytest.param(
            ["export", "network.onnx", "--task", "classify"],
            "network.onnx: ",
            id="with pictures to verify on",
        ),
    ],
)
def test_its_commands_work(installed: Path, arguments: list[str], says: str, tmp_path: Path) -> None:
    assert re.search(says, " ".join(_run([installed / "detector", *arguments], cwd=tmp_path).split()))


def test_nothing_comes_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import detector, api, training; print(detector.__file__, api.__file__, training.__file__)"
    files = _run([installed / "python", "-P", "-c", code], cwd=tmp_path).split()
    assert len(files) == 3
    assert all(Path(file).is_relative_to(installed.parent) for file in files)


@pytest.fixture
def port(installed: Path, tmp_path: Path) -> Iterator[int]:
    """Of ``detector serve``, once it is ready."""
    environment = {**os.environ, "DETECTOR_PORT": "0", "DETECTOR_HOST": "127.0.0.1", "DETECTOR_DEVICE": "cpu"}
    process = subprocess.Popen(
        [installed / "detector", "serve"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        found = None
        for line in process.stderr:
            found = found or re.search(r"127\.0\.0\.1:(\d+)", line)
            if "Ready" in line:
                break
        assert found is not None, "the service ended before it was ready"
        yield int(found[1])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_it_serves(port: int, photo: Path) -> None:
    request = Request(
        f"http://127.0.0.1:{port}/detect", photo.read_bytes(), {"Content-Type": "application/octet-stream"}
    )
    with urlopen(request, timeout=SECONDS) as response:
        assert "detections" in json.load(response)
    with urlopen(f"http://127.0.0.1:{port}/", timeout=SECONDS) as response:
        assert b"<html" in response.read()


def _run(command: list[str | Path], *, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
