"""Whoever logs never waits for whoever reads, and what is lost is told."""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from api.observability.log_writer import LogWriter


def log(writer: LogWriter, lines: range, width: int = 90) -> None:
    for number in lines:
        writer.emit(logging.LogRecord("x", logging.INFO, "", 0, f"{number:{width}}", (), None))


def read_until(fd: int, done: Callable[[bytes], bool]) -> list[str]:
    read = b""
    while not done(read):
        piece = os.read(fd, 65536)
        assert piece, "the writer closed its pipe"
        read += piece
    return read.decode().splitlines()


def test_nobody_reads_until_later() -> None:
    """None of 3,000 lines waits for the reader, each is read or counted, and they stay in order."""
    reader, writer = os.pipe()
    target = LogWriter(writer, max_bytes=50_000)
    log(target, range(3000))  # 270 KB: a pipe holds 64
    lines = read_until(reader, lambda read: accounted_for(read) == 3000)
    numbers = [int(line) for line in lines if "were lost" not in line]
    assert numbers == sorted(numbers)
    assert 3000 - len(numbers) == target.take_lost() > 1000
    assert target.take_lost() == 0  # told once
    log(target, range(3000, 3001))  # and it goes on
    assert read_until(reader, lambda read: read.endswith(b"\n")) == [f"{3000:90}"]


def test_a_line_longer_than_the_queue() -> None:
    reader, writer = os.pipe()
    log(LogWriter(writer, max_bytes=1000), range(1), width=5000)
    assert read_until(reader, lambda read: read.endswith(b"\n")) == [f"{0:5000}"]


def accounted_for(read: bytes) -> int:
    """The whole lines, and how many others they say were lost."""
    lines = read.decode().split("\n")[:-1]
    return sum(int(line.split()[0]) if "were lost" in line else 1 for line in lines)


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(closed_pipe, id="a pipe whose reader is gone"),
        pytest.param(lambda: os.open("/dev/full", os.O_WRONLY), id="a full disk"),
        pytest.param(lambda: os.open("/dev/null", os.O_RDONLY), id="not open for writing"),
    ],
)
def test_a_descriptor_that_takes_nothing(broken: Callable[[], int]) -> None:
    """Every line counts as lost, nothing is raised, and the thread does not spin."""
    fd = broken()
    target = LogWriter(fd)
    log(target, range(5))
    target.flush()
    assert target.take_lost() == 5
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.2
    os.close(fd)


def test_it_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    full, fd = os.open("/dev/full", os.O_WRONLY), os.open(path, os.O_WRONLY | os.O_CREAT)
    target = LogWriter(full)
    log(target, range(3))
    target.flush()
    os.dup2(fd, full)
    log(target, range(3, 5), width=1)
    target.flush()
    lost, *lines = path.read_text().splitlines()
    assert lost.startswith("3 lines of the log were lost")
    assert lines == ["3", "4"]


def test_a_descriptor_set_to_not_block() -> None:
    """A parent that shares the pipe may have set it so: the thread waits, nothing is lost."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    target = LogWriter(writer)
    log(target, range(3000))
    lines = read_until(reader, lambda read: f"{2999:90}\n".encode() in read)
    assert [int(line) for line in lines] == list(range(3000))


LOUD = """
import logging, os, sys, threading
from api.observability.logs import configure
configure({form!r})
for number in range(60_000):
    {say}
raise SystemExit(7)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("form", "say"),
    [
        pytest.param("json", "logging.getLogger('api').error('x' * 100)", id="logging"),
        pytest.param("text", "logging.getLogger('api').error('x' * 100)", id="logging as text"),
        pytest.param("json", "print('x' * 100)", id="printing"),
        pytest.param("text", "print('x' * 100, file=sys.stderr)", id="printing as text"),
    ],
)
def test_a_process_ends_though_nobody_reads(form: str, say: str) -> None:
    script = LOUD.format(form=form, say=say)
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) as process:
        assert process.wait(timeout=120) == 7  # 6 MB, of which the pipe took 64 KB


def test_the_last_lines_are_written_before_the_end() -> None:
    script = (
        "import logging\nfrom api.observability.logs import configure\nconfigure('text')\n"
        "for n in range(2000): logging.getLogger('api').error('%d.', n)"
    )
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=120, check=True)
    assert [int(n) for n in re.findall(rb"(\d+)\.\n", done.stderr)] == list(range(2000))


def test_closed_standard_streams_do_not_become_something_else() -> None:
    """Or a socket would get their number, and the log's lines."""
    script = (
        "import logging, os\nfrom api.observability.logs import configure\nconfigure('auto')\n"
        "fd = os.open('/dev/null', os.O_RDONLY)\nprint('x')\n"
        "logging.getLogger('api').error('x')\nos._exit(fd)"
    )
    shell = f'exec "{sys.executable}" -c "{script}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", shell], timeout=120, check=False).returncode > 2
