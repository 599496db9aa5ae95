import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.errors import DetectorError, WriteError
from detector.io.atomic_write import check_writable, write_whole

NOBODY = 65534


def as_nobody(call: str, path: Path) -> str:
    """What a call of this module says to a user without rights; nothing if it succeeds."""
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom detector import errors\n"
        "from detector.io import atomic_write as files\n"
        f"os.getuid() or os.setuid({NOBODY})\n"
        f"try: {call}\nexcept errors.WriteError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def open_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that another user can reach."""
    folder = tmp_path_factory.mktemp("open")
    for place in (folder, *folder.parents[:-2]):
        if place.owner() == Path.home().owner() or os.getuid() == 0:
            place.chmod(place.stat().st_mode | 0o711)
    return folder


def test_a_file_is_made_with_its_folder_by_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.json"
    before = os.umask(0o027)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in path.parent.iterdir()] == ["out.json"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755])
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    path.chmod(mode)
    with path.open("rb") as reader:
        write_whole(path, b"new")
        assert reader.read() == b"old", "a reader that has it open keeps the whole old file"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    os.chown(path, NOBODY, NOBODY)
    write_whole(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


@pytest.mark.parametrize("target", ["real.json", "folder/real.json", "second link", "not yet there"])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("real.json", "folder/real.json"):
        (tmp_path / name).write_bytes(b"old")
    (tmp_path / "second link").symlink_to("folder/real.json")
    link = tmp_path / "link"
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert str(link.readlink()) == target
    assert link.resolve().read_bytes() == b"new"
    assert (tmp_path / "second link").is_symlink()


def test_a_pipe_is_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to("pipe")
    data = bytes(300_000)  # more than a pipe holds
    for path in (pipe, tmp_path / "link"):
        reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
        reader.start()
        check_writable(path)
        write_whole(path, data)
        reader.join(10)
    assert got == [data, data]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_pipe_whose_reader_goes_away(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def read_a_little() -> None:
        with pipe.open("rb", buffering=0) as file:
            file.read(1)

    reader = threading.Thread(target=read_a_little)
    reader.start()
    with pytest.raises(WriteError, match=r"pipe: its reader went away"):
        write_whole(pipe, bytes(3_000_000))
    reader.join(10)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes devices")
def test_a_device_is_written_into(tmp_path: Path) -> None:
    node = tmp_path / "node"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        node.write_bytes(b"")
    except PermissionError:
        pytest.skip("devices are not permitted here")
    check_writable(node)
    write_whole(node, b"new")
    assert stat.S_ISCHR(node.stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/dev/fd/{}", "/proc/self/fd/{}", "link"])
@pytest.mark.parametrize("to", ["pipe", "file"])
def test_an_open_descriptor_is_written_into(tmp_path: Path, name: str, to: str) -> None:
    """In the order of printing, and after what an opened file holds."""
    stream = "stderr" if "stderr" in name else "stdout"
    (tmp_path / "link").symlink_to("/dev/stdout")
    path = str(tmp_path / name) if name == "link" else name.format(1)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from detector.io.atomic_write import check_writable, write_whole\n"
        f"out = sys.{stream}\nprint('before', file=out)\npath = Path({path!r})\n"
        "check_writable(path)\nwrite_whole(path, b'data\\n')\nprint('after', file=out)"
    )
    if to == "pipe":
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        got = getattr(done, stream)
    else:
        with (tmp_path / "out").open("w") as file:
            subprocess.run([sys.executable, "-c", code], check=True, **{stream: file})
        got = (tmp_path / "out").read_text()
    assert got == "before\ndata\nafter\n"


def loop(folder: Path) -> Path:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    return folder / "a"


def dangling(folder: Path) -> Path:
    (folder / "link").symlink_to("nowhere/out.json")
    return folder / "link"


def taken(folder: Path) -> Path:
    (folder / "taken").mkdir()
    (folder / "taken" / "kept").write_bytes(b"")
    return folder / "taken"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file" / "out.json"


def below_a_broken_link(folder: Path) -> Path:
    (folder / "link").symlink_to("nowhere")
    return folder / "link" / "deeper" / "out.json"


def bound(folder: Path) -> Path:
    path = folder / "s"
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket may have 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(here)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(loop, "symbolic links lead in a circle", id="a loop of links"),
        pytest.param(lambda f: loop(f) / "out.json", "symbolic links lead in a circle", id="below a loop"),
        pytest.param(dangling, "does not exist", id="a link into a folder that is absent"),
        pytest.param(taken, "a folder is in the way", id="a folder of that name"),
        pytest.param(below_a_file, "a file is in the way", id="below a file"),
        pytest.param(bound, "socket", id="a socket"),
        pytest.param(lambda f: f / ("a" * 256), "too long", id="a name of 256 bytes"),
        pytest.param(
            lambda f: Path("/proc/self/nowhere"), "cannot write", id="a file system that makes none"
        ),
        pytest.param(lambda f: Path("/dev/fd/987"), "descriptor", id="a descriptor that is closed"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DetectorError, match=says) as failed:
        write_whole(path, b"new")
    assert str(failed.value).startswith(f"cannot write {path}: ")
    assert "\n" not in str(failed.value)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"
    if not str(path).startswith("/proc"):
        with pytest.raises(WriteError, match=says):
            check_writable(path)
        assert sorted(tmp_path.rglob("*")) == before


def test_below_a_broken_link(tmp_path: Path) -> None:
    path = below_a_broken_link(tmp_path)
    check_writable(path)
    write_whole(path, b"new")
    assert (tmp_path / "nowhere" / "deeper" / "out.json").read_bytes() == b"new"


def test_a_full_disk() -> None:
    check_writable(Path("/dev/full"))
    with pytest.raises(WriteError, match=r"cannot write /dev/full: the disk is full: make room"):
        write_whole(Path("/dev/full"), b"new")


def test_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)
    check_writable(path)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("protect", "says"),
    [
        pytest.param("folder", "no permission", id="a folder of somebody else"),
        pytest.param("file", "no permission", id="a file that is write-protected"),
    ],
)
def test_without_permission(open_folder: Path, protect: str, says: str) -> None:
    folder = open_folder / "folder"
    folder.mkdir()
    path = folder / "out.json"
    if protect == "file":
        path.write_bytes(b"old")
        path.chmod(0o444)
        folder.chmod(0o777)
    else:
        folder.chmod(0o555)
    said = as_nobody("files.write_whole(Path(sys.argv[1]), b'new')", path)
    assert said.startswith(f"cannot write {path}: ")
    assert says in said
    assert as_nobody("files.check_writable(Path(sys.argv[1]))", path) == said
    assert [one.name for one in folder.iterdir()] == (["out.json"] if protect == "file" else [])


def test_threads_write_one_file(tmp_path: Path) -> None:
    """Each with a temporary file of its own: what stays is one of them, whole."""
    path, failed = tmp_path / "out", []

    def write(letter: bytes) -> None:
        try:
            for _ in range(30):
                write_whole(path, letter * 100_000)
        except DetectorError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(set(path.read_bytes())) == 1
    assert path.stat().st_size == 100_000
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
