"""Count the source files that one picture crosses, from ``POST /detect`` to its reply.

    python benchmarks/request_path.py examples/cat.jpg

Starts the service with a profiler in both of its processes, sends the picture twice and lists, for the second
time, each file of ``api`` and ``detector`` in which a function was entered for it, in the order of first
entry: the files that somebody reads who follows a request through the code. What goes on besides (reports,
the care for workers and connections) does not count, nor do files that only define types or constants.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import httpx
import psutil
from tyro.conf import Positional, arg

from detector.cli.command_line import run_script
from detector.cli.run_saving import NOT_SAVED, Benchmark, SavingOptions
from detector.evaluation.measured_table import Column, Table
from detector.evaluation.run_record import Data

ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = Benchmark(
    "request_path",
    "The files that one picture crosses",
    "Each source file in which a function is entered for one picture, from `POST /detect` to its reply: what "
    "somebody reads who follows a request through the code.",
)

DECODING = "detector/io/decoding.py"

_HOOK = """
import os, signal, sys, threading, time
ROOTS = tuple(os.path.join(os.environ["REQUEST_PATH_ROOT"], name) + os.sep for name in ("api", "detector"))
BACKGROUND = {"_supervise", "_report", "_reported", "_sweep"}
entered = {}
def in_background(frame):
    while frame is not None:
        if frame.f_code.co_name in BACKGROUND:
            return True
        frame = frame.f_back
    return False
def profile(frame, event, argument):
    if event == "call":
        name = frame.f_code.co_filename
        if name not in entered and name.startswith(ROOTS) and not in_background(frame):
            entered[name] = time.monotonic()
def clear(*_):
    entered.clear()
def tell(*_):
    with open(os.path.join(os.environ["REQUEST_PATH_OUT"], str(os.getpid())), "w") as file:
        for name, when in list(entered.items()):
            file.write(f"{when} {name}\\n")
    os.rename(file.name, file.name + ".done")
signal.signal(signal.SIGUSR1, clear)
signal.signal(signal.SIGUSR2, tell)
threading.setprofile(profile)
sys.setprofile(profile)
"""
"""A ``sitecustomize`` module: SIGUSR1 forgets what was entered, SIGUSR2 writes it down."""


def main(
    image: Annotated[Path, Positional, arg(help="A picture.")], saving: SavingOptions = NOT_SAVED
) -> None:
    """Print the files, in the order of first entry, and their numbers."""
    data = image.read_bytes()
    with saving.recording(BENCHMARK, Data(saving.name_of(image)), "fast, 5 regions", folder=image) as run:
        run.show(_table(_entered(data)))


def _entered(image: bytes) -> list[tuple[float, str, str]]:
    """Run the service and send it the picture; (time, process, file) of what was entered for it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(_HOOK)
        environment = os.environ | {
            "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
            "REQUEST_PATH_OUT": folder,
            "REQUEST_PATH_ROOT": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "api", "--port", str(port), "--device", "cpu"]
        command += ["--max-proposals", "5", "--log-level", "warning"]
        front = psutil.Popen(command, env=environment, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            return _trace(front, f"http://127.0.0.1:{port}", image, Path(folder))
        finally:
            front.terminate()
            front.wait()


def _table(entered: list[tuple[float, str, str]]) -> Table:
    start, decoded = entered[0][0], next(when for when, _, name in entered if name == DECODING)
    names = {name for _, _, name in entered}
    before = {name for when, _, name in entered if when < decoded}
    return Table.of(
        "",
        [Column("file"), Column("process"), Column("first entered after", "ms", ".1f")],
        [[name, process, (when - start) * 1000] for when, process, name in entered],
        [f"{len(names)} files, {len(before)} before the picture is decoded; the profiler slows all of it."],
    )


def _trace(front: psutil.Popen, url: str, image: bytes, folder: Path) -> list[tuple[float, str, str]]:
    """Send the picture; (time, process, file) of what was entered for it, in order."""
    with httpx.Client(base_url=url, timeout=300) as client:
        while True:
            try:
                if client.get("/health/ready").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        processes = {"front": front, "worker": front.children()[0]}
        client.post("/detect?profile=fast", content=image).raise_for_status()
        for process in processes.values():
            process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        client.post("/detect?profile=fast", content=image).raise_for_status()
    entered = []
    for role, process in processes.items():
        process.send_signal(signal.SIGUSR2)
        told = folder / f"{process.pid}.done"
        while not told.exists():
            time.sleep(0.05)
        for line in told.read_text().splitlines():
            when, name = line.split(" ", 1)
            entered.append((float(when), role, str(Path(name).relative_to(ROOT))))
    return sorted(entered)


if __name__ == "__main__":
    run_script(main)
