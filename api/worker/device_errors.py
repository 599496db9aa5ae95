"""What may become of a look but an answer, and how failures of a device are told apart."""

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
    """Whether a smaller batch might succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_fault(error: Exception) -> bool:
    """Whether the device is lost, as after an illegal access: nothing that its process could do mends it."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    accelerator_error = getattr(torch, "AcceleratorError", None)  # from torch 2.8 on
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
