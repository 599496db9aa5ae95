"""Items of a data set in order, made ahead of their use by processes."""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from detector.errors import DatasetError, DetectorError
from training.trainer.distributed import ProcessGroup


def load_items(
    dataset: Dataset[Any], numbers: Iterable[int], device: torch.device, workers: int
) -> Iterator[Any]:
    """Yield the items of a data set with these numbers, in order, made ahead by ``workers`` processes.

    With 0 workers this process makes each item when it is needed. Raises what making an item raises:
    DatasetError for an error of the library, OSError for one of the file system.
    """
    items = DataLoader(
        _WithErrors(dataset),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_use_one_thread,
    )
    for item in items:
        if isinstance(item, _Failure):
            raise item.error
        yield item


def workers_for(device: torch.device, world: ProcessGroup) -> int:
    """Return how many processes make minibatches: a GPU waits for them, a CPU's cores are all in use."""
    return min(16, max((os.cpu_count() or 1) // world.size - 1, 1)) if device.type == "cuda" else 0


class _Failure:
    """An error in place of an item: raised in the worker, it would arrive as the text of its traceback."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _WithErrors(Dataset[Any]):
    """A data set whose errors of data and files are items."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except DetectorError as error:
            return _Failure(DatasetError(str(error)))
        except OSError as error:
            return _Failure(error)


def _use_one_thread(worker: int) -> None:
    cv2.setNumThreads(0)  # there are as many workers as cores
