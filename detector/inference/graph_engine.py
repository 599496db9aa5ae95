"""Run a graph by OpenVINO or ONNX Runtime on a CPU.

Letters for shapes: R rows of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock, local
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.engine import MAPS, FinishedBatch
from detector.inference.numpy_arrays import NumpyArrays
from detector.memory import give_back_free_memory
from detector.threads import default_threads

BATCH = 16
"""Rows a forward: of more the maps leave the processor's cache."""

PRECISIONS = {"openvino": ("float32", "bfloat16", "int8"), "onnxruntime": ("float32", "int8")}
"""What each engine computes in."""


class Session(Protocol):
    """A compiled graph. Several threads may run it."""

    def run(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the graph's outputs by name for its one input, R rows."""

    def release_memory(self) -> None:
        """Give back the memory of batches that ran. None may be running."""


class GraphEngine:
    """Runs one graph: a :class:`detector.inference.engine.Engine`. It is compiled at its first batch."""

    arrays = NumpyArrays()

    def __init__(
        self, compile: Callable[[], Session], *, batch: int | None, streams: int, reads_maps: bool = False
    ) -> None:
        """``compile`` makes the session; ``batch`` is how many rows it takes at once, :data:`BATCH` for None;
        ``streams`` how many batches run beside each other. A graph that ``reads_maps`` takes them with their
        channels last, and so does every graph give them."""
        self._compile = compile
        self._reads_maps = reads_maps
        self.batch = batch or BATCH
        self.streams = streams
        self._session: Session | None = None
        self._lock = Lock()  # guards the session and the count
        self._running = 0

    def start(self, rows: NDArray[np.float32]) -> FinishedBatch:
        """Run one batch of R rows."""
        with self._lock:
            if self._session is None:
                self._session = self._compile()
                give_back_free_memory()
            session = self._session
            self._running += 1
        try:
            laid_out = rows.transpose(0, 2, 3, 1) if self._reads_maps else rows
            if not len(rows):  # not every engine takes nothing
                outputs = session.run(np.zeros((1, *laid_out.shape[1:]), np.float32))
                return FinishedBatch({name: column[:0] for name, column in outputs.items()})
            outputs = session.run(np.ascontiguousarray(laid_out))
            if MAPS in outputs:
                outputs[MAPS] = outputs[MAPS].transpose(0, 3, 1, 2)
            return FinishedBatch(outputs)
        finally:
            with self._lock:
                self._running -= 1

    def release_memory(self, *, forget: bool = False) -> None:
        """Give back what batches left, unless one is running; with ``forget`` the compiled graph too."""
        with self._lock:
            if self._session is not None and not self._running:
                self._session.release_memory()
                self._session = None if forget else self._session


def compile_graph(engine: str, model: onnx.ModelProto, *, precision: str, streams: int | None) -> Session:
    """Compile a graph of one input for an engine.

    ``streams`` is how many batches will run beside each other, each on one thread; None runs one at a time,
    on all of them. Raises ParameterError for a precision that the engine has not.
    """
    kind = OpenVinoSession if engine == "openvino" else OnnxRuntimeSession
    names = [output.name for output in model.graph.output]
    return kind(model.SerializeToString(), names, precision, streams)


class OpenVinoSession:
    """A graph compiled by OpenVINO. Each thread has a request of its own to it."""

    def __init__(self, model: bytes, outputs: Sequence[str], precision: str, streams: int | None) -> None:
        core = _openvino()
        hint = "bf16" if precision == "bfloat16" else "f32"
        self._compiled = core.compile_model(
            core.read_model(model),
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": hint,
                "NUM_STREAMS": streams or 1,
                "INFERENCE_NUM_THREADS": streams or default_threads(),
                "ENABLE_CPU_PINNING": False,  # a thread tied to a busy processor would wait for it
                # Programs kept for shapes that were seen; each picture's is another. OpenVINO keeps 5,000.
                "CPU_RUNTIME_CACHE_CAPACITY": 64,
            },
        )
        self._names = list(outputs)
        self._thread = local()

    def run(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        request = getattr(self._thread, "request", None)
        if request is None:
            request = self._thread.request = self._compiled.create_infer_request()
        request.infer([rows], share_inputs=True)
        # Copies: the request's own memory is written to again by the next batch.
        return {name: np.array(request.get_output_tensor(i).data) for i, name in enumerate(self._names)}

    def release_memory(self) -> None:
        self._thread = local()
        self._compiled.release_memory()


_LOADING = Lock()


def _openvino() -> Any:
    """Load OpenVINO, once."""
    with _LOADING:
        return _loaded_openvino()


@cache
def _loaded_openvino() -> Any:
    import openvino

    # The first tensor of a process prepares the use of NumPy. Two threads that both make a first one can wait
    # for each other without end, one for that to be ready, the other for the interpreter's lock.
    openvino.Tensor(np.zeros(1, np.float32))
    return openvino.Core()


class OnnxRuntimeSession:
    """A graph compiled by ONNX Runtime."""

    def __init__(self, model: bytes, outputs: Sequence[str], precision: str, streams: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1 if streams else default_threads()
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would take the processor from selective search.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        [entry] = self._session.get_inputs()
        self._input = entry.name
        self._names = list(outputs)

    def run(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self._names, self._session.run(self._names, {self._input: rows}), strict=True))

    def release_memory(self) -> None:
        """Do nothing: ONNX Runtime's arena is its own."""


def run_model(
    engine: str, model: onnx.ModelProto
) -> Callable[[Mapping[str, NDArray[np.float32]]], dict[str, NDArray[np.float32]]]:
    """Return a function that runs a model of any inputs: from inputs by name to outputs by name."""
    names = [output.name for output in model.graph.output]
    if engine == "openvino":
        core = _openvino()
        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(
            core.read_model(model.SerializeToString()), "CPU", hints
        ).create_infer_request()

        def run(feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
            request.infer(dict(feeds))
            return {name: np.array(request.get_output_tensor(i).data) for i, name in enumerate(names)}

        return run
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def choose_precision(name: str, engine: str, *, calibrated: bool) -> str:
    """Return what an engine is to compute in; ``auto`` is bfloat16 where OpenVINO has it in hardware, else
    float32.

    ``calibrated`` tells whether the weights know the ranges of their activations, which int8 needs. Raises
    ParameterError for what the engine, the processor or the weights do not have.
    """
    if name == "auto":
        return "bfloat16" if engine == "openvino" and _has_bfloat16() else "float32"
    if name not in ("float32", "bfloat16", "float16", "int8"):
        raise ParameterError(f"unknown precision {name!r}: use 'auto', 'float32', 'bfloat16' or 'int8'")
    if name not in PRECISIONS[engine]:
        has = ", ".join(PRECISIONS[engine])
        raise ParameterError(f"{engine} does not compute in {name} on a CPU: it has {has}")
    if name == "bfloat16" and not _has_bfloat16():
        raise ParameterError("this processor does not multiply bfloat16: use 'auto', 'float32' or 'int8'")
    if name == "int8" and not calibrated:
        raise ParameterError(
            "int8 needs weights whose activations were measured: `detector weights calibrate` does that"
        )
    return name


def _has_bfloat16() -> bool:
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


@cache
def cpu_flags() -> frozenset[str]:
    """Return what the processor can do by the names of Linux; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return frozenset()
    listed = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(listed, "").split())
