"""What a Detector and a Classifier take for a picture, and that the caller's settings change nothing."""

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detector.errors import ImageError, ParameterError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.loading import load_classifier, load_detector


def pixels() -> np.ndarray:
    image = np.full((60, 80, 3), (90, 140, 200), np.uint8)
    image[20:50, 10:40] = 200, 60, 40
    return image


@pytest.fixture(scope="module")
def detector(multibox_path: Path) -> Detector:
    return load_detector(multibox_path, device="cpu", profile="fast", max_proposals=2)


@pytest.fixture(scope="module")
def classifier(multibox_path: Path) -> Classifier:
    return load_classifier(multibox_path, device="cpu")


def png(image: np.ndarray, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "PNG", **options)
    return file.getvalue()


def outputs(detector: Detector, image: Any) -> list[bytes]:
    """Every number of what is found, bit by bit, of a low threshold."""
    (found,) = detector.detect([image], score_threshold=0)
    return [found.boxes.tobytes(), found.labels.tobytes(), found.scores.tobytes()]


def turned() -> bytes:
    """The picture stored a quarter turned, with the EXIF entry that turns it back."""
    exif = Image.Exif()
    exif[274] = 6
    return png(np.ascontiguousarray(np.rot90(pixels())), exif=exif)


def read_only() -> np.ndarray:
    image = pixels()
    image.flags.writeable = False
    return image


TAKEN: dict[str, Callable[[Path], Any]] = {
    "a path": lambda folder: folder / "a.png",
    "a path as text": lambda folder: str(folder / "a.png"),
    "bytes": lambda folder: png(pixels()),
    "a bytearray": lambda folder: bytearray(png(pixels())),
    "a memoryview": lambda folder: memoryview(png(pixels())),
    "a Pillow image": lambda folder: Image.fromarray(pixels()),
    "a Pillow image of a file, turned": lambda folder: Image.open(BytesIO(turned())),
    "bytes of a turned picture": lambda folder: turned(),
    "a transparent Pillow image": lambda folder: Image.fromarray(pixels()).convert("RGBA"),
    "a read-only array": lambda folder: read_only(),
    "what numpy makes of a Pillow image": lambda folder: np.asarray(Image.fromarray(pixels())),
    "negative strides": lambda folder: pixels()[::-1, ::-1].copy()[::-1, ::-1],
    "channels turned": lambda folder: pixels()[:, :, ::-1].copy()[:, :, ::-1],
    "columns first in memory": lambda folder: np.asfortranarray(pixels()),
    "a masked array": lambda folder: np.ma.masked_array(pixels()),
    "a view of every second pixel": lambda folder: pixels().repeat(2, 0).repeat(2, 1)[::2, ::2],
}


@pytest.mark.parametrize("kind", TAKEN)
def test_pictures_of_any_form_give_the_same_to_the_bit(
    detector: Detector, classifier: Classifier, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "a.png").write_bytes(png(pixels()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert outputs(detector, TAKEN[kind](tmp_path)) == outputs(detector, pixels())
        assert np.array_equal(
            classifier.probabilities(TAKEN[kind](tmp_path)), classifier.probabilities(pixels())
        )


REFUSED: list[tuple[str, Any, str]] = [
    ("grey", pixels()[:, :, 0], "make it RGB"),
    ("grey of one channel", pixels()[:, :, :1], "make it RGB"),
    ("with alpha", np.zeros((8, 8, 4), np.uint8), "alpha channel off"),
    ("floats", pixels() / 255, "convert it"),
    ("16 bits, big endian", pixels().astype(">u2"), "convert it"),
    ("truth values", pixels() > 5, "convert it"),
    ("objects", pixels().astype(object), "convert it"),
    ("channels first", pixels().transpose(2, 0, 1), "channels last"),
    ("several", pixels()[None], "one by one"),
    ("no rows", np.zeros((0, 5, 3), np.uint8), "no pixels"),
    ("a number", np.uint8(3) * np.ones((), np.uint8), "got uint8"),
    ("torch's", torch.zeros(3, 8, 8, dtype=torch.uint8), r"permute\(1, 2, 0\)"),
    ("a list", pixels().tolist(), "got list"),
    ("nothing", None, "got NoneType"),
    ("a Pillow image of floats", Image.new("F", (8, 8)), "mode F"),
    ("a Pillow image of 32 bits", Image.new("I", (8, 8)), "mode I"),
    ("a Pillow image without pixels", Image.new("RGB", (0, 8)), "must have pixels"),
]


@pytest.mark.parametrize(("image", "says"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_no_picture_is_refused_with_advice(
    detector: Detector, classifier: Classifier, image: Any, says: str
) -> None:
    for call in (lambda: detector.detect([image]), lambda: classifier.classify([image])):
        with pytest.raises(ParameterError, match=says):
            call()


def test_what_opencv_returns_for_a_missing_file_is_refused(
    detector: Detector, classifier: Classifier
) -> None:
    """None by itself, not in a list."""
    for call in (detector.detect, classifier.classify):
        with pytest.raises(ParameterError, match="got NoneType"):
            call(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["street.jpg", Path("street.jpg"), b"bytes", pixels(), None])
def test_one_image_alone_is_no_stream(detector: Detector, image: Any) -> None:
    """A path would be taken letter by letter, an array row by row."""
    with pytest.raises(ParameterError, match="takes an iterable of images"):
        detector.stream(image)


def test_files_that_cannot_be_read(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        detector.detect([tmp_path / "absent.png"])
    with pytest.raises(ImageError):
        detector.detect([b"nonsense"])
    cut = Image.open(BytesIO(png(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))[:3000]))
    with pytest.raises(ImageError):
        detector.detect([cut])


@contextmanager
def process_wide(setter: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


STATES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default dtype float64": lambda: process_wide(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype float16": lambda: process_wide(torch.set_default_dtype, torch.float16, torch.float32),
    "default device meta": lambda: process_wide(torch.set_default_device, "meta", None),
    "a device around": lambda: torch.device("meta"),
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "detection of anomalies": torch.autograd.detect_anomaly,
    "deterministic": lambda: process_wide(torch.use_deterministic_algorithms, True, False),
    "one thread of OpenCV": lambda: process_wide(cv2.setNumThreads, 0, cv2.getNumThreads()),
    "numpy raises": lambda: np.errstate(all="raise"),
}


def found_state() -> list[Any]:
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        cv2.getNumThreads(),
        np.geterr(),
        torch.get_rng_state().tolist() if torch.get_default_device().type != "meta" else None,
        np.random.get_state()[1].tolist(),  # noqa: NPY002 (the one that others may rely on)
        random.getstate(),
    ]


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("state", ["nothing", *STATES])
def test_the_caller_s_settings_change_nothing_and_stay(
    detector: Detector, classifier: Classifier, multibox_path: Path, state: str
) -> None:
    """Neither a detector that is there already nor one that is loaded meanwhile."""
    expected = outputs(detector, pixels()), classifier.probabilities(pixels()).tobytes()
    with ExitStack() as stack:
        stack.enter_context(STATES.get(state, nullcontext)())
        before = found_state()
        assert outputs(detector, pixels()) == expected[0]
        assert classifier.probabilities(pixels()).tobytes() == expected[1]
        loaded = load_detector(multibox_path, device="cpu", profile="fast", max_proposals=2)
        assert outputs(loaded, pixels()) == expected[0]
        assert found_state() == before
    assert outputs(loaded, pixels()) == expected[0]
