"""What one end sends, the other end receives, and nothing else."""

import asyncio
import socket
import struct

import orjson
import pytest

from api.protocol import wire
from api.protocol.messages import (
    Answer,
    Cancel,
    ClassifyTask,
    DetectTask,
    DeviceTask,
    Failed,
    FromWorker,
    Ready,
    Refusal,
    Report,
    Stage,
    Stop,
    ToWorker,
    WorkerSettings,
)
from api.protocol.model_info import ClassName, Member, ModelInfo, ProfileOffered, WeightsFile
from detector.options import Profile

MODEL = ModelInfo(
    name="default",
    tasks=["detect"],
    members=[
        Member(
            name="a",
            architecture="googlenet",
            licence="none",
            source="here",
            metrics={"mAP": 0.5},
            training={"seed": 1},
            file=WeightsFile(name="a.safetensors", bytes=1, sha256="0"),
        )
    ],
    engine="openvino",
    precision="float32",
    profiles=[ProfileOffered(name=Profile.SEARCH, max_regions=None, cost=800)],
    default_profile=Profile.SEARCH,
    scoring={"nms_iou": 0.3},
    loaded_at="2026-01-01T00:00:00+00:00",
    detection_classes=[ClassName(id="n02672831", name="accordion")],
    classification_classes=[],
)
DETECT = DetectTask(0.25, 5, Profile.FAST, None, "json", "ä.jpg", explain=3)

TO_WORKER = [
    WorkerSettings(
        models={"a": ["/x"], "b": None},
        device="cpu",
        engine="auto",
        precision="auto",
        profile=None,
        max_proposals=5,
        compile=False,
        threads=0,
        prepare_threads=1,
        batch=None,
        max_bytes=9,
        max_pixels=9,
        log_format="json",
        log_level="info",
    ),
    WorkerSettings(
        models={"a": None},
        device="cpu",
        engine="openvino",
        precision="int8",
        profile=Profile.FAST,
        max_proposals=None,
        compile=True,
        threads=2,
        prepare_threads=1,
        batch=8,
        max_bytes=9,
        max_pixels=9,
        log_format="json",
        log_level="info",
    ),
    DeviceTask(1, "a", DETECT, 1234.5678901234567, "client", 2, "id", body=bytes(range(256))),
    DeviceTask(1, "a", ClassifyTask(5, 144), 1.0, "client", 2, None),
    Cancel(7),
    Stop(),
]
FROM_WORKER = [
    Ready([MODEL], "cuda:0", 12.5),
    Failed("no weights"),
    Answer(1, 640, 480, 1, "a", "image/png", {"queue": 0.1, "decode": 2.0}, body=b"\x89PNG"),
    Answer(1, 2, 3, 1, "a", "text/plain", {}, stages=(Stage("queue", 1234.5678901234567, 1235.0, 0.25),)),
    Refusal(1, 504, "deadline_exceeded", "Too late."),
    Report(5, 10, (0.5, 1.0), 0.0, 3, 0.25, 10**12, 0),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: message.op)
def test_to_the_worker(message: ToWorker) -> None:
    front, worker = socket.socketpair()
    with front, worker:
        front.sendall(b"".join(wire.packed(message)))
        assert wire.receive_blocking(worker) == message
        front.close()
        with pytest.raises(EOFError):
            wire.receive_blocking(worker)


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: message.op)
def test_from_the_worker(message: FromWorker) -> None:
    async def exchange() -> FromWorker:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(wire.packed(message)))
        reader.feed_eof()
        received = await wire.receive(reader)
        with pytest.raises(EOFError):
            await wire.receive(reader)
        return received

    assert asyncio.run(exchange()) == message


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({"op": "cancel", "id": "7"}, id="a text for a number"),
        pytest.param({"op": "cancel"}, id="a field is missing"),
        pytest.param({"op": "cancel", "id": 7, "more": 1}, id="an unknown field"),
        pytest.param({"op": "report"}, id="a message of the other direction"),
        pytest.param({"op": "dance"}, id="an unknown message"),
        pytest.param({}, id="no message at all"),
    ],
)
def test_what_is_no_message_is_refused(head: dict[str, object]) -> None:
    front, worker = socket.socketpair()
    with front, worker:
        text = orjson.dumps(head)
        front.sendall(struct.pack(">II", len(text), 0) + text)
        with pytest.raises(ValueError, match="validation error"):
            wire.receive_blocking(worker)
