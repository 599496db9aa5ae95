"""Damaged Parquet files, which pyarrow tells by errors of many kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from detector.errors import DatasetError
from detector.io.terminal_text import one_line, printable_path


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Raise DatasetError, which names the file, where the block finds it damaged.

    Errors of the system, such as a file that is not there, come through as they are.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DatasetError(
            f"{printable_path(path)} is no whole Parquet file ({one_line(error)}): leave it out, or make it "
            "anew"
        ) from error
