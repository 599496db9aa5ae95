"""Small data sets in the layouts of ILSVRC, PASCAL VOC and COCO, written by the tests themselves.

A picture is dark noise with a bright rectangle for each of its boxes, which are given as ours: continuous.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Boxes = Sequence[tuple[int, int, int, int]]
Images = Mapping[str, Boxes]
"""The boxes of each picture, by its name without suffix."""

SIZE = (100, 80)


def write_image(path: Path, boxes: Boxes, size: tuple[int, int] = SIZE) -> None:
    width, height = size
    image = np.random.default_rng(len(path.stem)).integers(20, 70, (height, width, 3), dtype=np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def write_ilsvrc(
    root: Path,
    task: str,
    split: str,
    images: Images,
    *,
    list_name: str | None = None,
    wnid: str,
    size: tuple[int, int] = SIZE,
) -> None:
    """One split of a task below ``root/ILSVRC``; nothing is taken away from a split already there."""
    home = root / "ILSVRC"
    path = home / "ImageSets" / task / f"{list_name or split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lines:
        lines.writelines(f"{name} {number}\n" for number, name in enumerate(images, start=1))
    (home / "Annotations" / task).mkdir(parents=True, exist_ok=True)
    (home / "Data" / task).mkdir(parents=True, exist_ok=True)
    for name, boxes in images.items():
        write_image(home / "Data" / task / split / f"{name}.JPEG", boxes, size)
        _write_xml(home / "Annotations" / task / split / f"{name}.xml", boxes, wnid, size, first_pixel=0)


def write_agnostic(root: Path, images: Images, size: tuple[int, int] = SIZE) -> None:
    """``agnostic_boxes.json`` beside ``ILSVRC``."""
    entries = {
        name: {
            "width": size[0],
            "height": size[1],
            "boxes": [(x1, y1, x2 - 1, y2 - 1) for x1, y1, x2, y2 in boxes],
        }
        for name, boxes in images.items()
    }
    (root / "agnostic_boxes.json").write_text(json.dumps(entries))


def write_voc(root: Path, images: Images, size: tuple[int, int] = SIZE) -> None:
    """``JPEGImages`` and ``Annotations`` of dogs."""
    for part in ("JPEGImages", "Annotations"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name, boxes in images.items():
        write_image(root / "JPEGImages" / f"{name}.jpg", boxes, size)
        _write_xml(root / "Annotations" / f"{name}.xml", boxes, "dog", size, first_pixel=1)


def write_coco(root: Path, split: str, pictures: Images, size: tuple[int, int] = SIZE) -> None:
    """``annotations/instances_SPLIT.json`` and the folder SPLIT."""
    images, annotations = [], []
    for number, (name, boxes) in enumerate(pictures.items(), start=1):
        write_image(root / split / f"{name}.jpg", boxes, size)
        images.append({"id": number, "file_name": f"{name}.jpg", "width": size[0], "height": size[1]})
        annotations += [
            {"id": len(annotations), "image_id": number, "category_id": 7, "bbox": (x1, y1, x2 - x1, y2 - y1)}
            for x1, y1, x2, y2 in boxes
        ]
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 7, "name": "kite"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_yolo(root: Path, split: str, pictures: Images, size: tuple[int, int] = SIZE) -> None:
    """``data.yaml``, and a split's ``images/SPLIT`` and ``labels/SPLIT``; of those that are there too."""
    width, height = size
    for name, boxes in pictures.items():
        write_image(root / "images" / split / f"{name}.jpg", boxes, size)
        lines = (
            f"0 {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}\n"
            for x1, y1, x2, y2 in boxes
        )
        path = root / "labels" / split / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    splits = sorted(folder.name for folder in (root / "images").iterdir())
    lines = ("names: [kite]", *(f"{name}: images/{name}" for name in splits))
    (root / "data.yaml").write_text("".join(f"{line}\n" for line in lines))


def _write_xml(path: Path, boxes: Boxes, name: str, size: tuple[int, int], first_pixel: int) -> None:
    objects = "".join(
        f"<object><name>{name}</name><bndbox>"
        f"<xmin>{x1 + first_pixel}</xmin><ymin>{y1 + first_pixel}</ymin>"
        f"<xmax>{x2 - 1 + first_pixel}</xmax><ymax>{y2 - 1 + first_pixel}</ymax></bndbox></object>"
        for x1, y1, x2, y2 in boxes
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{stated}{objects}</annotation>")


def rectangles(count: int, seed: int, prefix: str = "p") -> Images:
    """One rectangle a picture, 25 to 60 of its 100 x 80 pixels wide and high."""
    random = np.random.default_rng(seed)
    boxes = {}
    for index in range(count):
        w, h = (int(side) for side in random.integers(25, 60, 2))
        x, y = int(random.integers(0, 100 - w)), int(random.integers(0, 80 - h))
        boxes[f"{prefix}{index:02d}"] = [(x, y, x + w, y + h)]
    return boxes
