"""Fixtures that every package's tests share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; the test skips where there is none."""
    if not (SHARED / "ilsvrc").is_dir():
        pytest.skip(f"shared data is absent (looked for {SHARED.name}/ beside the checkout)")
    return SHARED
