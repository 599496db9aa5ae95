"""One hostile file, and what a service may say of it."""

from dataclasses import dataclass

FINE = "fine"
"""Answered with 200: odd, but a picture."""
BROKEN = frozenset({"truncated", "unreadable"})
ANY = frozenset({FINE, *BROKEN, "empty", "too_many_bytes", "too_many_pixels", "unsupported_format"})
"""What may come of a file that was damaged at random: luck decides whether a picture is left."""

TYPES = {kind: f"image/{kind}" for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff")}


@dataclass(frozen=True)
class HostileFile:
    """Bytes to send as a picture; ``codes`` are the codes of an error, or ``fine``, that are right for it."""

    name: str
    data: bytes
    codes: frozenset[str] = ANY

    @property
    def content_type(self) -> str:
        """What a careless client would state: by the name, whatever the bytes are."""
        return TYPES.get(self.name.partition(":")[0], "image/jpeg")


def one(name: str, data: bytes, *codes: str) -> HostileFile:
    """Return a file with the codes that are right for it; all of them if none are named."""
    return HostileFile(name, data, frozenset(codes) or ANY)
