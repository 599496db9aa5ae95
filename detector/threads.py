"""How many threads work may take, and threads that take no more than themselves.

torch shares each operation out among threads of its own; where batches run beside each other, each on a
thread of ours, that is switched off (:func:`run_alone`). torch is asked only where it is loaded already.
"""

import os
import sys
from threading import local

_thread = local()


def available_threads() -> int:
    """Return how many threads the caller's work may be shared out among: 1 in a thread that runs alone."""
    if getattr(_thread, "alone", False):
        return 1
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    return default_threads()


def default_threads() -> int:
    """Return what ``OMP_NUM_THREADS`` says, or how many processors this process may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_alone() -> None:
    """Have this thread run its work without help."""
    _thread.alone = True
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):  # another thread may be importing it
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread takes over the number of the process when it first asks: at once
