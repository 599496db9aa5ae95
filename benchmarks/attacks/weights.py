"""Damaged weights: refused at the start, and by SIGHUP, which leaves all as it was."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loadtest.processes import ROOT, service
from loadtest.trial import Trial

from attacks.switching import state
from detector.pretrained import SHIPPED

Header = dict[str, Any]
METADATA = "googlenet-detector"


def weights(settings: Mapping[str, object], *, seconds: float = 8) -> Trial:
    """Try each damaged file by ``detector weights verify``, then by SIGHUP to a service with good weights."""
    trial = Trial("damaged weights")
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served.safetensors"
        shutil.copy(SHIPPED, served)
        refused = kept = 0
        files = dict(damaged(SHIPPED.read_bytes()))
        with service({**settings, "weights": served}) as server:
            before = state(server), [worker.pid for worker in server.workers()]
            for name, data in files.items():
                next_one = Path(folder) / "next.safetensors"
                next_one.write_bytes(data)
                command = [sys.executable, "-m", "detector.cli.entry", "weights", "verify", str(next_one)]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
                clean = done.returncode != 0 and "Traceback" not in done.stderr
                refused += clean
                trial.check(clean, f"{name}: verify ended with {done.returncode}: {done.stderr[-200:]}")
                next_one.replace(served)
                os.kill(server.process.pid, signal.SIGHUP)
                time.sleep(seconds)
                after = state(server), [worker.pid for worker in server.workers()]
                kept += after == before
                trial.check(after == before, f"{name}: after SIGHUP there are {after[0]}")
            trial.figures["refused by verify, by SIGHUP"] = f"{refused} and {kept} of {len(files)}"
    return trial


def damaged(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies of a checkpoint, with what is wrong with them."""
    (length,) = struct.unpack("<Q", good[:8])
    header, data = json.loads(good[8 : 8 + length]), good[8 + length :]

    def with_metadata(change: Callable[[Header], None]) -> bytes:
        changed = json.loads(json.dumps(header))
        metadata = json.loads(changed["__metadata__"][METADATA])
        change(metadata)
        changed["__metadata__"][METADATA] = json.dumps(metadata)
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    yield "one bit flipped", good[:-100_001] + bytes([good[-100_001] ^ 4]) + good[-100_000:]
    yield "cut in half", good[: len(good) // 2]
    yield "not a number", good[: 8 + length] + b"\xff\x7e" * (len(data) // 2)
    yield "zeros at the end", good[:-4096] + bytes(4096)
    yield "empty", b""
    yield "text", b"hello"
    yield "standard deviation 0", with_metadata(lambda found: found["preprocessing"].update(std=[0, 0, 0]))
    yield "size 0", with_metadata(lambda found: found["preprocessing"].update(size=0))
    yield "no architecture", with_metadata(lambda found: found.pop("architecture"))
    yield "classes are a number", with_metadata(lambda found: found.update(detection=5))
