"""Drawn pictures: frames where the boxes are, tags inside the picture, files whole or absent."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from detector.errors import ParameterError
from detector.io import decoding as images
from detector.io.tag_placement import MOST_IN_COLUMN, place_tags, tag_places
from detector.io.visualization import MOST_TAGS, colour, draw, save
from detector.structures.boxes import Boxes, as_boxes
from detector.structures.classes import ClassList, ilsvrc_det
from detector.structures.detections import Detections

CLASSES = ClassList.of(["n1", "n2", "n3"], ["dog", "cat", "a class with quite a long name"])


def grey(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def detections(*rows: tuple[list[float], int, float]) -> Detections:
    boxes, labels, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(as_boxes(list(boxes)), np.array(labels, np.int64), np.array(scores, np.float32))


def looks_like(pixel: NDArray[np.uint8], tint: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - tint).max() <= 4)


def test_the_frame_lies_on_the_box_and_nothing_else_changes() -> None:
    image = grey(640, 480)
    drawn = draw(image, detections(([100, 200, 400, 400], 1, 0.87)), CLASSES)
    middles = [(102, 300), (397, 300), (250, 202), (250, 397)]  # of the left, right, top and bottom line
    assert all(looks_like(drawn[y, x], colour(1)) for x, y in middles)
    changed = (drawn != image).any(axis=2)
    assert not changed[:, :100].any()
    assert not changed[:, 400:].any()
    assert not changed[400:].any()
    assert not changed[210:390, 110:390].any()  # the object itself
    assert changed[150:200, 100:200].any()  # the tag, above the box


def test_the_input_is_left_alone() -> None:
    image = grey(640, 480)
    draw(image, detections(([0, 0, 640, 480], 0, 1.0)), CLASSES)
    assert (image == 128).all()


def test_without_detections_the_picture_stays() -> None:
    assert np.array_equal(draw(grey(640, 480), detections(), CLASSES), grey(640, 480))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((227, 227), (720, 720), id="small: enlarged"),
        pytest.param((100, 400), (180, 720), id="small and tall"),
        pytest.param((1, 1), (720, 720), id="one pixel"),
        pytest.param((1, 300), (2, 720), id="a line"),
        pytest.param((480, 2), (480, 2), id="large and flat"),
        pytest.param((480, 360), (480, 360), id="large enough"),
        pytest.param((2000, 1500), (2000, 1500), id="large"),
    ],
)
def test_small_images_are_drawn_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    everything = detections(([0, 0, size[0], size[1]], 2, 0.5), ([0, 0, 0.2, 0.2], 0, 0.4))
    drawn = draw(grey(*size), everything, CLASSES)
    assert drawn.shape == (expected[1], expected[0], 3)
    assert (drawn != 128).any()


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([0, 0, 60, 60], id="top left corner"),
        pytest.param([580, 0, 640, 60], id="top right corner"),
        pytest.param([580, 420, 640, 480], id="bottom right corner"),
        pytest.param([0, 0, 640, 480], id="the whole picture"),
        pytest.param([-50, -50, 700, 500], id="beyond the picture"),
        pytest.param([300, 0, 303, 480], id="a thin one"),
    ],
)
def test_a_tag_is_drawn_whole_inside_the_picture(box: list[float]) -> None:
    def tag_pixels(box: list[float]) -> int:
        drawn = draw(grey(640, 480), detections((box, 0, 0.87)), CLASSES)
        return int((drawn.max(axis=2) <= 40).sum())  # the ink of its text: lines and halos are lighter

    assert tag_pixels(box) == pytest.approx(tag_pixels([200, 200, 500, 400]), rel=0.25)


def test_tags_of_equal_boxes_do_not_cover_each_other() -> None:
    box: list[float] = [200, 200, 440, 400]
    one = draw(grey(640, 480), detections((box, 0, 0.9)), CLASSES)
    three = draw(grey(640, 480), detections((box, 0, 0.9), (box, 1, 0.8), (box, 2, 0.7)), CLASSES)

    def area(drawn: NDArray[np.uint8], label: int) -> int:
        return int((np.abs(drawn.astype(int) - colour(label)).max(axis=2) <= 10).sum())

    above = np.s_[:200]  # where the best one's tag stands
    assert area(three[above], 0) == area(one[above], 0) > 400
    assert area(three, 1) > 400
    assert area(three, 2) > 400


def test_the_better_detection_lies_on_top_whatever_the_order() -> None:
    worse, better = ([100, 200, 400, 400], 0, 0.3), ([100, 200, 400, 400], 1, 0.9)
    drawn = [draw(grey(640, 480), detections(*rows), CLASSES) for rows in ([worse, better], [better, worse])]
    assert np.array_equal(*drawn)
    assert looks_like(drawn[0][300, 102], colour(1))


def scattered(width: int, height: int, count: int) -> Detections:
    """Boxes anywhere in a picture of that size, of every class and score."""
    rng = np.random.default_rng(count)
    corners = rng.uniform(0, 1, (count, 2, 2)) * [width, height]
    boxes: Boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    scores = np.linspace(1, 0, count, dtype=np.float32)
    return Detections(boxes, rng.integers(0, len(CLASSES), count), scores)


SHAPES = [
    pytest.param(1, 65535, id="a column"),
    pytest.param(65535, 1, id="a row"),
    pytest.param(2, 32000, id="two columns"),
    pytest.param(32000, 2, id="two rows"),
    pytest.param(40, 9000, id="narrower than a tag"),
    pytest.param(9000, 12, id="lower than a tag"),
    pytest.param(700, 500, id="an ordinary one"),
]


@pytest.mark.parametrize("count", [1, 12, 1000])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_any_shape_with_any_number_of_boxes(width: int, height: int, count: int) -> None:
    found = scattered(width, height, count)
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    drawn = draw(grey(width, height), found, CLASSES, check)
    assert drawn.shape == (height, width, 3)
    assert (drawn != 128).any()
    assert checks == count + 3 * min(count, MOST_TAGS), "a frame each; a text, a place and a tag each"


@pytest.mark.parametrize("tag", [(1, 16), (90, 16), (300, 40)], ids=["tiny", "ordinary", "large"])
@pytest.mark.parametrize(("width", "height"), SHAPES)
def test_places_are_few_and_inside(width: int, height: int, tag: tuple[int, int]) -> None:
    tag_width, tag_height = min(tag[0], width), min(tag[1], height)
    size = width, height
    boxes = [
        (0, 0, width, height),
        (0, 0, 1, 1),
        (width - 1, height - 1, width, height),
        (width // 2, 0, width // 2 + 1, height),
        (0, height // 2, width, height // 2 + 1),
    ]
    for box in boxes:
        places = tag_places(box, tag_width, tag_height, size)
        assert 1 <= len(places) <= MOST_IN_COLUMN + 8
    placed = place_tags(boxes * 20, [tag_width] * 100, tag_height, size, lambda: None)
    for x1, y1, x2, y2 in placed:
        assert (x2 - x1, y2 - y1) == (tag_width, tag_height)
        assert min(x1, y1, width - x2, height - y2) >= 0


@pytest.mark.parametrize("after", [0, 7, 20, 35, 59])
def test_drawing_ends_where_the_check_raises(after: int) -> None:
    """Among frames, texts, places and tags: fifteen boxes are checked sixty times."""
    left = after

    def check() -> None:
        nonlocal left
        if not left:
            raise TimeoutError
        left -= 1

    with pytest.raises(TimeoutError):
        draw(grey(640, 480), scattered(640, 480, 15), CLASSES, check)
    assert left == 0


def test_only_the_best_have_tags() -> None:
    """The last of many has a frame, and nothing is written about it."""
    box = [300, 300, 400, 400]
    many = [(box, 0, 0.9)] * MOST_TAGS
    other: tuple[list[float], int, float] = ([500, 400, 600, 470], 1, 0.1)

    def tint_of_a_tag(*rows: tuple[list[float], int, float]) -> int:
        drawn = draw(grey(640, 480), detections(*rows), CLASSES)
        return int((np.abs(drawn.astype(int) - colour(1)).max(axis=2) <= 10).sum())

    assert tint_of_a_tag(*many[1:], other) > tint_of_a_tag(*many, other) > 0


def test_a_name_too_long_for_the_picture_keeps_its_score() -> None:
    classes = ClassList.of(["n1"], ["w" * 500])
    tag = np.s_[:40]  # inside the box, at its top
    drawn = draw(grey(640, 480), detections(([0, 0, 640, 480], 0, 0.5)), classes)
    other = draw(grey(640, 480), detections(([0, 0, 640, 480], 0, 0.6)), classes)
    assert (drawn[tag, 500:] != other[tag, 500:]).any()


def test_class_colours_are_stable_and_apart() -> None:
    colours = np.array([colour(label) for label in range(len(ilsvrc_det()))])
    assert colour(0) == (255, 137, 121)
    assert len({tuple(row) for row in colours.tolist()}) == len(colours)
    neighbours = np.abs(colours[1:] - colours[:-1]).sum(axis=1)
    assert neighbours.min() > 120


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("A.JPEG", "JPEG")])
def test_the_suffix_chooses_the_format_of_a_file(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"an older file")
    save(path, grey(32, 16))
    with Image.open(path) as image:
        assert image.format == kind
    assert np.abs(images.load(path).astype(int) - 128).max() <= 1
    assert [entry.name for entry in tmp_path.iterdir()] == [name]  # no partial file stays


@pytest.mark.parametrize(
    ("name", "image", "error"),
    [
        pytest.param("a.gif", grey(4, 4), ParameterError, id="another suffix"),
        pytest.param("a", grey(4, 4), ParameterError, id="no suffix"),
        pytest.param("a.jpg", grey(1, 65501), ParameterError, id="longer than JPEG allows"),
        pytest.param("a.png", np.zeros((4, 4, 7), np.uint8), TypeError, id="no picture: writing fails"),
    ],
)
def test_a_failed_save_leaves_the_old_file(
    name: str, image: NDArray[np.uint8], error: type[Exception], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(b"an older file")
    with pytest.raises(error):
        save(path, image)
    assert path.read_bytes() == b"an older file"
    assert len(list(tmp_path.iterdir())) == 1


def test_real_pictures(shared: Path) -> None:
    for path in sorted((shared / "voc100" / "JPEGImages").iterdir())[:5]:
        image = images.load(path)
        height, width = image.shape[:2]
        drawn = draw(image, detections(([0, 0, width / 2, height / 2], 4, 0.87)), ilsvrc_det())
        assert drawn.shape == image.shape
        untouched = np.s_[height // 2 + 1 :, width // 2 + 1 :]
        assert np.array_equal(drawn[untouched], image[untouched])
