"""How a network is run: device, precision, memory format, batches.

A trunk compiled for runs of many whole batches.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from detector.errors import ParameterError

Head = Callable[[Tensor], tuple[Tensor, ...]]

_BATCH = {"cpu": 16, "cuda": 256}
"""Crops a forward. On a CPU small ones win: a large batch's maps leave the cache and cost fresh memory."""

_BUCKETS = {"cuda": (8, 16, 32, 64, 128)}
"""Sizes of batches below that."""


class Engine:
    """One trunk on one device, with the head that reads what it gives.

    The trunk runs in channels_last and in the given precision, the head in float32: its logits decide
    between classes, and it costs nothing. The modules are moved and converted in place.
    """

    def __init__(
        self,
        features: nn.Module,
        heads: nn.Module,
        head: Head,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch: int | None = None,
        buckets: Sequence[int] | None = None,
        compile: bool = False,
    ) -> None:
        """``head`` turns what ``features`` gives of R crops, in float32, into tensors of R rows; ``heads``
        holds its weights and those of ``features``. Batches of fewer crops than ``batch`` are filled up with
        blanks to the next of ``buckets``; none by default on a CPU, where blanks cost what crops do.
        ``compile`` makes a faster program of the trunk for whole
        batches, which takes half a minute at the first one: for runs of thousands of crops.

        Raises ParameterError for a device or precision that is not there.
        """
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.batch = batch or _BATCH.get(self.device.type, 64)
        self._buckets = sorted(buckets if buckets is not None else _BUCKETS.get(self.device.type, ()))
        heads.to(self.device).eval()
        self._features = features.to(self.dtype).to(memory_format=torch.channels_last)
        self._whole_batch = CompiledTrunk(self._features) if compile else self._features
        self._head = head

    @torch.inference_mode()
    def run(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Crops [R,3,224,224] float32 on the device -> the head's tensors of R rows, on the CPU."""
        running = [self.start(part) for part in crops.split(self.batch)]
        parts = [one.finish() for one in running]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    @torch.inference_mode()
    def start(self, crops: Tensor) -> "Running":
        """One batch of crops [R,3,224,224], at most ``batch`` of them, on its way.

        A CUDA device works while the caller goes on; on a CPU all is done when this returns.
        """
        rows = len(crops)
        crops = self._filled_up(crops)
        trunk = self._whole_batch if len(crops) == self.batch else self._features
        maps = trunk(crops.to(self.dtype, memory_format=torch.channels_last))
        return Running(tuple(column[:rows] for column in self._head(maps.float())), self.device)

    def _filled_up(self, crops: Tensor) -> Tensor:
        """Crops [R,3,224,224] with blanks behind them: a GPU chooses its programs by the size of a batch, and
        does so once for each."""
        size = next((bucket for bucket in self._buckets if bucket >= len(crops)), self.batch)
        if not self._buckets or size <= len(crops):
            return crops
        return torch.cat([crops, crops.new_zeros(size - len(crops), *crops.shape[1:])])


class Running:
    """A batch that was started."""

    def __init__(self, columns: tuple[Tensor, ...], device: torch.device) -> None:
        self._done: torch.cuda.Event | None = None
        if device.type == "cuda":
            # Into pinned memory, so that the copies too run while the caller goes on.
            columns = tuple(
                torch.empty(column.shape, dtype=column.dtype, device="cpu", pin_memory=True).copy_(
                    column, non_blocking=True
                )
                for column in columns
            )
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(device))
        self._columns = columns

    @property
    def done(self) -> bool:
        """Whether :meth:`finish` would not wait."""
        return self._done is None or self._done.query()

    def finish(self) -> tuple[Tensor, ...]:
        """The head's tensors of R rows, on the CPU, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        return self._columns


def choose_device(name: str) -> torch.device:
    """``auto`` is the first CUDA device if there is one, else the CPU; else what torch makes of the name.

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
    """``auto`` is bfloat16 where the device multiplies it in hardware, else float32."""
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


logger = logging.getLogger(__name__)


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
