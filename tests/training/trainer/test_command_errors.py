"""How scripts end that cannot go on, and where the disk has no room."""

import errno
import resource
from pathlib import Path

import pytest

from detector.errors import DetectorError
from training.trainer.command_errors import DiskSpaceError, add_path_to_errors, allocate, one_line_errors


def test_a_limit_on_file_sizes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DiskSpaceError, match=r"\(1,000 bytes\) can be had"):
            allocate(tmp_path / "file", 5000, "maps", "another folder")
        allocate(tmp_path / "file", 900, "maps", "another folder")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "file").stat().st_size == 900


ERRORS = [
    pytest.param(PermissionError(errno.EACCES, "Permission denied", "/runs/x"), id="no right"),
    pytest.param(OSError(errno.EROFS, "Read-only file system", "/runs/x"), id="read-only"),
    pytest.param(OSError(errno.ENOSPC, "No space left on device", "/runs/x"), id="full"),
    pytest.param(NotADirectoryError(errno.ENOTDIR, "Not a directory", "/runs/x"), id="a file for a folder"),
    pytest.param(OSError(errno.EIO, "Input/output error"), id="no name of a file known"),
    pytest.param(DetectorError("what is wrong"), id="the library's own"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_script_ends_in_one_line(error: Exception) -> None:
    with pytest.raises(SystemExit) as raised, one_line_errors():
        raise error
    text = str(raised.value)
    assert text.startswith("error: ")
    assert "\n" not in text
    if getattr(error, "filename", None):
        assert "/runs/x" in text


def test_errors_of_writing_get_the_files_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full") as raised, add_path_to_errors(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full")
    assert raised.value.filename == str(tmp_path / "a")
