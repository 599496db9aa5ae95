"""Files that are something else, or two things at once."""

import gzip
import json
import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO

from PIL import Image

from hostile_corpus.containers import PNG, encoded, good_images, jpeg_segment, riff
from hostile_corpus.hostile_file import BROKEN, FINE, HostileFile, one

HTML = b"<!DOCTYPE html><html><script>alert(document.domain)</script></html>"


def strangers() -> Iterator[HostileFile]:
    """Yield all of them."""
    yield one("png:empty", b"", "empty")
    for name, data in _other_formats().items():
        for kind in ("jpeg", "png"):
            yield one(f"{kind}:is {name}", data, "unsupported_format")
    yield from _polyglots()
    yield from _signatures()
    small = Image.new("RGB", (20, 20), "red")
    turned = [small.rotate(number) for number in range(499)]
    yield one("gif:500 frames", encoded(small, "GIF", save_all=True, append_images=turned), FINE)
    directory = struct.pack("<HHHIIHHIII", 2, 256, 4, 1, 65535, 257, 4, 1, 65535, 0)
    for kind in ("tiff", "jpeg"):
        yield one(f"{kind}:TIFF of 4 gigapixels", b"II*\0\x08\0\0\0" + directory, "too_many_pixels", *BROKEN)


def _other_formats() -> dict[str, bytes]:
    small = Image.new("RGB", (20, 20), "red")
    svg = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/><text>&b;</text></svg>'
    )
    box = struct.pack(">I", 24)
    return {
        "PDF": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << /Root 1 0 R >>\n%%EOF\n",
        "SVG": svg,
        "HTML": HTML,
        "ZIP": archive(),
        "ICO": encoded(small, "ICO"),
        "PPM": encoded(small, "PPM"),
        "PPM of 10 gigapixels": b"P6 100000 100000 255\n",
        "TGA": encoded(small, "TGA"),
        "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + box + b"ftypjp2 " + bytes(100),
        "MP4": box + b"ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(200),
        "HEIC": box + b"ftypheic\0\0\0\0mif1heic" + bytes(200),
        "AVIF": box + b"ftypavif\0\0\0\0mif1avif" + bytes(200),
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 30000, 30000, 8, 3),
        "WAV": riff([(b"fmt ", bytes(16)), (b"data", bytes(100))], b"WAVE"),
        "a program": b"\x7fELF\2\1\1" + bytes(200),
        "a script": b"#!/bin/sh\nrm -rf /\n",
        "gzip": gzip.compress(bytes(100_000), mtime=0),
        "text": b"The quick brown fox jumps over the lazy dog.\n" * 20,
        "JSON": json.dumps({"image": "a" * 100}).encode(),
        "a pickle": b"cos\nsystem\n(S'true'\ntR.",
        "zeros": bytes(10_000),
        "one byte": b"\xff",
        "two bytes": b"\xff\xd8",
        "UTF-16": "hello".encode("utf-16"),
    }


def archive() -> bytes:
    """Return a ZIP file with a path that climbs."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("../../etc/cron.d/x"), bytes(1000))
    return buffer.getvalue()


def _polyglots() -> Iterator[HostileFile]:
    good = good_images()
    for name, data in good.items():
        for tail, extra in (
            ("ZIP", archive()),
            ("HTML", HTML),
            ("PNG", good["png:rgb"]),
            ("zeros", bytes(9999)),
        ):
            yield one(f"{name} and {tail} behind it", data + extra, FINE)
        yield one(f"{name} behind a GIF header", b"GIF89a" + data)
        yield one(f"{name} behind a byte", b"\n" + data, "unsupported_format")
        yield one(f"{name} behind a byte order mark", b"\xef\xbb\xbf" + data, "unsupported_format")
        yield one(f"{name} twice", data * 2, FINE)
    jpeg = good["jpeg:baseline"]
    for name, comment in (
        ("PHP", b"<?php system($_GET['c']); ?>"),
        ("HTML", b"-->" + HTML),
        ("PDF", b"%PDF-1.4 1 0 obj<</Pages 1 0 R>>"),
        ("escape codes", b"\x1b[2J\x1b]0;owned\x07\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("format strings", b"%s%n%x{0.__class__}${jndi:ldap://127.0.0.1/a}"),
    ):
        yield one(f"jpeg:{name} in a comment", jpeg[:2] + jpeg_segment(0xFE, comment) + jpeg[2:], FINE)
    yield one("bmp:and JavaScript", b"BM=1;alert(1);/*" + bytes(200) + b"*/", *BROKEN, "too_many_pixels")
    yield one("webp:around a JPEG", riff([(b"VP8 ", jpeg)]), *BROKEN, "too_many_pixels")
    yield one("png:around a JPEG", PNG + jpeg, *BROKEN)


def _signatures() -> Iterator[HostileFile]:
    """Yield a format's first bytes and then anything but a picture."""
    starts = {
        "jpeg": b"\xff\xd8\xff",
        "png": PNG,
        "webp": b"RIFF\x64\0\0\0WEBP",
        "bmp": b"BM",
    }
    for kind, start in starts.items():
        for name, rest in (
            ("nothing", b""),
            ("zeros", bytes(5000)),
            ("ones", b"\xff" * 5000),
            ("its beginning again", start * 500),
            ("text", b"not a picture " * 99),
        ):
            yield one(f"{kind}:signature, then {name}", start + rest, *BROKEN, "too_many_pixels")
