"""``python -m api`` from its start to its end, as an operator meets it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from detector.checkpoints import Checkpoint, load_checkpoint, save_checkpoint


def environment(**settings: object) -> dict[str, str]:
    """The environment, with these settings of the service and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
    return others | {f"DETECTOR_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running(**settings: object) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The service as a process of its own, ready, and a client of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env=environment(port=0, device="cpu", max_proposals=5, drain_seconds=600, **settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = None
        for line in process.stderr:  # until it says where it listens and that it is ready
            found = re.search(r"running on (http://\S+)", line)
            address = found[1] if found else address
            if address and "Ready" in line:
                break
        assert address is not None, "the service did not start"
        threading.Thread(target=process.stderr.read, daemon=True).start()  # or a full pipe would stop it
        with httpx.Client(base_url=address, timeout=6000) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()


def test_sigterm_lets_a_request_under_way_finish(checkpoint_path: Path, picture: bytes) -> None:
    with running(weights=checkpoint_path) as (process, client):

        def body() -> Iterator[bytes]:
            yield picture[:50]
            process.send_signal(signal.SIGTERM)
            while accepts_connections(client.base_url):
                time.sleep(0.01)
            yield picture[50:]

        reply = client.post("/detect", content=body(), headers={"Content-Type": "image/png"})
        assert reply.status_code == 200
        assert process.wait(timeout=600) == 0


def accepts_connections(address: httpx.URL) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=600).close()
    except ConnectionRefusedError:
        return False
    return True


def test_weights_for_detection_alone(checkpoint_path: Path, picture: bytes, tmp_path: Path) -> None:
    whole = load_checkpoint(checkpoint_path)
    path = tmp_path / "detector.safetensors"
    save_checkpoint(path, Checkpoint(whole.network, replace(whole.metadata, classification=None)))
    with running(weights=path) as (_, client):
        assert client.post("/detect", files={"file": ("a", picture)}).status_code == 200
        refused = client.post("/classify", files={"file": ("a", picture)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (501, "not_supported")


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        pytest.param(
            {"weights": "absent.safetensors"}, 1, "absent.safetensors does not exist", id="no weights"
        ),
        pytest.param({"max_bytes": "lots"}, 2, "DETECTOR_MAX_BYTES: ", id="a setting that is no number"),
    ],
)
def test_what_cannot_work_ends_at_once_and_says_why(
    settings: dict[str, object], status: int, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        env=environment(**{"port": 0} | settings),
        capture_output=True,
        text=True,
        timeout=6000,
        check=False,
    )
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
