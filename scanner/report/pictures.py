"""Arrays from a result as pictures: bytes for a PNG, blocks for a terminal."""

import array
import base64
import dataclasses
import sys
from collections.abc import Iterator, Sequence

from scanner.report import png
from scanner.results import Array

_SHADES = " ░▒▓█"
_CHANNELS = (1, 3)


Colour = tuple[int, int, int]
"""Red, green and blue, in 0..255."""


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A grey or RGB image with values in [0, 1], row by row, channels interleaved."""

    width: int
    height: int
    channels: int
    values: Sequence[float]

    def png(self, least: int = 0) -> bytes:
        """Return the picture as a PNG file.

        Args:
            least: Pixels that its longer side shall have at least; each of the picture's own
                becomes a square of them.
        """
        times = -(-least // max(self.width, self.height)) or 1
        values = bytes(map(_byte, self.values))
        row, each = self.width * self.channels, self.channels
        pixels = b"".join(
            times
            * b"".join(times * values[at : at + each] for at in range(start, start + row, each))
            for start in range(0, len(values), row)
        )
        return png.encode(pixels, times * self.width, times * self.height, each)

    def rgb(self) -> Iterator[list[Colour]]:
        """Yield the colours of each row; grey is red, green and blue alike."""
        for y in range(self.height):
            yield [self._colour(x, y, 1) for x in range(self.width)]

    def blocks(self, widest: int) -> list[str]:
        """Return the picture as lines of shades, one character per cell of about 1 x 2 pixels.

        A cell shows its largest value, so that a trigger of one pixel stays in sight.

        Args:
            widest: Most characters of a line.
        """
        step = -(-self.width // widest)
        rows = range(0, self.height, 2 * step)
        return ["".join(self._shade(x, y, step) for x in range(0, self.width, step)) for y in rows]

    def cells(self, widest: int) -> list[list[tuple[Colour, Colour]]]:
        """Return the picture as lines of cells, each of two colours, one above the other.

        A colour is that of the brightest pixel of its part, so that a trigger of one pixel stays in
        sight.

        Args:
            widest: Most cells of a line.
        """
        step = -(-self.width // widest)
        columns = range(0, self.width, step)
        return [
            [(self._colour(x, y, step), self._colour(x, y + step, step)) for x in columns]
            for y in range(0, self.height, 2 * step)
        ]

    def _colour(self, left: int, top: int, step: int) -> Colour:
        """Return the brightest pixel of a square; black below the picture."""
        pixels = [
            self.values[start : start + self.channels]
            for y in range(top, min(top + step, self.height))
            for x in range(left, min(left + step, self.width))
            for start in ((y * self.width + x) * self.channels,)
        ]
        brightest = list(max(pixels, key=sum, default=(0.0,)))
        red, green, blue = brightest if len(brightest) == 3 else 3 * brightest[:1]  # noqa: PLR2004
        return _byte(red), _byte(green), _byte(blue)

    def _shade(self, left: int, top: int, step: int) -> str:
        cell = [
            self.values[(y * self.width + x) * self.channels + c]
            for y in range(top, min(top + 2 * step, self.height))
            for x in range(left, min(left + step, self.width))
            for c in range(self.channels)
        ]
        return _SHADES[min(len(_SHADES) - 1, round(max(cell) * (len(_SHADES) - 1)))]


def _byte(value: float) -> int:
    return min(255, max(0, round(255 * value)))


def floats(data: Array) -> tuple[tuple[int, ...], list[float]]:
    """Return shape and values of an array in a result."""
    values = array.array("f", base64.b64decode(data.data))
    if sys.byteorder == "big":
        values.byteswap()
    return data.shape, values.tolist()


def picture(data: Array, low: float = 0.0, high: float = 1.0) -> Picture:
    """Return an array as a picture, its range [low, high] as black to white.

    (H, W), (C, H, W) and (H, W, C) with one or three channels are images; of more channels the
    first is shown, and anything else becomes one row.
    """
    shape, values = floats(data)
    height, width, channels, order = _layout(shape)
    width_of_range = high - low or 1.0
    # The bytes may be those of anything: what is not a number is black.
    scaled = [min(1.0, max(0.0, (value - low) / width_of_range)) for value in values]
    return Picture(width, height, channels, [scaled[i] for i in order] if order else scaled)


def _layout(shape: Sequence[int]) -> tuple[int, int, int, list[int] | None]:
    if len(shape) == 2:  # noqa: PLR2004 - (H, W)
        return shape[0], shape[1], 1, None
    if len(shape) == 3 and shape[2] in _CHANNELS and shape[0] not in _CHANNELS:  # noqa: PLR2004 - (H, W, C)
        return shape[0], shape[1], shape[2], None
    if len(shape) == 3:  # noqa: PLR2004 - (C, H, W)
        channels = shape[0] if shape[0] in _CHANNELS else 1
        size = shape[1] * shape[2]
        return (
            shape[1],
            shape[2],
            channels,
            [c * size + i for i in range(size) for c in range(channels)],
        )
    count = 1
    for size in shape:
        count *= size
    return 1, count, 1, None
