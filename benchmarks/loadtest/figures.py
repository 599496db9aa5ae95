"""Figures that the benchmarks of the service print."""

import math
import os
import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from loadtest.client import Answer


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of the values do not exceed; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def milliseconds(seconds: float) -> str:
    """Return ``12.3`` for small ones, whole ones above a hundred, ``-`` for nan."""
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def outcomes(answers: Iterable[Answer]) -> Counter[str]:
    """Return how many requests ended in which way: "200", "429 overloaded", "reset"."""
    return Counter(
        f"{one.outcome} {one.code}" if one.outcome >= "4" and one.code else one.outcome for one in answers
    )


def in_words(counts: Counter[str]) -> str:
    """Return ``200: 31, 429 overloaded: 5``."""
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())) or "none"


def in_short(settings: Mapping[str, object]) -> str:
    """Say a service's settings but for its weights: ``device cpu, profile fast, at most 20 regions``."""
    most = settings.get("max_proposals")
    regions = f"at most {most} regions" if most else "as many regions as the profile takes"
    return f"device {settings['device']}, profile {settings['profile']}, {regions}"


class OwnTime:
    """The share of one core that this process, the client, takes."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = self._used()

    def share(self) -> float:
        """Return the share of a core that was used since this was made."""
        return (self._used() - self._cpu) / (time.monotonic() - self._wall)

    @staticmethod
    def _used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


class OthersTime:
    """How many cores' time processes take that have no part in a measurement: it shares the machine with
    them, and figures of two contenders only compare where this is small."""

    def __init__(self, *family: psutil.Process) -> None:
        """``family``: those that have a part, besides this process and the children they all have by now."""
        self._family = {
            one
            for parent in (psutil.Process(), *family)
            for one in (parent, *parent.children(recursive=True))
        }
        self._wall, self._busy, self._own = time.monotonic(), _busy(), self._used()

    def cores(self) -> float:
        """Return how many cores were used since this was made."""
        others = (_busy() - self._busy) - (self._used() - self._own)
        return max(0.0, others) / (time.monotonic() - self._wall)

    def _used(self) -> float:
        return sum(sum(one.cpu_times()[:2]) for one in self._family if one.is_running())


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def read_images(folder: Path, count: int) -> dict[str, bytes]:
    """Read at most ``count`` JPEG files under a folder, by name, spread evenly over all there are.

    Raises SystemExit where there are none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise SystemExit(f"error: {folder} holds no JPEG files: name another folder with --data")
    step = max(1, len(paths) // count)
    return {path.name: path.read_bytes() for path in paths[::step][:count]}


def machine() -> str:
    """Return what the figures were measured on, for their first line."""
    return f"{os.cpu_count()} CPU cores"
