"""What a run's figures depend on besides its options: the code, the machine, the packages; and the command
as somebody else would type it.

Nothing here tells whose machine it was: no host, no user, no folder outside the project.
"""

import os
import platform
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import detector
from detector.evaluation.run_record import Code, Hardware
from detector.inference.graph_engine import cpu_flags
from detector.inference.placement import choose_engine, device_of

ROOT = Path(detector.__file__).resolve().parents[1]
"""The folder of the project, where it is run from a checkout."""
WRITTEN = ("benchmarks/runs", "docs/benchmarks.md")
"""What benchmarks write themselves: a change of it is no change of the code."""

PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
    "numba": "numba",
    "numpy": "numpy",
    "opencv": "opencv-python-headless",
}
"""By the names that they are known by."""

_INSTRUCTIONS: Mapping[str, Collection[str]] = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16", "bf16"},
    "AMX": {"amx_tile"},
    "NEON": {"asimd"},
    "I8MM": {"i8mm"},
    "SVE": {"sve"},
}
_VARIABLE = "OMP_NUM_THREADS"
"""Of all variables the one that moves every figure."""


def hardware(device: str = "cpu") -> Hardware:
    """Return what this machine has; its GPU where ``device`` (auto, cpu, cuda or cuda:N) means it."""
    flags = cpu_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = tuple(name for name, of in _INSTRUCTIONS.items() if flags & set(of))
    return Hardware(_processor(), cores, found, _gpu(device))


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def code(root: Path = ROOT) -> Code:
    """Return the commit that ``root`` is at; files that Git does not follow are no part of it."""
    if not (root / ".git").exists():
        return Code()
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    others = [f":(exclude){path}" for path in WRITTEN]
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *others)
    return Code() if commit is None or changed is None else Code(commit, not changed)


def command_line(
    arguments: Sequence[str],
    *,
    data: Path | None = None,
    called: str | None = None,
    without: Collection[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> str:
    """Return a command of ``sys.argv`` as a reader would type it, from the project's folder.

    ``called`` stands for the path ``data`` and for what is below it; other paths outside the project are cut
    to their last name. Options of ``without`` are left out, each with its value.
    """
    words, rest = [], iter(arguments[1:])
    for word in rest:
        if word in without:
            next(rest, None)
        elif word.partition("=")[0] not in without:
            words.append(_shortened(word, data, called))
    variable = environment.get(_VARIABLE)
    before = [f"{_VARIABLE}={variable}"] if variable else []
    return shlex.join([*before, *_program(Path(arguments[0])), *words])


def data_name(data: Path, called: str | None = None) -> str:
    """Return what a page calls a folder of data: as its caller wants, or by its own name."""
    return called or _shortened_path(os.fspath(data))


def _program(path: Path) -> list[str]:
    script = path.resolve()
    if script.suffix != ".py" or script == ROOT / "detector/cli/entry.py":
        return ["detector"]
    return ["python", script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name]


def _shortened(word: str, data: Path | None, called: str | None) -> str:
    """Shorten the paths of a word: ``path``, ``--option=path`` or ``path:path``."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    parts = []
    for part in value.split(os.pathsep):
        if data is not None and called and Path(part).is_relative_to(data):
            parts.append((Path(called) / Path(part).relative_to(data)).as_posix())
        else:
            parts.append(_shortened_path(part))
    return option + equals + os.pathsep.join(parts) if equals or not word.startswith("--") else word


def _shortened_path(text: str) -> str:
    path = Path(text)
    if path.parts[:1] == (os.pardir,):
        path = path.resolve()
    if not path.is_absolute() and not text.startswith("~"):
        return text
    inside = path.is_relative_to(ROOT) and path != ROOT
    return path.relative_to(ROOT).as_posix() if inside else path.name


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _gpu(device: str) -> str | None:
    """Return the name of the GPU that a device is, or None. Raises ParameterError where there is no such."""
    place = device_of(choose_engine("auto", device), device)
    if not place.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(place))


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
