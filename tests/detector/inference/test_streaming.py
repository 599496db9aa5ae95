"""Streams of images: several at once, in order, in bounded memory, however they end."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from detector.errors import ImageError, ParameterError
from detector.inference.detector import Detector
from detector.inference.executor import Executor
from detector.inference.loading import load_detector
from detector.inference.streaming import stream
from detector.io.visualization import save

ENGINES = ("openvino", "onnxruntime", "torch")


def doubled(number: int, executor: Executor) -> int:
    return 2 * number


@pytest.mark.parametrize("count", [0, 1, 5, 100])
def test_results_come_in_order(count: int) -> None:
    assert list(stream(range(count), doubled, streams=2)) == [(n, 2 * n) for n in range(count)]


def test_a_slow_item_holds_up_its_successors_alone() -> None:
    """What is done behind it waits for its turn."""
    slow = threading.Event()

    def work(number: int, executor: Executor) -> int:
        if number == 1:
            assert slow.wait(30)
        elif number == 4:
            slow.set()
        return number

    assert [result for _, result in stream(range(8), work, streams=2, ahead=2)] == list(range(8))


def test_an_error_is_a_result() -> None:
    def work(number: int, executor: Executor) -> int:
        if number % 2:
            raise ImageError("unreadable", f"number {number}")
        return number

    results = [result for _, result in stream(range(4), work, streams=1)]
    assert results[::2] == [0, 2]
    assert [str(error) for error in results[1::2]] == ["number 1", "number 3"]


def test_of_an_endless_stream_little_is_taken_ahead() -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = stream(endless(), doubled, streams=2, ahead=3)
    for given in range(1, 50):
        assert next(results) == (given, 2 * given)
        assert taken - given <= 2 * (2 + 3)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stream")]


def test_an_iterable_that_fails_ends_the_stream() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise OSError("the list is gone")

    results = stream(failing(), doubled, streams=1)
    assert next(results) == (1, 2), "what came before is not lost"
    with pytest.raises(OSError, match="the list is gone"):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("stream", "device"))]


def test_nothing_runs_without_threads() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        next(stream([1], doubled, streams=0))


@pytest.fixture(scope="module", params=ENGINES)
def detector(request: pytest.FixtureRequest, multibox_path: Path) -> Detector:
    return load_detector(multibox_path, engine=request.param, device="cpu", profile="fast", max_proposals=6)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (50 + 7 * n, 90 - 5 * n, 3), np.uint8) for n in range(5)]


def same(one, other) -> bool:  # type: ignore[no-untyped-def]
    return (
        one.labels.tolist() == other.labels.tolist()
        and np.allclose(one.scores, other.scores, atol=1e-4)
        and np.allclose(one.boxes, other.boxes, atol=1e-2)
    )


def test_a_stream_finds_what_images_one_by_one_have(detector: Detector, images: list[np.ndarray]) -> None:
    expected = detector.detect(images, score_threshold=0.01)
    assert any(len(found) for found in expected)
    found = list(detector.stream(iter(images), score_threshold=0.01))
    assert all(same(*pair) for pair in zip(found, expected, strict=True))
    assert found[0].classes is detector.classes


def test_one_image_or_several(detector: Detector, images: list[np.ndarray], tmp_path: Path) -> None:
    """In each form; one gives its detections, a list a list."""
    path = tmp_path / "one.png"
    save(path, images[0])
    [expected] = detector.detect([images[0]], score_threshold=0.01)
    for form in (images[0], path, str(path), path.read_bytes()):
        assert same(detector.detect(form, score_threshold=0.01), expected)
    assert detector.detect([]) == []
    assert len(detector.detect(np.stack([images[0]] * 2))) == 2, "an array of images is several"


def test_some_classes_alone(detector: Detector, images: list[np.ndarray]) -> None:
    everything = detector.detect(images[0], score_threshold=0.0)
    wanted = everything[0]
    found = detector.detect(images[0], score_threshold=0.0, classes=[wanted.name])
    assert len(found)
    assert set(found.names) == {wanted.name}
    with pytest.raises(ParameterError, match="no class 'zeppelin'"):
        detector.stream([], classes="zeppelin")


def test_an_image_that_cannot_be_read(detector: Detector, images: list[np.ndarray], tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    given = [images[0], bad, tmp_path / "missing.jpg", images[1]]
    found = list(detector.stream(given, return_exceptions=True))
    assert [type(entry) for entry in found] == [type(found[0]), ImageError, FileNotFoundError, type(found[0])]
    results = detector.stream(given)
    next(results)
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        next(results)


def test_several_threads_use_one_detector(detector: Detector, images: list[np.ndarray]) -> None:
    expected = detector.detect(images, score_threshold=0.01)
    wrong: list[object] = []

    def ask(number: int) -> None:
        for index in np.random.default_rng(number).permutation(len(images)):
            found = detector.detect(images[index], score_threshold=0.01)
            if not same(found, expected[index]):
                wrong.append((number, index))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
