"""What the service is measured against: the same Detector, served as one would without this project.

    python benchmarks/serving_peers.py bare --batch 16 a.jpg b.jpg    # in process, no server
    DETECTOR_PORT=8000 python benchmarks/serving_peers.py plain       # FastAPI, a `def` endpoint
    DETECTOR_PORT=8000 python benchmarks/serving_peers.py locked      # the same, one picture at a time

``plain`` is what FastAPI's tutorial leads to: one Detector for the process, `def detect(file: UploadFile)`,
which FastAPI calls in its pool of 40 threads. ``locked`` adds the lock that one adds after seeing forty
threads share two cores. LitServe has a file of its own, serving_litserve.py. Each answers the same JSON, and
knows neither limits nor refusals.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, UploadFile
from loadtest.figures import OthersTime
from tyro.conf import OmitArgPrefixes, Positional, arg

from detector.cli.command_line import at_least, run_script
from detector.inference.detector import Detector
from detector.inference.loading import load_detector
from detector.io.decoding import decode
from detector.structures.detections import Detections

HEALTH = "/health"
WARM_UP_IMAGES = 3
"""Not timed, by any contender."""
WARM_UP = Path(__file__).resolve().parents[1] / "examples" / "cat.jpg"


class Kind(StrEnum):
    """Which way of serving."""

    BARE = "bare"
    PLAIN = "plain"
    LOCKED = "locked"


@dataclass(frozen=True)
class Options:
    """Options that all contenders share."""

    weights: Path | None = None
    """A checkpoint; the shipped one if not given."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    profile: str = "balanced"
    """Where to look."""
    max_proposals: int | None = None
    """Regions a picture, at most; 20 makes a quick run on a CPU."""
    batch: Annotated[int, at_least(1)] = 16
    """Pictures a call for bare and LitServe."""

    def arguments(self) -> list[str]:
        """Write the options as words of a command line."""
        given = {f"--{name.replace('_', '-')}": value for name, value in asdict(self).items()}
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]

    def detector(self) -> Detector:
        """Load the detector."""
        return load_detector(
            self.weights, device=self.device, profile=self.profile, max_proposals=self.max_proposals
        )


def main(
    kind: Annotated[Kind, Positional, arg(help="bare, plain or locked.")],
    images: Annotated[Sequence[Path], Positional, arg(help="For bare: files, each as often as named.")] = (),
    options: Annotated[Options, OmitArgPrefixes] = Options(),
) -> None:
    """Serve until the end, or print figures as JSON (bare)."""
    detector = options.detector()
    if kind is Kind.BARE:
        json.dump(in_process(detector, images, options.batch), sys.stdout)
        return
    lock = threading.Lock() if kind is Kind.LOCKED else nullcontext()
    uvicorn.run(
        plain_app(detector, lock), port=int(os.environ.get("DETECTOR_PORT", "8000")), log_level="warning"
    )


def in_process(detector: Detector, paths: Sequence[Path], batch: int) -> dict[str, Any]:
    """Measure the seconds of every picture on its own, and of all of them in calls of ``batch``; bytes to
    dicts."""
    files = {path: path.read_bytes() for path in paths}
    bodies = [files[path] for path in paths]
    for body in bodies[:WARM_UP_IMAGES]:
        detector.detect([decode(body)])  # compiled code and memory are in place
    others = OthersTime()
    singly = []
    for body in bodies:
        start = time.perf_counter()
        (found,) = detector.detect([decode(body)])
        reply(detector, found)
        singly.append(time.perf_counter() - start)
    start, count = time.perf_counter(), 0
    for first in range(0, len(bodies), batch):
        images = [decode(body) for body in bodies[first : first + batch]]
        count += sum(len(reply(detector, found)["detections"]) for found in detector.detect(images))
    took = time.perf_counter() - start
    return {"singly": singly, "together": took, "detections": count, "others": others.cores()}


def plain_app(detector: Detector, lock: AbstractContextManager[Any]) -> FastAPI:
    """Return the endpoint that FastAPI's tutorial leads to."""
    app = FastAPI()
    detector.detect([decode(WARM_UP.read_bytes())])

    @app.post("/detect")
    def detect(file: UploadFile) -> dict[str, Any]:
        image = decode(file.file.read())
        with lock:
            (found,) = detector.detect([image])
        return reply(detector, found)

    @app.get(HEALTH)
    def health() -> str:
        return "ok"

    return app


def reply(detector: Detector, found: Detections) -> dict[str, Any]:
    """Return what every contender answers."""
    return {"detections": found.as_dicts(detector.classes)}


if __name__ == "__main__":
    run_script(main)
