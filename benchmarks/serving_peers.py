"""What the service is measured against: the same Detector, served as one would without this project.

    python benchmarks/serving_peers.py bare --batch 16 a.jpg b.jpg    # in process, no server
    DETECTOR_PORT=8000 python benchmarks/serving_peers.py plain       # FastAPI, a `def` endpoint
    DETECTOR_PORT=8000 python benchmarks/serving_peers.py locked      # the same, one picture at a time

``plain`` is what FastAPI's tutorial leads to: one Detector for the process, `def detect(file: UploadFile)`,
which FastAPI calls in its pool of 40 threads. ``locked`` adds the lock that one adds after seeing forty
threads share two cores. LitServe has a file of its own, serving_litserve.py. Each answers the same JSON, and
knows neither limits nor refusals.
"""

import argparse
import json
import os
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile
from loadtest.figures import OthersTime

from detector.inference.detector import Detector
from detector.inference.loading import load_detector
from detector.io.decoding import decode
from detector.structures.detections import Detections

HEALTH = "/health"
WARM_UP_IMAGES = 3
"""Not timed, by any contender."""
WARM_UP = Path(__file__).resolve().parents[1] / "examples" / "cat.jpg"


def main() -> None:
    """Serve until the end, or print figures as JSON (``bare``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["bare", "plain", "locked"])
    parser.add_argument("pictures", nargs="*", type=Path, help="for bare: files, each as often as named")
    add_options(parser)
    given = parser.parse_intermixed_args()
    detector = load_detector(given.weights, **settings_of(given))
    if given.kind == "bare":
        json.dump(in_process(detector, given.images, given.batch), sys.stdout)
        return
    lock = threading.Lock() if given.kind == "locked" else nullcontext()
    uvicorn.run(
        plain_app(detector, lock), port=int(os.environ.get("DETECTOR_PORT", "8000")), log_level="warning"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every contender is told."""
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--profile", default="balanced")
    parser.add_argument("--max-proposals", type=int)
    parser.add_argument("--batch", type=int, default=16, help="most pictures a call")


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """The Detector's."""
    return {"device": given.device, "profile": given.profile, "max_proposals": given.max_proposals}


def in_process(detector: Detector, paths: list[Path], batch: int) -> dict[str, Any]:
    """Seconds of every picture on its own, and of all of them in calls of ``batch``; bytes to dicts."""
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
    """The endpoint that FastAPI's tutorial leads to."""
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
    """What every contender answers."""
    return {"detections": found.as_dicts(detector.classes)}


if __name__ == "__main__":
    main()
