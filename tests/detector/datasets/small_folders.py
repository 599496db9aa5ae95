"""Files of small data sets in any layout, written by the tests themselves."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (100, 80)


def picture(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> Path:
    """A picture of noise that is its own: two of different paths differ."""
    noise = np.random.default_rng(list(os.fsencode(path))).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize(size).save(path, exif=exif)
    return path


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def xml(
    path: Path,
    *names: str,
    corners: Sequence[int] = (1, 1, 20, 20),
    size: tuple[int, int] = SIZE,
    filename: str = "",
    folder: str = "",
) -> Path:
    """An annotation with one object a name; ``filename`` and ``folder`` are elements of it, if given."""
    xmin, ymin, xmax, ymax = corners
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        for name in names
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    place = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in (("folder", folder), ("filename", filename)) if value
    )
    return text(path, f"<annotation>{place}{stated}{objects}</annotation>")


def instances(
    path: Path,
    pictures: Mapping[str, Sequence[int]],
    categories: Sequence[Mapping[str, object]] = ({"id": 1, "name": "cat"},),
) -> Path:
    """An instances file: the categories of the objects of each picture, by its file name."""
    images = [
        {"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
        for number, name in enumerate(pictures)
    ]
    annotations = [
        {"id": 0, "image_id": number, "category_id": category, "bbox": [10, 10, 30, 20]}
        for number, mine in enumerate(pictures.values())
        for category in mine
    ]
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    return text(path, json.dumps(content))
