"""SIGHUP, and workers that die, at the worst moments."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import psutil
from loadtest.metrics import metric
from loadtest.processes import Server, service
from loadtest.trial import Trial

from detector.models.checkpoint import load_checkpoint, save_checkpoint
from detector.pretrained import SHIPPED

SETTLED = 60.0
"""Seconds within which there is one worker again, with the newest weights."""


def switching(settings: Mapping[str, object], *, rounds: int = 1) -> Trial:
    """Put new weights and send SIGHUP in each round, again before the switch is done, and kill or stop a
    worker."""
    trial = Trial("SIGHUP again during a switch, workers that die meanwhile")
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "served.safetensors"
        checkpoint = load_checkpoint(SHIPPED)

        def put(name: str) -> None:
            path = Path(folder) / "next.safetensors"
            save_checkpoint(path, replace(checkpoint, metadata=replace(checkpoint.metadata, name=name)))
            path.replace(served)

        shutil.copy(SHIPPED, served)
        with service({**settings, "weights": served}) as server:
            for number in range(rounds):
                for blow in ("nothing", "the old worker is killed", "the new worker is killed", "both are"):
                    name = f"round {number}, {blow}"
                    put("stale")
                    os.kill(server.process.pid, signal.SIGHUP)
                    time.sleep(1.5)
                    put(name)
                    os.kill(server.process.pid, signal.SIGHUP)
                    strike(server, blow)
                    took = until_settled(server, name)
                    trial.figures[name] = f"one worker with the newest weights after {took:.1f} s"
                    trial.check(took < SETTLED, f"{name}: {state(server)}")
    return trial


def strike(server: Server, blow: str) -> None:
    """Kill the oldest worker, the newest one, or both."""
    workers = sorted(server.workers(), key=psutil.Process.create_time)
    victims = {
        "the old worker is killed": workers[:1],
        "the new worker is killed": workers[1:],
        "both are": workers,
    }
    for worker in victims.get(blow, []):
        worker.kill()


def until_settled(server: Server, name: str) -> float:
    """Return the seconds until one worker is left and the weights are those of that name."""
    started = time.monotonic()
    while time.monotonic() - started < SETTLED:
        reply = server.get("/models")
        if (
            reply.status_code == 200
            and len(server.workers()) == 1
            and (
                reply.json()["models"][0]["members"][0]["name"] == name
                and metric(server, "detector_workers_ready") == 1
            )
        ):
            return time.monotonic() - started
        time.sleep(0.2)
    return SETTLED


def state(server: Server) -> str:
    """Say what there is."""
    reply = server.get("/models")
    names = [model["members"][0]["name"] for model in reply.json().get("models", [])]
    return f"{len(server.workers())} workers, weights {names}"
