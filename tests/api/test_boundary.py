"""The front and the worker share messages and logs, and nothing else."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "api.frontend": {"api.frontend", "api.observability", "api.protocol"},
    "api.worker": {"api.worker", "api.observability", "api.protocol"},
    "api.observability": {"api.observability", "api.protocol"},
    "api.protocol": {"api.protocol"},
}
"""The packages of the service that each of them may import."""

HEAVY = ("torch", "torchvision", "numba", "cv2")


def modules(package: str) -> list[str]:
    """All modules of a package by their full names, but for those that run when they are imported."""
    files = (ROOT / package.replace(".", "/")).rglob("*.py")
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(files)]
    return [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]


def imported(file: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_who_imports_whom(package: str) -> None:
    files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
    assert files
    for file in files:
        own = {".".join(name.split(".")[:2]) for name in imported(file) if name.startswith("api.")}
        assert own <= MAY_IMPORT[package], file


@pytest.mark.parametrize("package", ["api.frontend", "api.protocol", "api.observability"])
def test_only_the_worker_needs_the_libraries_of_networks(package: str) -> None:
    """The front starts in a second, and is small."""
    names = modules(package)
    code = f"import sys, {', '.join(names)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
