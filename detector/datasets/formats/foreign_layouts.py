"""Layouts of the field's tools that are not read: told by name, with what to export in their place."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.files import read_bytes, read_json
from detector.errors import DatasetError

_SAMPLE = 20  # files of a suffix that say what they are


def foreign_layout(tree: FolderTree) -> str:
    """Say which known layout that is not read lies below a folder, and what to do; "" if there is none."""
    for folder, names in islice(tree.with_suffix(".json", ".vott"), _SAMPLE):
        for path in (folder / name for name in names[:_SAMPLE]):
            try:
                name = _of_json(read_json(path))
            except DatasetError:
                continue
            if name:
                return f"{path} is {name}, which is not read: export it as COCO, YOLO or PASCAL VOC instead"
    for folder, names in tree.with_suffix(".csv", ".tfrecord", ".parquet"):
        path = folder / names[0]
        return f"{path} is a table, which is not read: export it as COCO, YOLO or PASCAL VOC instead"
    for folder, names in tree.with_suffix(".xml"):
        try:
            start = read_bytes(folder / names[0])[:2000].lower()
        except (OSError, DatasetError):
            continue
        if b"<annotations" in start:
            return f"{folder / names[0]} is CVAT's own XML, which is not read: export it as COCO 1.0 instead"
    return ""


def _of_json(content: Any) -> str:
    """The name of what a JSON file holds, "" if it is not known."""
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(content, list) and isinstance(first, Mapping):
        if {"image", "annotations"} <= first.keys():
            return "CreateML's JSON"
        if {"data", "annotations"} <= first.keys() or {"image", "label"} <= first.keys():
            return "Label Studio's JSON"
    if isinstance(content, Mapping):
        if {"shapes", "imagePath"} <= content.keys():
            return "the JSON of labelme and X-AnyLabeling"
        if "assets" in content or {"asset", "regions"} <= content.keys():
            return "VoTT's JSON"
        if "_via_img_metadata" in content or any(
            isinstance(one, Mapping) and "regions" in one for one in islice(content.values(), 3)
        ):
            return "the JSON of VGG's annotator (VIA)"
        if {"items", "categories"} <= content.keys():
            return "Datumaro's JSON"
    return ""
