"""The parts of a GIF besides its pixels: its size, its frames, and the blocks that the first frame needs.

Written from the GIF89a specification (w3.org/Graphics/GIF/spec-gif89a.txt).
"""

from detector.io.file_contents import Contents, CutOffError

MAX_BLOCKS = 1 << 18
"""Most blocks of a GIF that are read; of 255 bytes each, as encoders write them, they are 64 MiB."""

_EXTENSION, _IMAGE = 0x21, 0x2C
_GRAPHIC_CONTROL = 0xF9
_HEAD = 13  # signature and screen descriptor
_DESCRIPTOR = 10  # of an image, its introducer included


def gif_contents(data: bytes) -> Contents:
    """Take the first frame out of a GIF (screen, palettes, graphic control, pixels), and count the frames.

    Frames after the first ``MAX_BLOCKS`` blocks are not counted. Raises CutOffError if the file ends within
    the first frame, ValueError if there is no frame among these blocks.
    """
    walk = _Walk(data)
    at = _HEAD + _palette_bytes(data, 10)
    kept, frames = [data[:at]], 0
    while walk.left and at < len(data):
        begin, at = at, at + 1
        if data[begin] == _EXTENSION:
            at = walk.behind_blocks(begin + 2)
            if frames == 0 and data[begin + 1 : begin + 2] == bytes([_GRAPHIC_CONTROL]):
                kept[1:] = [data[begin:at]]  # only the last one before a frame belongs to it
        elif data[begin] == _IMAGE:
            if begin + _DESCRIPTOR > len(data):
                at = len(data)
                break
            at = walk.behind_blocks(begin + _DESCRIPTOR + _palette_bytes(data, begin + 9) + 1)
            if frames == 0:
                if at > len(data):
                    break
                kept.append(data[begin:at])
            frames += at <= len(data)
        else:  # the trailer, or bytes that are no block
            at = begin
            break
    if frames == 0:
        if at >= len(data) and walk.left:
            raise CutOffError
        raise ValueError("there is no frame")
    return Contents(b"".join(kept), frames=frames)


def gif_size(first: bytes) -> tuple[int, int, tuple[int, int, int, int]]:
    """Return width and height of the screen in pixels, and the first frame's box on it.

    The screen is enlarged where the frame reaches beyond it. The box is left, top, right, bottom. ``first``
    is the file that :func:`gif_contents` keeps.
    """
    at = _HEAD + _palette_bytes(first, 10)
    if first[at] == _EXTENSION:
        at = _Walk(first).behind_blocks(at + 2)
    width, height, left, top, wide, high = (
        int.from_bytes(first[begin : begin + 2], "little") for begin in (6, 8, at + 1, at + 3, at + 5, at + 7)
    )
    box = left, top, left + wide, top + high
    return max(width, box[2]), max(height, box[3]), box


class _Walk:
    """Steps over at most ``left`` data blocks of a GIF."""

    def __init__(self, data: bytes) -> None:
        self.data, self.left = data, MAX_BLOCKS

    def behind_blocks(self, at: int) -> int:
        """Return the offset after the chain of blocks that begins at ``at``, past the file if cut off."""
        data = self.data
        while self.left and at < len(data):
            self.left -= 1
            length = data[at]
            at += 1 + length
            if length == 0:
                return at
        return len(data) + 1


def _palette_bytes(data: bytes, flags_at: int) -> int:
    flags = data[flags_at] if flags_at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
