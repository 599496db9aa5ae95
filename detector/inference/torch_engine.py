"""Run a network by torch on a device: choice of device and precision, memory format, batches, and a trunk
compiled for long runs.

Letters for shapes: R rows of a batch, one crop each; S the side of a crop in pixels.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.inference.engine import MAPS, Outputs
from detector.inference.torch_arrays import TorchArrays
from detector.threads import available_threads

logger = logging.getLogger(__name__)

TensorOutputs = dict[str, Tensor]
"""What a network gives for R crops: tensors of R rows by name."""

_BATCH = {"cpu": 16, "cuda": 256}
"""Crops a forward. On a CPU small ones win: a large batch's maps leave the cache and cost fresh memory."""

_BUCKETS = {"cuda": (8, 16, 32, 64, 128)}
"""Sizes of batches below that."""


class InferenceNetwork(nn.Module):
    """A trunk, and the heads that read its maps: what a :class:`TorchEngine` runs.

    The trunk runs in the precision of its weights. The heads run in float32: their logits decide between
    classes, and they cost nothing.
    """

    def __init__(self, trunk: nn.Module, heads: Callable[[Any], TensorOutputs]) -> None:
        """``heads`` turns what ``trunk`` gives for R crops, a tensor or several by name, in float32, into
        named tensors of R rows."""
        super().__init__()
        self.trunk = trunk
        self.heads = heads

    def forward(self, crops: Tensor) -> TensorOutputs:
        """Compute named tensors of R rows, float32, from crops [R,3,S,S] in the trunk's precision."""
        return self.heads(_in_float32(self.trunk(crops)))


def _in_float32(maps: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
    if isinstance(maps, dict):
        return {name: value.float() for name, value in maps.items()}
    return maps.float()


N = TypeVar("N", bound=InferenceNetwork)


def place(network: N, *, device: str = "auto", precision: str = "auto") -> N:
    """Return a copy of a network in evaluation mode, on a device, its trunk in a precision and channels_last.

    The network itself stays as it is; the copy takes as much memory again, half of it in 16 bits. Raises
    ParameterError for a device or precision that is not there.
    """
    target = choose_device(device)
    placed = copy.deepcopy(network).to(target).eval()
    to_precision(placed.trunk, choose_precision(precision, target))
    return placed


def to_precision(trunk: nn.Module, dtype: torch.dtype) -> None:
    """Convert a module in place to a precision, and to the memory format that convolutions are fast in."""
    trunk.to(dtype).to(memory_format=torch.channels_last)


class TorchEngine:
    """Runs one torch network in batches, where its weights are and in their precision.

    The network is taken as it is: neither moved, nor converted, nor copied. :func:`place` makes a copy for a
    device.
    """

    def __init__(
        self,
        network: InferenceNetwork,
        *,
        batch: int | None = None,
        buckets: Sequence[int] | None = None,
        compile: bool = False,
    ) -> None:
        """Set the sizes of batches.

        ``batch`` is how many crops the network takes at once, if not as many as are best for the device.
        Batches of fewer crops are filled up with blanks to the next of ``buckets``; none by default on a CPU,
        where blanks cost what crops do. ``compile`` makes a faster program of the trunk for whole batches,
        which takes half a minute at the first one: for runs of thousands of crops.
        """
        weight = next(network.trunk.parameters(), torch.empty(0, device="cpu", dtype=torch.float32))
        self.device = weight.device
        self._dtype = weight.dtype
        self.batch = batch or _BATCH.get(self.device.type, 64)
        self._buckets = sorted(buckets if buckets is not None else _BUCKETS.get(self.device.type, ()))
        self.arrays = TorchArrays(self.device)
        self._network = network
        self._whole_batch = CompiledTrunk(network.trunk) if compile else network.trunk

    @property
    def streams(self) -> int:
        """How many batches run best beside each other: on a CPU one for each of torch's threads."""
        return available_threads() if self.device.type == "cpu" else 1

    @torch.inference_mode()
    def start(self, rows: Tensor) -> "TorchBatch":
        """Start one batch of crops [R,3,S,S], float32, on the device; R is at most ``batch``.

        A CUDA device works while the caller goes on; on a CPU all is done when this returns.
        """
        count = len(rows)
        crops = self._filled_up(rows)
        trunk = self._whole_batch if len(crops) == self.batch else self._network.trunk
        maps = trunk(crops.to(self._dtype, memory_format=torch.channels_last))
        outputs = self._network.heads(_in_float32(maps))
        outputs = {name: column[:count] for name, column in outputs.items()}
        return TorchBatch(outputs, self.device)

    def _filled_up(self, crops: Tensor) -> Tensor:
        """Return crops [R,3,S,S] with blanks behind them: a GPU chooses its programs by the size of a batch,
        and does so once for each."""
        size = next((bucket for bucket in self._buckets if bucket >= len(crops)), self.batch)
        if not self._buckets or size <= len(crops):
            return crops
        return torch.cat([crops, crops.new_zeros(size - len(crops), *crops.shape[1:])])


class TorchBatch:
    """A batch that was started. ``maps`` stay on the device, all else comes back."""

    def __init__(self, outputs: TensorOutputs, device: torch.device) -> None:
        self._done: torch.cuda.Event | None = None
        if device.type == "cuda":
            # Into pinned memory, so that the copies too run while the caller goes on.
            outputs = {
                name: column if name == MAPS else _copied_to_host(column) for name, column in outputs.items()
            }
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))
        self._outputs = outputs

    @property
    def done(self) -> bool:
        """Whether :meth:`finish` would not wait."""
        return self._done is None or self._done.query()

    def finish(self) -> Outputs:
        """Wait for the batch; return its arrays of R rows by name."""
        if self._done is not None:
            self._done.synchronize()
        return {name: column if name == MAPS else column.numpy() for name, column in self._outputs.items()}


