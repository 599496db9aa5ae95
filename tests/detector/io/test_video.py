"""Videos in and out."""

from pathlib import Path

import numpy as np
import pytest

from detector.errors import ImageError, WriteError
from detector.io.video import Video, VideoWriter, has_video_suffix


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


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises((WriteError, OSError)), VideoWriter(tmp_path / "file" / "a.mp4", 10) as video:
        video.add(moving(1)[0])


@pytest.mark.parametrize(
    ("name", "video"), [("a.MP4", True), ("a.mov", True), ("mp4", False), ("a.gif", False)]
)
def test_told_by_the_suffix(name: str, video: bool) -> None:
    assert has_video_suffix(name) is video
