"""Compiled code is kept where that can be done, and nothing depends on it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

JIT_CACHE = Path(__file__).parents[2] / "detector" / "jit_cache.py"

NOBODY = 65533
"""A user whom the system does not know."""

# Compiles one small function of a module of its own. Prints what it gives, and whether it came from the disk.
SCRIPT = """
import importlib.util, logging, os, sys
user = int(sys.argv[1])
spec = importlib.util.spec_from_file_location("jit_cache", sys.argv[3])  # alone: the package loads torch
sys.modules["jit_cache"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.path.insert(0, sys.argv[2])
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
logging.basicConfig(format="LOG %(message)s", stream=sys.stdout)
import small
print(small.twice(21), dict(small.twice.stats.cache_hits) != {}, small.thrice(2.0))
"""

MODULE = """
from jit_cache import cached_njit

@cached_njit(nogil=True)
def twice(x):
    return x * 2

@cached_njit(nogil=True)
def thrice(x):
    return x * 3
"""


@pytest.fixture
def source() -> Iterator[Path]:
    """The folder of the module, which all may enter as all may enter its folder, unlike pytest's own.

    There are others for what may be a home and a folder of temporary files.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        for name in ("source", "home", "temporary"):
            (folder / name).mkdir(mode=0o755)
        (folder / "source" / "small.py").write_text(MODULE)
        yield folder / "source"


def run(source: Path, user: int = 0, **variables: str | None) -> str:
    """What the script prints in a process of a user, 0 being this one."""
    places = {"HOME": str(source.parent / "home"), "TMPDIR": str(source.parent / "temporary")}
    hidden = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {name: value for name, value in (places | variables).items() if value is not None}
    for name in [name for name, value in variables.items() if value is None]:
        environment.pop(name, None)
    command = [sys.executable, "-c", SCRIPT, str(user), str(source), str(JIT_CACHE)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=source.parent
    )
    return done.stdout.strip()


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("small.*.jit"))


def test_code_is_kept_beside_the_source(source: Path) -> None:
    assert run(source) == "42 False 6.0"
    assert len(kept(source / "__pycache__")) == 2
    assert run(source) == "42 True 6.0"


def test_changed_source_is_compiled_anew(source: Path) -> None:
    run(source)
    (source / "small.py").write_text(MODULE.replace("x * 2", "x * 2 + 1"))
    assert run(source) == "43 False 6.0"


def test_code_for_another_processor_is_not_run(source: Path) -> None:
    run(source)
    assert run(source, NUMBA_CPU_NAME="generic") == "42 False 6.0"
    assert run(source) == "42 True 6.0"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _exchanged(path: Path) -> None:
    """The code of one function under the name of another."""
    other = next(one for one in path.parent.glob("small.*.jit") if one != path)
    path.write_bytes(other.read_bytes())


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(_cut, id="cut off"),
        pytest.param(_flipped, id="a bit flipped"),
        pytest.param(_exchanged, id="of another function"),
        pytest.param(_pipe, id="a pipe"),
        pytest.param(_link, id="a link"),
        pytest.param(lambda path: path.chmod(0o666), id="for everybody to write"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_as_good_as_none(
    source: Path, damage: Callable[[Path], object]
) -> None:
    run(source)
    for path in source.rglob("small.twice*.jit"):
        damage(path)
    assert run(source).endswith("42 False 6.0")
    assert run(source) == "42 True 6.0"  # it was written anew


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
class TestAsNobody:
    """As a user without any rights, to whom the source does not belong."""

    @pytest.fixture(autouse=True)
    def reachable(self) -> None:
        code = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); import numba"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("other users cannot read this environment")

    @pytest.mark.parametrize("home", [None, "/nonexistent", "", "relative"])
    def test_nowhere_to_write(self, source: Path, home: str | None) -> None:
        for _ in range(2):
            lines = run(source, NOBODY, HOME=home).splitlines()
            assert lines[-1] == "42 False 6.0"
            said = [line for line in lines if "in memory" in line]
            assert len(said) == len(lines) - 1 == 1  # once, of two functions
            assert "NUMBA_CACHE_DIR" in said[0]
        assert not kept(source.parent)

    def test_a_folder_of_one_s_own_for_temporary_files(self, source: Path) -> None:
        temporary = source.parent / "temporary"
        temporary.chmod(0o1777)
        assert run(source, NOBODY, HOME=None) == "42 False 6.0"
        assert run(source, NOBODY, HOME=None) == "42 True 6.0"
        assert (temporary / f"googlenet-detector-{NOBODY}").stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("kind", ["folder of another user", "link"])
    def test_a_folder_that_somebody_else_made_there(self, source: Path, kind: str) -> None:
        temporary, target = source.parent / "temporary", source.parent / "target"
        temporary.chmod(0o1777)
        target.mkdir()
        target.chmod(0o777)
        place = temporary / f"googlenet-detector-{NOBODY}"
        if kind == "link":
            place.symlink_to(target)
        else:
            place.mkdir()
            place.chmod(0o777)
        assert "in memory" in run(source, NOBODY, HOME=None)
        assert not kept(source.parent)

    def test_code_that_somebody_else_wrote(self, source: Path) -> None:
        """A pickle of another user would have code of his run."""
        shared = source.parent / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        run(source, NOBODY, NUMBA_CACHE_DIR=str(shared))
        assert kept(shared)
        said = run(source, NOBODY - 1, NUMBA_CACHE_DIR=str(shared)).splitlines()
        assert said[-1] == "42 False 6.0"
        assert "others could have put it there" in said[0]

    def test_code_that_root_wrote_is_read_where_nothing_can_be_written(self, source: Path) -> None:
        run(source)
        assert run(source, NOBODY, HOME=None) == "42 True 6.0"

    @pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"])
    def test_folders_of_the_user(self, source: Path, variable: str) -> None:
        folder = source.parent / "mine"
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        for hit in (False, True):
            assert run(source, NOBODY, **{variable: str(folder)}) == f"42 {hit} 6.0"
        assert kept(folder)
