"""A process that speaks to the front as a worker does and loads nothing, so that it starts in no time.

The file that it is given as weights is JSON and says what happens: ``name`` of the model; ``do``: ``ready``
(after ``seconds``), ``fail``, ``die``, ``hang``, ``flash`` (ready, then gone) or ``orphan`` (gone, while a
child holds its socket); ``only``: the device that this is for, others are ready. It answers each task with
its name after ``task_seconds``.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

connection = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
sending = threading.Lock()


def receive():
    def exactly(count):
        data = b""
        while len(data) < count:
            part = connection.recv(count - len(data))
            if not part:
                os._exit(0)
            data += part
        return data

    head, body = struct.unpack(">II", exactly(8))
    header = json.loads(exactly(head))
    exactly(body)
    return header


def send(header, body=b""):
    head = json.dumps(header).encode()
    with sending:
        try:
            connection.sendall(struct.pack(">II", len(head), len(body)) + head + body)
        except OSError:
            os._exit(0)


def report():
    while True:
        time.sleep(0.1)
        send(
            {
                "op": "report",
                "queued": 0,
                "regions": 0,
                "fills": [],
                "memory": 0,
                "log_lines_lost": 0,
                "stuck": 0.0,
                "full_regions": 0,
                "full_seconds": 0.0,
            }
        )


settings = receive()
try:
    told = json.loads(Path(settings["models"]["default"][0]).read_text())
except OSError as error:
    send({"op": "failed", "message": str(error)})
    sys.exit(1)
do = told.get("do", "ready")
if settings["device"] not in (told.get("only"), settings["device"] if "only" not in told else None):
    do = "ready"
time.sleep(told.get("seconds", 0.0))
if do == "fail":
    send({"op": "failed", "message": f"{told['name']} cannot be used"})
    sys.exit(1)
if do == "die":
    os._exit(7)
if do == "hang":
    time.sleep(600)
file = {"name": told["name"], "sha256": told["name"].ljust(12, "-"), "bytes": 1}
member = {"name": told["name"], "architecture": "none", "licence": "none", "source": "none", "file": file}
model = {
    "name": "default",
    "tasks": [],
    "members": [member | {"metrics": {}, "training": {}}],
    "engine": "torch",
    "precision": "float32",
    "profiles": [],
}
model |= {"default_profile": None, "scoring": None, "loaded_at": "2026-01-01T00:00:00+00:00"}
model |= {"detection_classes": [], "classification_classes": []}
send({"op": "ready", "models": [model], "device": settings["device"], "rate": 1.0})
if do == "flash":
    os._exit(8)
if do == "orphan":
    child = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    subprocess.Popen(child, pass_fds=[connection.fileno()])
    os._exit(9)
threading.Thread(target=report, daemon=True).start()
while True:
    header = receive()
    if header["op"] == "stop":
        os._exit(0)
    if header["op"] == "task":
        time.sleep(told.get("task_seconds", 0.0))
        send(
            {
                "op": "answer",
                "id": header["id"],
                "width": 1,
                "height": 1,
                "frames": 1,
                "model": told["name"],
                "media_type": "a",
                "timing_ms": {},
            },
            told["name"].encode(),
        )
