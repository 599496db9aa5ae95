"""Pictures of files, tar shards and Parquet files: the same ones by parts as at once."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from detector.bulk.plan import Plan
from detector.bulk.sources import PictureSource, TarMembers, sources_of
from detector.errors import DatasetError, DetectorError, ImageError, ParameterError
from tests.detector.bulk.pictures import jpeg, save_folder, save_parquet, save_tar

COUNT = 11


def folder_of_files(folder: Path) -> list[str]:
    save_folder(folder / "photos", COUNT)
    return [f"photos/{number:02}.jpg" for number in range(COUNT)]


def tar_with_labels(folder: Path) -> list[str]:
    members = {}
    for number in range(COUNT):
        members |= {
            f"{number:02}.cls": b"3",
            f"{'long' * 40}/{number:02}.jpg": jpeg(number),
            f"._{number:02}.jpg": b"what macOS leaves",
        }
    save_tar(folder / "shard.tar", members)
    return ["shard.tar"]


def parquet_of_bytes(folder: Path) -> list[str]:
    save_parquet(folder / "a.parquet", {"id": list(range(COUNT)), "image": [jpeg(n) for n in range(COUNT)]})
    return ["a.parquet"]


def parquet_of_structs(folder: Path) -> list[str]:
    rows = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in range(COUNT)]
    save_parquet(folder / "a.parquet", {"image": rows})
    return ["a.parquet"]


def parquet_of_paths(folder: Path) -> list[str]:
    """Half count from where one is, half from the Parquet file."""
    save_folder(folder / "photos", COUNT)
    (folder / "lists").mkdir()
    paths = [f"{'../' if number % 2 else ''}photos/{number:02}.jpg" for number in range(COUNT)]
    save_parquet(folder / "lists/a.parquet", {"URL": paths})
    return ["lists/a.parquet"]


def parquet_of_addresses(folder: Path) -> list[str]:
    save_folder(folder / "photos", COUNT)
    addresses = [(folder / f"photos/{number:02}.jpg").as_uri() for number in range(COUNT)]
    save_parquet(folder / "a.parquet", {"url": addresses})
    return ["a.parquet"]


def a_bit_of_each(folder: Path) -> list[str]:
    save_folder(folder / "photos", 3)
    save_tar(folder / "s.tar", {f"{number}.jpg": jpeg(number) for number in range(3, 7)})
    save_parquet(folder / "a.parquet", {"jpg": [jpeg(number) for number in range(7, COUNT)]})
    return ["photos/00.jpg", "photos/01.jpg", "photos/02.jpg", "s.tar", "a.parquet"]


def widths(source: PictureSource) -> list[int]:
    return [picture.read().pixels.shape[1] for picture in source.pictures()]


@pytest.mark.parametrize(
    "make",
    [
        folder_of_files,
        tar_with_labels,
        parquet_of_bytes,
        parquet_of_structs,
        parquet_of_paths,
        parquet_of_addresses,
        a_bit_of_each,
    ],
)
@pytest.mark.parametrize("size", [1, 3, 4, 5, COUNT, 100])
def test_chunks_are_the_inputs_cut_in_order(
    make: Callable[[Path], list[str]], size: int, tmp_path: Path
) -> None:
    """Each is sent through pickle, as to another process; 4 is the size of a row group."""
    plan = Plan(sources_of(make(tmp_path), tmp_path), size)
    assert len(plan) == COUNT
    chunks = [pickle.loads(pickle.dumps(chunk)) for chunk in plan.chunks()]
    assert [chunk.number for chunk in chunks] == list(range(plan.shards))
    assert [len(chunk) for chunk in chunks] == [
        len(range(COUNT)[at : at + size]) for at in range(0, COUNT, size)
    ]
    assert [width for chunk in chunks for width in widths(chunk)] == [40 + number for number in range(COUNT)]
    names = [picture.name for chunk in chunks for picture in chunk.pictures()]
    assert len(set(names)) == COUNT
    assert Plan(sources_of(make_again(make, tmp_path), tmp_path), size).digest() == plan.digest()


def make_again(make: Callable[[Path], list[str]], folder: Path) -> list[str]:
    """The same input, found anew."""
    again = folder / "again"
    again.mkdir()
    names = make(again)
    for name in names:
        if name.endswith(".parquet"):
            (folder / name).write_bytes((again / name).read_bytes())
    return names


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        pytest.param("image", b"no picture", "not a picture", id="bytes of something else"),
        pytest.param("image", b"", "is empty", id="no bytes"),
        pytest.param("image", None, "neither bytes nor a path", id="no value"),
        pytest.param("path", "", "neither bytes nor a path", id="an empty path"),
        pytest.param("path", "missing.jpg", "No such file", id="no file"),
        pytest.param("path", ".", "is no file", id="a folder"),
        pytest.param("url", "nowhere://a/b.jpg", "address cannot be read", id="no such kind of address"),
        pytest.param("url", "file:///missing.jpg", "missing.jpg", id="no such object"),
    ],
)
def test_a_bad_row_costs_itself_alone(column: str, value: object, says: str, tmp_path: Path) -> None:
    kind = pa.binary() if column == "image" else pa.string()
    good = jpeg(1) if column == "image" else str(save_folder(tmp_path / "photos", 2) / "01.jpg")
    save_parquet(tmp_path / "a.parquet", {column: pa.array([good, value, good], kind)})
    [source] = sources_of(["a.parquet"], tmp_path)
    first, bad, last = source.pictures()
    assert first.read().pixels.shape == last.read().pixels.shape == (30, 41, 3)
    with pytest.raises((ImageError, OSError), match=says):
        bad.read()


TWO = {"a.jpg": jpeg(1), "b.jpg": jpeg(2)}


def behind(count: int) -> int:
    """Where the first ``count`` members of a tar file of ``TWO`` end."""
    sizes = [len(data) for data in list(TWO.values())[:count]]
    return sum(512 + -(-size // 512) * 512 for size in sizes)


def cut_off(path: Path, size: int = 700) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def damaged(path: Path, at: int) -> Path:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    return path


def twice(path: Path) -> Path:
    """What ``cat a.tar a.tar`` makes."""
    path.write_bytes(path.read_bytes() * 2)
    return path


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        pytest.param(
            lambda f: save_tar(f / "a.tar", {"a.jpg": jpeg(1)}, "w:gz"),
            DatasetError,
            "no whole, uncompressed tar file",
            id="compressed",
        ),
        pytest.param(
            lambda f: cut_off(save_tar(f / "a.tar", {"a.jpg": jpeg(1)})),
            DatasetError,
            "no whole, uncompressed tar file",
            id="a tar that ends early",
        ),
        pytest.param(
            lambda f: cut_off(save_tar(f / "a.tar", TWO), behind(1) + 100),
            DatasetError,
            "ends within the header",
            id="a tar that ends in a header",
        ),
        pytest.param(
            lambda f: damaged(save_tar(f / "a.tar", TWO), behind(1) + 3),
            DatasetError,
            "no header of a file at byte",
            id="a tar with a damaged header",
        ),
        pytest.param(
            lambda f: cut_off(save_parquet(f / "a.parquet", {"image": [jpeg(1)]})),
            DatasetError,
            "no whole Parquet file",
            id="a Parquet file that ends early",
        ),
        pytest.param(
            lambda f: save_parquet(f / "a.parquet", {"id": [1], "text": ["a"]}),
            ParameterError,
            "it has id, text; name one by --column",
            id="no usual name",
        ),
        pytest.param(
            lambda f: save_parquet(f / "a.parquet", {"image": [1]}),
            ParameterError,
            "holds neither bytes nor paths",
            id="numbers",
        ),
        pytest.param(lambda f: f / "a.mp4", ParameterError, "is a video", id="a video"),
        pytest.param(lambda f: f / "a.tar", FileNotFoundError, "a.tar", id="no tar"),
        pytest.param(lambda f: f / "a.parquet", FileNotFoundError, "a.parquet", id="no Parquet file"),
    ],
)
def test_inputs_that_are_refused_before_anything_runs(
    make: Callable[[Path], Path], error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        sources_of([make(tmp_path)], tmp_path)


@pytest.mark.parametrize(
    ("change", "count", "doubt"),
    [
        pytest.param(lambda path: path, 2, None, id="whole"),
        pytest.param(lambda path: cut_off(path, behind(2) + 512), 2, None, id="one empty block ends it"),
        pytest.param(lambda path: cut_off(path, behind(2)), 2, "no end mark", id="cut behind the last"),
        pytest.param(lambda path: cut_off(path, behind(1)), 1, "no end mark", id="cut between two"),
        pytest.param(twice, 2, "goes on behind its end mark", id="two put together"),
    ],
)
def test_a_tar_that_may_have_had_more(
    change: Callable[[Path], Path], count: int, doubt: str | None, tmp_path: Path
) -> None:
    [source] = sources_of([change(save_tar(tmp_path / "a.tar", TWO))], tmp_path)
    assert isinstance(source, TarMembers)
    assert len(widths(source)) == count
    assert source.doubt == doubt or (doubt is not None and doubt in str(source.doubt))


def test_the_column_that_is_named(tmp_path: Path) -> None:
    save_parquet(tmp_path / "a.parquet", {"image": [jpeg(1)], "thumbnail": [jpeg(2)]})
    [source] = sources_of(["a.parquet"], tmp_path, "thumbnail")
    assert widths(source) == [42]
    with pytest.raises(DetectorError, match="has no column 'thumb'"):
        sources_of(["a.parquet"], tmp_path, "thumb")


def test_a_tar_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = save_tar(tmp_path / "a.tar", {f"{number}.jpg": jpeg(number) for number in range(3)})
    [source] = sources_of([path], tmp_path)
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DatasetError, match="changed while it was read"):
        list(source.pictures())
