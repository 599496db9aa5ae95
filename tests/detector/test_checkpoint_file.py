"""The file of a checkpoint: what its SHA-256 is of, and what a file is not."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from detector.checkpoint_file import EARLIER, FORMAT, Cover, digest, read_file, write_file
from detector.errors import CheckpointError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, -1])}
METADATA = {
    "name": "mine",
    "mean": [1.0, 0.1, 1e300],
    "names": ["a", "\u00e4\u2028"],
    "no": None,
    "yes": True,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small file of the format, though of no network."""
    path = tmp_path / "weights.safetensors"
    write_file(path, METADATA, TENSORS)
    return path


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The metadata, the header of safetensors, the bytes of the tensors."""
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:end])
    return json.loads(header["__metadata__"]["googlenet-detector"]), header, data[end:]


def _put(path: Path, text: str) -> None:
    """Gives a file other metadata, as text."""
    _, header, data = _parts(path)
    header["__metadata__"]["googlenet-detector"] = text
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + data)


def test_what_is_written_is_read(path: Path) -> None:
    found = read_file(path)
    assert found.metadata == METADATA
    assert found.cover is Cover.ALL
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)


def _changed(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda metadata: metadata.update({name: value})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_changed("name", "minf"), "is damaged: its metadata and tensors", id="a text"),
        pytest.param(_changed("mean", [1.0, 0.1, 1e308]), "is damaged", id="a number"),
        pytest.param(_changed("mean", [0.1, 1.0, 1e300]), "is damaged", id="an order"),
        pytest.param(_changed("no", False), "is damaged", id="null"),
        pytest.param(_changed("yes", 1), "is damaged", id="true is no 1"),
        pytest.param(_changed("mean", float("nan")), "is damaged", id="no number"),
        pytest.param(_changed("new", None), "is damaged", id="a field more"),
        pytest.param(lambda m: m.pop("no"), "is damaged", id="a field less"),
        pytest.param(_changed("sha256", "0" * 64), "is damaged", id="another digest"),
        pytest.param(_changed("sha256", None), "is damaged", id="a digest that is null"),
        pytest.param(lambda m: m.pop("sha256"), "states no SHA-256, which files of", id="no digest"),
        pytest.param(
            _changed("format", EARLIER), "its tensors do not have", id="said to be of the format before"
        ),
        pytest.param(_changed("format", "googlenet-detector/3"), "this version reads", id="a later format"),
        pytest.param(lambda m: m.pop("format"), "format null", id="no format"),
    ],
)
def test_whatever_changes_the_content_is_found(
    path: Path, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    metadata, _, _ = _parts(path)
    change(metadata)
    _put(path, json.dumps(metadata))
    with pytest.raises(CheckpointError, match=says) as caught:
        read_file(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda m: json.dumps(m, indent=2), id="white space"),
        pytest.param(lambda m: json.dumps(m, ensure_ascii=False), id="no escapes"),
        pytest.param(lambda m: json.dumps(m, sort_keys=True), id="another order of names"),
        pytest.param(lambda m: json.dumps({**m, "mean": [1, 0.1, 1e300]}), id="1.0 as 1, as JavaScript does"),
        pytest.param(
            lambda m: json.dumps(m).replace("1e+300", "10.0E299"), id="another way to write a number"
        ),
    ],
)
def test_the_same_content_written_otherwise_is_no_damage(
    path: Path, again: Callable[[dict[str, Any]], str]
) -> None:
    metadata, _, _ = _parts(path)
    assert again(metadata) != json.dumps(metadata)
    _put(path, again(metadata))
    assert read_file(path).metadata == METADATA


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"format": "x", "format": "y"}', 'name "format" twice'),
        ('{"a": {"b\\u001b": 1, "b\\u001b": 2}}', r"twice"),
        ("{nope", "is no JSON"),
        ("9" * 5000, "is no JSON"),
    ],
)
def test_metadata_that_cannot_be_told(path: Path, text: str, says: str) -> None:
    _put(path, text)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_file(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("stated", [True, False])
def test_files_of_the_format_before_are_read_as_before(tmp_path: Path, stated: bool) -> None:
    """Their SHA-256 is of the tensors, and may lack."""
    path = tmp_path / "old.safetensors"
    header = {"format": EARLIER, **({"sha256": digest(TENSORS)} if stated else {}), **METADATA}
    save_file(TENSORS, path, metadata={"googlenet-detector": json.dumps(header)})
    found = read_file(path)
    assert found.metadata == METADATA
    assert found.cover is (Cover.TENSORS if stated else Cover.NOTHING)


def test_the_digest_before_is_still_the_same() -> None:
    """Of files that lie on people's disks."""
    assert digest(TENSORS) == "2e6550bc176e273605781202a152bfb6382d5c7717b7841e2bb1df56fac5ac25"
    assert (
        digest(TENSORS, {"format": FORMAT, **METADATA})
        == "f32923c092b4259f714326a7010f717df791af99167766ba81768c17371f94b3"
    )


