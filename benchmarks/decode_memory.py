"""Memory that decoding takes, for each kind of file at 50 megapixels, beside the file's own bytes.

    python -m benchmarks.decode_memory [KIND ...]

Each file is made and decoded by a process of its own. Printed is the most that the process held above what
it held before, in MB and in bytes a pixel: the picture itself, 3 bytes a pixel, is part of it. Linux only.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from tyro.conf import Positional, arg

from detector.cli.command_line import run_script
from detector.io.decoding import Limits, decode

WIDTH, HEIGHT = 8660, 5773
PIXELS = WIDTH * HEIGHT


def _smooth() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _flat() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 255, (12, 18, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def _sixteen_bits() -> Image.Image:
    return Image.fromarray(np.asarray(_flat().convert("L")).astype(np.uint16) * 257)


def _jpeg(mode: str = "RGB", **options: object) -> bytes:
    return _saved(_smooth().convert(mode), "JPEG", quality=80, **options)


def _png(image: Image.Image, **options: object) -> bytes:
    return _saved(image, "PNG", compress_level=1, **options)


def _webp(image: Image.Image, **options: object) -> bytes:
    return _saved(image, "WebP", method=0, quality=0, **options)


def _smaller_frame() -> bytes:
    data = bytearray(_saved(_flat().quantize(64).crop((0, 0, WIDTH - 1, HEIGHT)), "GIF"))
    data[6:8] = WIDTH.to_bytes(2, "little")
    return bytes(data)


KINDS: dict[str, Callable[[], bytes]] = {
    "jpeg": _jpeg,
    "jpeg-rotated": lambda: _jpeg(exif=_rotated()),
    "jpeg-grey": lambda: _jpeg("L"),
    "jpeg-cmyk": lambda: _jpeg("CMYK"),
    "jpeg-progressive": lambda: _jpeg(progressive=True),
    "jpeg-progressive-444": lambda: _jpeg(progressive=True, subsampling=0),
    "jpeg-progressive-cmyk": lambda: _jpeg("CMYK", progressive=True),
    "png": lambda: _png(_flat()),
    "png-rgba": lambda: _png(_flat().convert("RGBA")),
    "png-grey-alpha": lambda: _png(_flat().convert("LA")),
    "png-16-bit": lambda: _png(_sixteen_bits()),
    "png-palette": lambda: _png(_flat().quantize(64)),
    "png-palette-transparent": lambda: _png(_flat().quantize(64), transparency=3),
    "webp": lambda: _webp(_smooth()),
    "webp-lossless": lambda: _webp(_flat(), lossless=True),
    "webp-rgba": lambda: _webp(_flat().convert("RGBA"), lossless=True),
    "gif": lambda: _saved(_flat().quantize(64), "GIF"),
    "gif-smaller-frame": _smaller_frame,
    "tiff": lambda: _saved(_flat(), "TIFF"),
    "tiff-lzw": lambda: _saved(_flat(), "TIFF", compression="tiff_lzw"),
    "tiff-deflate-rgba": lambda: _saved(_flat().convert("RGBA"), "TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": lambda: _saved(_smooth(), "TIFF", compression="jpeg", quality=80),
    "tiff-cmyk": lambda: _saved(_flat().convert("CMYK"), "TIFF", compression="packbits"),
    "tiff-16-bit": lambda: _saved(_sixteen_bits(), "TIFF", compression="tiff_lzw"),
    "tiff-fax": lambda: _saved(_flat().convert("1"), "TIFF", compression="group4"),
}


def main(
    kinds: Annotated[Sequence[str], Positional, arg(help=f"Of {', '.join(KINDS)}; all if not given.")] = (),
    one: Annotated[bool, arg(help="Measure the first kind in this process.")] = False,
) -> None:
    """Print a line for each kind, measured in a process of its own."""
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"error: there is no kind {', '.join(sorted(unknown))}")
    if one:
        _measure(kinds[0])
        return
    for kind in kinds or KINDS:
        subprocess.run([sys.executable, "-m", "benchmarks.decode_memory", "--one", kind], check=True)


def _measure(kind: str) -> None:
    data = KINDS[kind]()
    decode(_saved(Image.new("RGB", (64, 64)), "PNG"))  # what is loaded once is not counted
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    before = _status("VmRSS")
    decode(data, Limits(max_bytes=2**31, max_pixels=PIXELS))
    taken = _status("VmHWM") - before
    print(f"{kind:24} {taken / 1e6:4.0f} MB {taken / PIXELS:5.1f} bytes a pixel", flush=True)


def _status(field: str) -> int:
    """Return the bytes of this process."""
    [kilobytes] = re.findall(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


if __name__ == "__main__":
    run_script(main)
