"""`make docs`: the pages become a site, whole and without a warning."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import detector

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]


def pages(entries: list[dict[str, object]]) -> Iterator[str]:
    """The pages of a navigation, at all depths."""
    for entry in entries:
        for value in entry.values():
            if isinstance(value, list):
                yield from pages(value)
            else:
                yield str(value)


def test_every_page_can_be_reached() -> None:
    shown = set(pages(CONFIG["nav"]))
    written = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert shown - {path.name for path in ROOT.glob("*.md")} - {"examples/README.md"} == written


def test_the_reference_has_every_public_name() -> None:
    named = set(re.findall(r"^::: detector\.(\w+)$", (ROOT / "docs/reference.md").read_text(), re.MULTILINE))
    assert named == set(detector.__all__) - {"__version__"}


@pytest.mark.exhaustive
def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    """As the Makefile does it, in a copy."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in tracked.stdout.splitlines():
        if name.endswith((".py", ".md", ".png", ".jpg", ".toml", ".cff")) or name in ("LICENSE", "Makefile"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    make = ["make", "--old-file=.venv/.docs", "docs"]
    (tmp_path / ".venv/.docs").touch()
    done = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    reference = (tmp_path / "build/site/docs/reference/index.html").read_text()
    for name in set(detector.__all__) - {"__version__"}:
        assert f'id="detector.{name}"' in reference
    assert not re.search(r":(func|class|meth):", reference), "a role of Sphinx that nobody resolved"
