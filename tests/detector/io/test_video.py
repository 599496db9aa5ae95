"""Videos in and out."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.errors import ImageError, WriteError
from detector.io.video import Video, VideoWriter, has_video_suffix
from tests.detector.io.full_disk import files_of_at_most


def moving(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """A bright bar that goes to the right, red as is its place."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), (255 * number // max(count - 1, 1), 40, 90), np.uint8)
        frame[:, 5 * number : 5 * number + 8] = 250
        frames.append(frame)
    return frames


def write(path: Path, frames: list[np.ndarray], rate: float = 10) -> None:
    with VideoWriter(path, rate) as video:
        for frame in frames:
            video.add(frame)


@pytest.mark.parametrize(("step", "numbers"), [(1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (100, [0])])
def test_what_was_written_is_read(tmp_path: Path, step: int, numbers: list[int]) -> None:
    frames = moving(7)
    write(tmp_path / "a.mp4", frames)
    with Video(tmp_path / "a.mp4") as video:
        assert (video.rate, video.frames) == (10, 7)
        found = list(video.every(step))
    assert [frame.number for frame in found] == numbers
    assert [frame.seconds for frame in found] == [number / 10 for number in numbers]
    for frame in found:
        assert np.abs(frame.pixels.astype(int) - frames[frame.number]).mean() < 8, "red stays red"


def test_odd_sides_and_frames_of_other_sizes(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [*moving(2, 65, 49), *moving(1, 130, 98)])
    with Video(tmp_path / "a.mp4") as video:
        assert [frame.pixels.shape for frame in video.every(1)] == [(48, 64, 3)] * 3


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no video"), (b"no video at all", "no video"), (None, "No such file")]
)
def test_what_is_no_video(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises((ImageError, FileNotFoundError), match=said):
        Video(tmp_path / "a.mp4")


def test_one_that_is_cut_off_gives_what_there_is_or_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.avi.mp4", moving(30))
    whole = (tmp_path / "a.avi.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"b\.mp4: it"), Video(tmp_path / "b.mp4") as video:
        list(video.every(1))


def test_after_an_error_there_is_no_file(tmp_path: Path) -> None:
    def fail_within() -> None:
        with VideoWriter(tmp_path / "a.mp4", 10) as video:
            video.add(moving(1)[0])
            assert not (tmp_path / "a.mp4").exists(), "it appears when it is whole"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_within()
    assert list(tmp_path.iterdir()) == []


def test_a_video_for_which_there_is_no_room_is_no_video(tmp_path: Path) -> None:
    """OpenCV says nothing of it."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 240, 320, 3), np.uint8)
    write(tmp_path / "a.mp4", moving(2))
    before = (tmp_path / "a.mp4").read_bytes()
    with files_of_at_most(100_000), pytest.raises(WriteError, match=r"a\.mp4: make room"):
        write(tmp_path / "a.mp4", list(noise))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before


@pytest.mark.parametrize(("width", "height"), [(1, 50), (50, 1), (1, 1)])
def test_a_video_of_lines(tmp_path: Path, width: int, height: int) -> None:
    """The codec takes even sides, and so two pixels at least."""
    write(tmp_path / "a.mp4", [np.full((height, width, 3), 200, np.uint8)] * 3)
    with Video(tmp_path / "a.mp4") as video:
        assert [frame.pixels.shape[:2] for frame in video.every(1)] == [(max(2, height), max(2, width))] * 3


def test_one_that_lost_its_end_seems_so(tmp_path: Path) -> None:
    """An AVI states its frames at its beginning."""
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for frame in moving(12):
        writer.write(frame)
    writer.release()
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "b.avi").write_bytes(whole[: len(whole) * 2 // 3])
    for name, cut_off in (("a.avi", False), ("b.avi", True)):
        with Video(tmp_path / name) as video:
            assert len(list(video.every(5))) > 0
            assert (video.frames, video.seems_cut_off) == (12, cut_off)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((WriteError, OSError)), VideoWriter(tmp_path / "file" / "a.mp4", 10) as video:
        video.add(moving(1)[0])


@pytest.mark.parametrize(
    ("name", "video"), [("a.MP4", True), ("a.mov", True), ("mp4", False), ("a.gif", False)]
)
def test_told_by_the_suffix(name: str, video: bool) -> None:
    assert has_video_suffix(name) is video
