"""How many connections a limit of open files leaves."""

import subprocess
import sys

import pytest

SCRIPT = """
import logging, resource, sys
soft, hard, wanted = map(int, sys.argv[1:])
from api.frontend.connections.open_connections import Bounds
from api.frontend.settings import Settings
logging.basicConfig(stream=sys.stderr, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
bounds = Bounds.of(Settings(max_connections=wanted, device="cpu"))
print(bounds.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "least", "most", "told"),
    [
        pytest.param(1000, 1000, 100, 100, 100, False, id="room enough"),
        pytest.param(256, 4000, 1024, 1024, 1024, False, id="the soft limit is raised"),
        pytest.param(128, 128, 1024, 32, 64, True, id="what the hard limit leaves"),
        pytest.param(40, 40, 1024, 10, 10, True, id="hardly any room: a quarter"),
    ],
)
def test_open_files(soft: int, hard: int, wanted: int, least: int, most: int, told: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (soft, hard, wanted))],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    allowed, limit = map(int, done.stdout.split())
    assert least <= allowed <= most
    assert allowed < limit <= hard
    assert ("raise it (ulimit -n)" in done.stderr) == told
