"""What may become of a forward request but outputs, and how failures of a device are told apart."""

import torch


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
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_fault(error: Exception) -> bool:
    """Return whether the device is lost, as after an illegal access: nothing in its process mends it."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    accelerator_error = getattr(torch, "AcceleratorError", None)  # from torch 2.8 on
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
