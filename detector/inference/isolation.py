"""Results that depend on nothing but their arguments, whatever the caller has set in torch and numpy."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch

P = ParamSpec("P")
T = TypeVar("T")


def isolated(function: Callable[P, T]) -> Callable[P, T]:
    """``function`` without the caller's ``torch.autocast``, default device and ``numpy.errstate``.

    All are lifted for the calling thread alone, which has them back afterwards. The default dtype belongs to
    the whole process: it is left alone, and code here names its own.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with ExitStack() as stack:
            stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))  # torchvision's nms makes tensors of no named device
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **kwargs)

    return call
