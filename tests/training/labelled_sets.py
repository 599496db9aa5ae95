"""Small sets of labelled pictures, written by the tests: a class is a colour and a direction of stripes."""

from pathlib import Path

import numpy as np
from PIL import Image

from detector.structures.classes import ilsvrc_cls

COLOURS = ((220, 60, 40), (40, 90, 220), (60, 200, 70))


def write_image(path: Path, label: int, number: int) -> None:
    """Stripes on noise, 60 x 48 pixels."""
    random = np.random.default_rng([label, number])
    image = random.integers(90, 130, (48, 60, 3), dtype=np.uint8)
    start = int(random.integers(8))
    if label % 2:
        image[start::8] = COLOURS[label]
    else:
        image[:, start::8] = COLOURS[label]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def write_folders(root: Path, part: str, each: int, classes: tuple[str, ...] = ("across", "down")) -> None:
    """``root/part/CLASS/NUMBER.jpg``, so many of each class; ``part`` may be empty."""
    for label, name in enumerate(classes):
        for number in range(each):
            write_image(root / part / name / f"{part}{number}.jpg", label, number + 1000 * (part == "val"))


def write_ilsvrc_cls(root: Path, train: int, val: int) -> None:
    """CLS-LOC of ILSVRC: so many pictures of each of the first two of the 1000 classes."""
    home = root / "ILSVRC"
    lists: dict[str, list[str]] = {"train_cls": [], "val": []}
    solution = ["ImageId,PredictionString"]
    for label, wnid in enumerate(ilsvrc_cls().ids[:2]):
        for number in range(train):
            name = f"{wnid}/{wnid}_{number}"
            lists["train_cls"].append(name)
            write_image(home / f"Data/CLS-LOC/train/{name}.JPEG", label, number)
        for number in range(val):
            name = f"ILSVRC2012_val_{label}{number}"
            lists["val"].append(name)
            solution.append(f"{name},{wnid} 0 0 9 9 ")
            write_image(home / f"Data/CLS-LOC/val/{name}.JPEG", label, 1000 + number)
    (home / "Annotations/CLS-LOC").mkdir(parents=True)
    (home / "ImageSets/CLS-LOC").mkdir(parents=True)
    for name, ids in lists.items():
        text = "".join(f"{image_id} {line}\n" for line, image_id in enumerate(ids, start=1))
        (home / f"ImageSets/CLS-LOC/{name}.txt").write_text(text)
    (root / "LOC_val_solution.csv").write_text("\n".join(solution) + "\n")
