"""PNG files (W3C, Portable Network Graphics, third edition), as far as triggers need them."""

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # channels to the colour type of the header: grey, RGB


def encode(pixels: bytes, width: int, height: int, channels: int) -> bytes:
    """Return an 8-bit image as a PNG file.

    Args:
        pixels: Row by row, channels interleaved.
        width: In pixels.
        height: In pixels.
        channels: 1 (grey) or 3 (RGB).
    """
    row = width * channels
    lines = b"".join(b"\0" + pixels[start : start + row] for start in range(0, row * height, row))
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