def _copied_to_host(column: Tensor) -> Tensor:
    pinned = torch.empty(column.shape, dtype=column.dtype, device="cpu", pin_memory=True)
    return pinned.copy_(column, non_blocking=True)


def choose_device(name: str) -> torch.device:
    """Return the device of a name that torch knows; ``auto`` is the first CUDA device, or the CPU.

    Raises ParameterError for a device that is not here, or of a kind that nobody tried.
    """
    device: torch.device | None
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ParameterError(f"unknown device {name!r}: use 'auto', 'cpu', 'cuda' or 'cuda:N'")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError(f"device {name!r} was asked for, but torch finds no CUDA device here; use 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ParameterError(f"device {name!r} was asked for, but there are {count}, from cuda:0 on")
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type of a precision's name; ``auto`` is bfloat16 where the device multiplies it in hardware,
    else float32. Raises ParameterError for an unknown name."""
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in named:
        raise ParameterError(f"unknown precision {name!r}: use 'auto', {', '.join(map(repr, named))}")
    return named[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


class CompiledTrunk:
    """Runs a trunk compiled, its weights built in as constants; as it is where that cannot be.

    It is compiled at the first batch, and for batches like that one: give it no others. Results differ from
    the plain trunk's by rounding alone.
    """

    def __init__(self, trunk: nn.Module) -> None:
        self._plain = trunk
        self._run = torch.compile(trunk, dynamic=False, options={"freezing": True})
        self._proven = False

    def __call__(self, crops: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # weights are built in only in this mode
            if self._proven:
                return self._run(crops)
            try:
                maps = self._run(crops)
            except Exception as error:  # torch's own, of many kinds: no compiler, one that fails, no support
                reason = str(error).strip().partition("\n")[0]
                logger.warning("The trunk runs uncompiled, since compiling it failed: %s", reason)
                self._run, maps = self._plain, self._plain(crops)
            self._proven = True
            return maps
