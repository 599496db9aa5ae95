"""Engines of graphs: batches, threads, memory, and the precisions that there are."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.graphs.networks import GraphOptions, classifier_graph, region_graph
from detector.inference import graph_engine
from detector.inference.graph_engine import (
    BATCH,
    PRECISIONS,
    GraphEngine,
    choose_precision,
    compile_graph,
    cpu_flags,
    run_model,
)
from detector.inference.placement import GRAPH_ENGINES
from tests.detector.graphs.random_weights import (
    assert_close,
    classifier_weights,
    detector_weights,
    random_rows,
)

Outputs = dict[str, np.ndarray]


def _engine(name: str, *, streams: int | None = None, compiled: list[str] | None = None) -> GraphEngine:
    """Regions after the maps; each compilation is noted."""

    def compile():
        if compiled is not None:
            compiled.append(name)
        model = region_graph([detector_weights()], "inception_4e", GraphOptions(native_lrn=False))
        return compile_graph(name, model, precision="float32", streams=streams)

    return GraphEngine(compile, batch=None, streams=streams or 1, reads_maps=True)


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_batches_of_any_size(name: str) -> None:
    """None at all, one, and two after five; the graph is compiled when it is first needed, and once."""
    compiled: list[str] = []
    engine = _engine(name, compiled=compiled)
    assert (engine.batch, engine.streams, compiled) == (BATCH, 1, [])
    rows = random_rows(5, 832, 14, 14)
    nothing = engine.start(rows[:0]).finish()
    assert {key: value.shape for key, value in nothing.items()} == {
        "0.probabilities": (0, 4),
        "0.deltas": (0, 4),
        "0.predicted_iou": (0,),
    }
    five = engine.start(rows).finish()
    for part in (slice(0, 1), slice(2, 4)):
        assert_close(
            engine.start(rows[part]).finish(), {key: value[part] for key, value in five.items()}, 1e-5
        )
    assert engine.start(rows[:1]).done
    turned = np.asfortranarray(rows)
    assert_close(engine.start(turned).finish(), five, 1e-5)
    assert compiled == [name]


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_outputs_are_the_callers_own(name: str) -> None:
    """The next batch does not write into those of the one before, nor into what it reads."""
    engine = _engine(name)
    rows = random_rows(2, 832, 14, 14)
    before = rows.copy()
    first = engine.start(rows[:1]).finish()
    kept = {key: value.copy() for key, value in first.items()}
    second = engine.start(rows[1:]).finish()
    assert np.array_equal(rows, before)
    for key, value in first.items():
        assert np.array_equal(value, kept[key])
        assert not np.array_equal(value, second[key])


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_several_threads_at_once_get_what_they_would_get_alone(name: str) -> None:
    """While memory is given back in between."""
    engine = _engine(name, streams=2)
    rows = [random_rows(1 + index % 3, 832, 14, 14, seed=index) for index in range(8)]
    alone = [engine.start(some).finish() for some in rows]

    def run(index: int) -> Outputs:
        if index % 4 == 0:
            engine.release_memory()
        return engine.start(rows[index]).finish()

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(run, range(8)))
    for got, expected in zip(together, alone, strict=True):
        assert_close(got, expected, 1e-5)


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_memory_is_given_back_between_batches(name: str) -> None:
    compiled: list[str] = []
    engine = _engine(name, compiled=compiled)
    engine.release_memory()  # nothing to give
    rows = random_rows(1, 832, 14, 14)
    first = engine.start(rows).finish()
    for forget, times in ((False, 1), (True, 2), (True, 3)):
        engine.release_memory(forget=forget)
        assert_close(engine.start(rows).finish(), first, 1e-6)
        assert len(compiled) == times


def test_memory_that_is_in_use_stays() -> None:
    """A session that runs is neither emptied nor forgotten; one whose batch failed is no longer in use."""
    released: list[str] = []

    class Session:
        def run(self, rows: np.ndarray) -> Outputs:
            engine.release_memory(forget=True)
            if rows[0, 0] < 0:
                raise RuntimeError("no such rows")
            return {"a": rows}

        def release_memory(self) -> None:
            released.append("memory")

    engine = GraphEngine(Session, batch=4, streams=1)
    assert engine.batch == 4
    engine.start(np.ones((1, 1), np.float32))
    with pytest.raises(RuntimeError, match="no such rows"):
        engine.start(-np.ones((1, 1), np.float32))
    assert released == []
    engine.release_memory()
    assert released == ["memory"]


def test_what_does_not_compile_is_tried_again() -> None:
    attempts: list[int] = []

    def compile():
        attempts.append(1)
        raise MemoryError

    engine = GraphEngine(compile, batch=None, streams=1)
    for _ in range(2):
        with pytest.raises(MemoryError):
            engine.start(np.zeros((1, 3), np.float32))
    engine.release_memory()
    assert len(attempts) == 2


@pytest.mark.parametrize("name", GRAPH_ENGINES)
def test_a_model_of_any_inputs_is_run_by_names(name: str) -> None:
    """Outputs come under their names, in whatever order an engine has them."""
    members = [classifier_weights(), classifier_weights(seed=1)]
    rows = random_rows(1, 3, 64, 64)
    both = run_model(name, classifier_graph(members))({"rows": rows})
    alone = compile_graph(name, classifier_graph(members[1:]), precision="float32", streams=None).run(rows)
    assert set(both) == {"0.probabilities", "1.probabilities"}
    assert_close({"0.probabilities": both["1.probabilities"]}, alone, 1e-4)


MODERN = frozenset({"avx512_bf16"})

CHOICES = [
    ("OpenVINO with bfloat16 in hardware", "auto", "openvino", MODERN, False, "bfloat16"),
    ("the matrix unit alone", "auto", "openvino", frozenset({"amx_bf16"}), False, "bfloat16"),
    ("OpenVINO without", "auto", "openvino", frozenset({"avx2"}), True, "float32"),
    ("ONNX Runtime has no bfloat16", "auto", "onnxruntime", MODERN, True, "float32"),
    ("float32 where there is more", "float32", "openvino", MODERN, False, "float32"),
    ("int8", "int8", "openvino", frozenset(), True, "int8"),
    ("int8", "int8", "onnxruntime", frozenset(), True, "int8"),
]


@pytest.mark.parametrize(
    ("name", "engine", "flags", "calibrated", "chosen"), [c[1:] for c in CHOICES], ids=[c[0] for c in CHOICES]
)
def test_which_precision_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    engine: str,
    flags: frozenset[str],
    calibrated: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr(graph_engine, "cpu_flags", lambda: flags)
    assert choose_precision(name, engine, calibrated=calibrated) == chosen
    assert chosen in PRECISIONS[engine]


REFUSALS = [
    (
        "unknown",
        "float8",
        "openvino",
        "unknown precision 'float8': use 'auto', 'float32', 'bfloat16' or 'int8'",
    ),
    (
        "float16",
        "float16",
        "openvino",
        "openvino does not compute in float16 on a CPU: it has float32, bfloat16",
    ),
    (
        "no bfloat16",
        "bfloat16",
        "onnxruntime",
        "onnxruntime does not compute in bfloat16 on a CPU: it has fl",
    ),
    ("an old processor", "bfloat16", "openvino", "this processor does not multiply bfloat16: use 'auto', 'f"),
    (
        "no ranges",
        "int8",
        "openvino",
        "int8 needs weights whose activations were measured: `detector weights",
    ),
    ("no ranges", "int8", "onnxruntime", "`detector weights calibrate` does that"),
]


@pytest.mark.parametrize(("name", "engine", "says"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
def test_precisions_that_are_not_there(
    monkeypatch: pytest.MonkeyPatch, name: str, engine: str, says: str
) -> None:
    monkeypatch.setattr(graph_engine, "cpu_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(ParameterError, match=re.escape(says)):
        choose_precision(name, engine, calibrated=False)


def test_what_the_processor_can_do_is_read_where_linux_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    stated = {
        "flags\t\t: fpu avx2 avx512_bf16 \nflags : other\n": {"fpu", "avx2", "avx512_bf16"},
        "Features : fp asimd bf16\n": {"fp", "asimd", "bf16"},
        "model name : x\n": set(),
    }
    for text, flags in stated.items():
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(graph_engine, "Path", lambda path: tmp_path / "cpuinfo")
        assert cpu_flags.__wrapped__() == flags
    (tmp_path / "cpuinfo").unlink()
    assert cpu_flags.__wrapped__() == set(), "another system"


FIRST_TENSOR = """
import threading
import openvino

made, tensor = [], openvino.Tensor
openvino.Tensor = lambda *arguments: (made.append(threading.active_count()), tensor(*arguments))[1]

from detector.inference.graph_engine import _openvino

together = threading.Barrier(4)
threads = [threading.Thread(target=lambda: (together.wait(), _openvino())) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(made))
"""


def test_openvino_makes_its_first_tensor_once() -> None:
    """Before anybody can make one: two threads that made the first one waited for each other without end."""
    done = subprocess.run([sys.executable, "-c", FIRST_TENSOR], capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr
