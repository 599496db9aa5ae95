"""A tiny data set in the official ILSVRC layout, written by the tests themselves."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# name, then xmin, ymin, xmax, ymax as the files write them
Corners = tuple[str, float, float, float, float]


@dataclass(frozen=True)
class Tree:
    """``root`` holds ``ILSVRC/``; every method writes one file below it."""

    root: Path

    def list_file(self, name: str, lines: Iterable[str]) -> Path:
        return self._write(f"ImageSets/{name}.txt", "".join(f"{line}\n" for line in lines))

    def image(self, name: str, size: tuple[int, int] = (100, 80), orientation: int = 1) -> Path:
        path = self._path(f"Data/{name}.JPEG")
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", size, (90, 120, 60)).save(path, "JPEG", exif=exif)
        return path

    def bytes(self, name: str, content: bytes) -> Path:
        path = self._path(name)
        path.write_bytes(content)
        return path

    def annotation(
        self, name: str, objects: Iterable[Corners] = (), size: tuple[int, int] | None = (100, 80)
    ) -> Path:
        stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
        things = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{xmin}</xmin><xmax>{xmax}</xmax>"
            f"<ymin>{ymin}</ymin><ymax>{ymax}</ymax></bndbox></object>"
            for name, xmin, ymin, xmax, ymax in objects
        )
        return self._write(f"Annotations/{name}.xml", f"<annotation>{stated}{things}</annotation>")

    def _write(self, name: str, text: str) -> Path:
        path = self._path(name)
        path.write_text(text, encoding="utf-8")
        return path

    def _path(self, name: str) -> Path:
        path = self.root / "ILSVRC" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
