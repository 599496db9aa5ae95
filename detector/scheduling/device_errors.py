"""What may become of a forward request but outputs, and how failures of a device are told apart."""

import sys

_NO_MEMORY = ("can't allocate memory", "bad_alloc", "bad allocation", "Failed to allocate memory")
"""What torch, OpenVINO and ONNX Runtime say of a CPU's memory."""


class Expired(Exception):
    """The deadline passed before all rows were done."""


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


class OutOfMemory(Exception):
    """Not even a batch of one row fits the device's memory."""


class DeviceFault(Exception):
    """The device does not work any more: its process must end."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether a smaller batch might succeed."""
    if isinstance(error, MemoryError) or _is_torchs(error, "OutOfMemoryError"):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


def is_fault(error: Exception) -> bool:
    """Return whether the device is lost, as after an illegal access: nothing in its process mends it."""
    if _is_torchs(error, "OutOfMemoryError"):
        return False
    if _is_torchs(error, "AcceleratorError"):  # from torch 2.8 on
        return True
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def _is_torchs(error: Exception, kind: str) -> bool:
    """Return whether an error is of a kind of torch's, if torch is what runs."""
    known = getattr(sys.modules.get("torch"), kind, None)
    return known is not None and isinstance(error, known)
