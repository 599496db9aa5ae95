"""A job on Ray: the rows of a run in one process, whatever is lost on the way."""

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from detector.bulk.chunk_detector import ChunkDetector
from detector.bulk.plan import Plan
from detector.bulk.shards import Shard
from detector.bulk.sources import sources_of
from detector.errors import CheckpointError
from detector.inference.settings import DetectorSettings
from detector.options import Engine, Profile
from tests.detector.bulk.pictures import save_folder

pytestmark = pytest.mark.exhaustive

ray = pytest.importorskip("ray", reason="of the extra 'ray'")
from ray.cluster_utils import Cluster  # noqa: E402

from detector.bulk.ray_runner import ClusterError, Workers, cluster, run_on_ray  # noqa: E402

COUNT = 24
JOB = "job"


@pytest.fixture(scope="module")
def settings(multibox_path: Path) -> DetectorSettings:
    return DetectorSettings(
        weights=(multibox_path,),
        engine=Engine.OPENVINO,
        device="cpu",
        profile=Profile.FAST,
        max_proposals=4,
        score_threshold=0.0,
        max_detections=3,
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Two pictures a shard, one of which is broken."""
    photos = save_folder(tmp_path_factory.mktemp("ray") / "photos", COUNT)
    (photos / "05.jpg").write_bytes(b"no picture")
    return Plan(sources_of(sorted(photos.iterdir()), photos), 2)


@pytest.fixture(scope="module")
def expected(settings: DetectorSettings, plan: Plan) -> list[dict[str, Any]]:
    """The rows of a run in this process."""
    return rows(ChunkDetector(settings).shards(plan.chunks(), JOB))


def rows(shards: Iterator[Shard]) -> list[dict[str, Any]]:
    """The rows of all shards in their order; each shard comes once."""
    files = {}
    for shard in shards:
        assert shard.number not in files
        files[shard.number] = pq.read_table(io.BytesIO(shard.data)).to_pylist()
    return [row for number in sorted(files) for row in files[number]]


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A cluster of this machine: a head that works itself, and a second node, each with one processor."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=1)
    started.wait_for_nodes()
    yield started
    started.shutdown()


def processes_at_work() -> list[psutil.Process]:
    """The processes of actors that are at a shard, of clusters that this process started."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.is_running() and "ray::_Worker.shard" in " ".join(_command(process))
    ]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_local_cluster_has_the_rows_of_one_process(
    settings: DetectorSettings, plan: Plan, expected: list[dict[str, Any]]
) -> None:
    with cluster("local"):
        workers = Workers.of_cluster("cpu", count=2, cpus=1)
        found = rows(run_on_ray(settings, plan.chunks(), JOB, workers))
    assert found == expected
    assert [row["error"] is not None for row in found] == [number == 5 for number in range(COUNT)]


def test_a_process_that_is_killed_costs_nothing(
    nodes: Cluster, settings: DetectorSettings, plan: Plan, expected: list[dict[str, Any]]
) -> None:
    """Its actor begins anew on its node, and its chunk with it."""
    killed: list[int] = []
    with cluster(nodes.address):
        workers = Workers.of_cluster("cpu")
        assert workers == Workers(count=2, cpus=1, gpus=0)
        shards = run_on_ray(settings, plan.chunks(), JOB, workers)

        def disturbed() -> Iterator[Shard]:
            for number, shard in enumerate(shards):
                if number == 2:
                    victim = wait_for_work()
                    killed.append(victim.pid)
                    os.kill(victim.pid, signal.SIGKILL)
                yield shard

        assert rows(disturbed()) == expected
    assert killed
    assert not psutil.pid_exists(killed[0])


def test_a_node_that_is_lost_holds_up_nobody(
    nodes: Cluster, settings: DetectorSettings, plan: Plan, expected: list[dict[str, Any]]
) -> None:
    """Its worker finds no room any more: the other one does what it was at."""
    [second] = nodes.worker_nodes
    with cluster(nodes.address):
        shards = run_on_ray(settings, plan.chunks(), JOB, Workers.of_cluster("cpu"))

        def disturbed() -> Iterator[Shard]:
            for number, shard in enumerate(shards):
                if number == 2:
                    nodes.remove_node(second, allow_graceful=False)
                yield shard

        assert rows(disturbed()) == expected


def wait_for_work() -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := processes_at_work():
            return found[0]
        time.sleep(0.01)
    raise AssertionError("no actor is at work")


def test_errors_of_workers_are_the_librarys(settings: DetectorSettings, plan: Plan) -> None:
    """Another file under the same path, as on a machine that was not looked after."""

    class Elsewhere(DetectorSettings):
        def weights_digests(self) -> list[str]:
            return ["0" * 64]

    with cluster("local"):
        there = Elsewhere(**{name: getattr(settings, name) for name in settings.__dataclass_fields__})
        with pytest.raises(CheckpointError, match="put the same file there"):
            rows(run_on_ray(there, plan.chunks(), JOB, Workers(1, 1, 0)))
        with pytest.raises(ClusterError, match="no machine of the cluster has room"):
            Workers.of_cluster("cpu", cpus=10_000)


def test_no_cluster_at_the_address() -> None:
    with pytest.raises(ClusterError, match="no Ray cluster answers at"), cluster("no address"):
        pass


@pytest.mark.parametrize(
    ("device", "cpus", "expected"),
    [
        pytest.param(
            "auto", None, Workers(count=2, cpus=2, gpus=1), id="one a GPU, with its share of processors"
        ),
        pytest.param("auto", 4, Workers(count=1, cpus=4, gpus=1), id="processors for one of two GPUs"),
        pytest.param("cpu", None, Workers(count=1, cpus=4, gpus=0), id="as many processors as a machine has"),
        pytest.param("cpu", 1, Workers(count=5, cpus=1, gpus=0), id="on both machines"),
    ],
)
def test_workers_share_what_there_is(mixed: None, device: str, cpus: int | None, expected: Workers) -> None:
    assert Workers.of_cluster(device, cpus=cpus) == expected


@pytest.fixture(scope="module")
def mixed() -> Iterator[None]:
    """Connected to a cluster of a small machine and one that has, for all that Ray knows, two GPUs."""
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    started.add_node(num_cpus=4, num_gpus=2)
    started.wait_for_nodes()
    with cluster(started.address):
        yield
    started.shutdown()
