"""Parquet files that are damaged anywhere: shards are made anew, inputs are named."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detector.bulk.shards import ShardBuilder, failures_of
from detector.bulk.sources import sources_of
from detector.errors import DatasetError, ParameterError
from tests.detector.bulk.pictures import save_parquet

BOX = {"xmin": 0.0, "ymin": 0.0, "xmax": 1.0, "ymax": 1.0}
ROWS = 20


def damaged(data: bytes, count: int = 300) -> Iterator[bytes]:
    """Yield copies with some bytes zero, as a power cut leaves them, or one bit turned, or a part missing."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        zeroed, turned = bytearray(data), bytearray(data)
        place = int(rng.integers(len(data)))
        zeroed[place : place + 64] = bytes(len(zeroed[place : place + 64]))
        turned[place] ^= 1 << int(rng.integers(8))
        yield bytes(zeroed)
        yield bytes(turned)
        yield data[:place] + data[min(place + 200, len(data)) :]


@pytest.fixture(scope="module")
def shard() -> bytes:
    builder = ShardBuilder(0, "job")
    for number in range(ROWS - 1):
        builder.add(f"{number}.jpg", 10, 10, [{"label": "a", "class_id": "x", "score": 0.5, "box": BOX}] * 3)
    builder.add_error("last.jpg", "cut off")
    return builder.finish().data


def test_a_damaged_shard_is_made_anew(shard: bytes, tmp_path: Path) -> None:
    """Whatever pyarrow says of it: nothing is raised, and no damage of the values is taken for a shard."""
    path = tmp_path / "part-00000.parquet"
    path.write_bytes(shard)
    assert failures_of(path, "job", ROWS) == 1
    answers = []
    for data in damaged(shard):
        path.write_bytes(data)
        answers.append(failures_of(path, "job", ROWS))
    assert set(answers) <= {None, 1, *range(ROWS)}
    assert answers.count(None) > len(answers) / 2


def test_a_shard_that_cannot_be_looked_for_is_no_damage(tmp_path: Path) -> None:
    assert failures_of(tmp_path / "missing.parquet", "job", ROWS) is None
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        failures_of(tmp_path / "file" / "part-00000.parquet", "job", ROWS)


def problem_of(path: Path) -> str:
    """What is told of an input whose pictures are all read; empty where nothing is."""
    try:
        for source in sources_of([path.name], path.parent, "image"):
            list(source.pictures())
    except (DatasetError, ParameterError) as error:
        return str(error)
    return ""


def test_a_damaged_input_is_named(tmp_path: Path) -> None:
    path = save_parquet(tmp_path / "in.parquet", {"image": [f"{number}.jpg" for number in range(ROWS)]})
    problems = []
    for data in damaged(path.read_bytes(), 150):
        path.write_bytes(data)
        problems.append(problem_of(path))
    assert all(str(path) in problem for problem in problems if problem)
    assert sum("is no whole Parquet file (" in problem for problem in problems) > 100