def test_a_changed_tensor_is_found(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged"):
        read_file(path)


def _safetensors(header: str | dict[str, Any], data: bytes = bytes(64)) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def _tensor(first: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(end - first) // 4], "data_offsets": [first, end]}


NAMES = {"googlenet-detector": json.dumps({"format": EARLIER})}

NO_FILES = [
    ("nothing", b"", "no whole safetensors file"),
    ("a header of 2**63 bytes", struct.pack("<Q", 2**63) + bytes(100), "no whole safetensors file"),
    ("a header of 2**64 - 1 bytes", struct.pack("<Q", 2**64 - 1) + bytes(100), "no whole safetensors file"),
    ("a header longer than the file", struct.pack("<Q", 1000) + bytes(100), "no whole safetensors file"),
    ("a header that is no JSON", _safetensors("{nope"), "no whole safetensors file"),
    ("a header that is no UTF-8", struct.pack("<Q", 4) + b"\xff\xfe\xff\xfe", "no whole safetensors file"),
    ("a header without end", _safetensors("[" * 100_000), "no whole safetensors file"),
    (
        "overlapping tensors",
        _safetensors({"__metadata__": NAMES, "a": _tensor(0, 64), "b": _tensor(32, 64)}),
        "no whole safetensors file",
    ),
    (
        "a tensor beyond the end",
        _safetensors({"__metadata__": NAMES, "a": _tensor(0, 128)}),
        "no whole safetensors file",
    ),
    (
        "a gap between tensors",
        _safetensors({"__metadata__": NAMES, "a": _tensor(0, 16), "b": _tensor(32, 64)}),
        "no whole safetensors file",
    ),
    (
        "a name twice",
        _safetensors(f'{{"a": {json.dumps(_tensor(0, 32))}, "a": {json.dumps(_tensor(32, 64))}}}'),
        "no whole safetensors file|not a checkpoint",
    ),
    ("metadata that are no text", _safetensors({"__metadata__": {"a": 1}}), "no whole safetensors file"),
]


@pytest.mark.parametrize(("data", "says"), [one[1:] for one in NO_FILES], ids=[one[0] for one in NO_FILES])
def test_files_that_are_none(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_file(path)
    assert str(caught.value).isprintable()


def _loop(path: Path) -> None:
    path.symlink_to(path)


PLACES = [
    ("nothing", lambda path: None, "does not exist"),
    ("a folder", lambda path: path.mkdir(), "is a folder: name a file"),
    ("a pipe", os.mkfifo, "is a pipe, a socket or a device"),
    ("a device", lambda path: path.symlink_to("/dev/zero"), "is a pipe, a socket or a device"),
    ("a loop of links", _loop, "its symbolic links lead in a circle"),
    ("a link to nothing", lambda path: path.symlink_to("nowhere"), "does not exist"),
]


@pytest.mark.parametrize(("make", "says"), [one[1:] for one in PLACES], ids=[one[0] for one in PLACES])
def test_places_without_a_file(tmp_path: Path, make: Callable[[Path], None], says: str) -> None:
    """A pipe would be waited for without end."""
    path = tmp_path / "weights\n.safetensors"
    make(path)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_file(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/etc/passwd/weights", "a file stands where its path has a folder"),
        ("a" * 300, "no file has so long a name"),
        ("a\0b", "no file can have such a name"),
    ],
)
def test_paths_of_no_file(path: str, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        read_file(Path(path))


def test_a_file_that_may_not_be_read(path: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    shutil.move(path, hidden := tmp_path / "hidden.safetensors")
    hidden.chmod(0o600)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match="may not be read: ask for the permission"):
            read_file(hidden)
    finally:
        os.seteuid(0)
