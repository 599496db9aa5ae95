"""Chunks on a Ray cluster: a detector in each of several actors, shards written by whoever drives them.

The driver alone touches the output: no file has two writers, and the machines share nothing but the inputs
and the weights, which lie under the same paths on all.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from detector.bulk.chunk_detector import ChunkDetector
from detector.bulk.plan import Chunk
from detector.bulk.shards import Shard
from detector.errors import DetectorError
from detector.inference.settings import DetectorSettings
from detector.inference.streaming import AHEAD

MAX_RESTARTS = 4
"""How often an actor whose process or machine is lost begins anew, and a chunk is tried again."""

DEFAULT_CPUS = 4
"""Processors of a worker without a GPU, on machines that have as many: each of them runs batches."""


class ClusterError(DetectorError):
    """A cluster that cannot be used, or lost more than it may."""


@dataclass(frozen=True)
class Workers:
    """How many actors there are, and what each has of its machine."""

    count: int
    cpus: int
    gpus: int

    @classmethod
    def of_cluster(cls, device: str, count: int | None = None, cpus: int | None = None) -> "Workers":
        """Share out what the connected cluster has.

        One worker a GPU, where there are GPUs and ``device`` does not say otherwise; else one for every
        ``cpus`` processors of a machine. Raises ClusterError where not even one finds room.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        with_gpu = [node for node in nodes if device != "cpu" and node.get("GPU", 0) >= 1]
        if with_gpu:
            cpus = cpus or max(1, min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpu))
            room = sum(int(min(node["GPU"], node.get("CPU", 0) // cpus)) for node in with_gpu)
        else:
            cpus = cpus or min(DEFAULT_CPUS, max((int(node.get("CPU", 0)) for node in nodes), default=0)) or 1
            room = sum(int(node.get("CPU", 0) // cpus) for node in nodes)
        if not room:
            raise ClusterError(f"no machine of the cluster has room for a worker with {cpus} processors")
        return cls(count or room, cpus, int(bool(with_gpu)))


class _Worker:
    """An actor: a detector that stays loaded from chunk to chunk."""

    def __init__(self, settings: DetectorSettings, digests: list[str], read_ahead: int) -> None:
        self._settings, self._digests, self._read_ahead = settings, digests, read_ahead

    def shard(self, chunk: Chunk, job: str) -> Shard:
        """Return the shard of a chunk. Raises CheckpointError where this machine has other weights."""
        [shard] = self._detector.shards([chunk], job)
        return shard

    @cached_property
    def _detector(self) -> ChunkDetector:
        self._settings.check_weights(self._digests)
        return ChunkDetector(self._settings, read_ahead=self._read_ahead)


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connect to the Ray cluster at ``address``; ``local`` starts one here.

    Without one it is that of RAY_ADDRESS, or one that runs here, or one is started. Of one that is started
    nothing is reported to Ray's makers. Raises ClusterError where none answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(f"no Ray cluster answers at {address or 'RAY_ADDRESS'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def run_on_ray(
    settings: DetectorSettings, chunks: Iterator[Chunk], job: str, workers: Workers, read_ahead: int = AHEAD
) -> Iterator[Shard]:
    """Yield the shard of each chunk, as they are done.

    A worker that is lost begins anew where there is room, and its chunk with it. Workers that have nothing
    left to do take chunks that others are at, and the first answer counts: one that waits for a machine which
    does not come back holds up nobody.

    Workers end with the connection. Raises what a worker raises of the library's errors, and ClusterError
    where all workers are lost.
    """
    if workers.gpus and settings.device != "auto":
        settings = replace(settings, device="cuda")  # Ray shows each worker its own GPU alone
    actor: Any = ray.remote(_Worker).options(
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
        max_restarts=MAX_RESTARTS,
        max_task_retries=MAX_RESTARTS,
    )
    digests = settings.weights_digests()
    idle = deque(actor.remote(settings, digests, read_ahead) for _ in range(workers.count))
    under_way: dict[Any, tuple[Any, Chunk]] = {}  # by Ray's reference to the shard to be
    missing: dict[int, Chunk] = {}  # given to workers, and not answered
    lost: RayError | None = None
    while True:
        while idle and (chunk := _next(chunks, missing, under_way)) is not None:
            worker = idle.popleft()
            under_way[worker.shard.remote(chunk, job)] = (worker, chunk)
        if not missing:
            return
        if not under_way:
            raise ClusterError(f"all workers of the cluster are lost: {lost}") from lost
        [done], _ = ray.wait(list(under_way))
        worker, chunk = under_way.pop(done)
        try:
            shard = ray.get(done)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, DetectorError | OSError) else error from error
        except RayError as error:
            lost = error  # the worker is not asked again; its chunk is still missing
            continue
        idle.append(worker)
        if missing.pop(chunk.number, None) is not None:
            yield shard


def _next(
    chunks: Iterator[Chunk], missing: dict[int, Chunk], under_way: dict[Any, tuple[Any, Chunk]]
) -> Chunk | None:
    """Choose the next chunk: one that a lost worker left, else a new one, else one that one worker is at."""
    workers_at = Counter(chunk.number for _, chunk in under_way.values())
    left = next((chunk for number, chunk in missing.items() if not workers_at[number]), None)
    if left is not None:
        return left
    new = next(chunks, None)
    if new is not None:
        missing[new.number] = new
        return new
    return next((chunk for number, chunk in missing.items() if workers_at[number] == 1), None)
