"""Inputs that stand out, as files that a person can look at: the input, and where it does."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.report import png
from scanner.report.escape import file_name
from scanner.report.evidence import npy, unwritable
from scanner.report.folder import write_file
from scanner.report.pictures import Picture, picture
from scanner.results import Input, Region, ScreenedInput

_LEAST = 256  # pixels of the longer side of a picture
_FRAME = (255, 0, 64)  # red, which few images are full of


def write_inputs(found: Sequence[ScreenedInput], folder: Path) -> list[Path]:
    """Write each input that holds its picture into a sub-folder of its own; return the files.

    `input.png` is the input, each of its pixels a square; `framed.png` the same with a frame around
    the region by which it stands out, and `region.png` that region. `input.npy` is the input as the
    model takes it, in float32. No name of a file can lead out of the folder, and no link is
    followed.

    Raises:
        UsageError: The folder cannot be written, or a link lies in it where a folder should be.
    """
    written = []
    try:
        for one in found:
            if one.picture is None:
                continue
            step = f"{one.number:06d}-{file_name(one.name)}"
            for name, data in _files(one.picture, one.region):
                write_file(folder, (step,), name, data)
                written.append(folder / step / name)
    except OSError as error:
        raise unwritable(folder, error) from error
    return written


def _files(shown: Input, region: Region | None) -> Iterator[tuple[str, bytes]]:
    whole = picture(shown.image, shown.low, shown.high)
    yield "input.png", whole.png(_LEAST)
    yield "input.npy", npy(shown.image)
    inside = None if region is None else _inside(whole, region)
    if inside is not None:
        yield "framed.png", framed(whole, inside)
        yield "region.png", _cut(whole, inside).png(_LEAST)


def _inside(whole: Picture, region: Region) -> Region | None:
    """Return the part of a region that lies in a picture: a child may have said anything."""
    high = min(region.height, whole.height - region.top)
    wide = min(region.width, whole.width - region.left)
    if high < 1 or wide < 1:
        return None
    return Region(top=region.top, left=region.left, height=high, width=wide)


def _cut(whole: Picture, region: Region) -> Picture:
    rows = range(region.top, region.top + region.height)
    values = itertools.chain.from_iterable(
        whole.values[(row * whole.width + region.left) * whole.channels :][
            : region.width * whole.channels
        ]
        for row in rows
    )
    return Picture(region.width, region.height, whole.channels, list(values))


def framed(whole: Picture, region: Region) -> bytes:
    """Return a picture as PNG, enlarged, with a frame of one of its own pixels' quarter around."""
    times = -(-_LEAST // max(whole.width, whole.height)) or 1
    pixels = bytearray()
    for row in whole.rgb():
        line = b"".join(times * bytes(colour) for colour in row)
        pixels += times * line
    width, height = times * whole.width, times * whole.height
    thick = max(1, times // 4)
    top, left = times * region.top, times * region.left
    bottom, right = top + times * region.height, left + times * region.width
    for y in range(top, bottom):
        edge = y < top + thick or y >= bottom - thick
        spans = [(left, right)] if edge else [(left, left + thick), (right - thick, right)]
        for start, end in spans:
            at = 3 * (y * width + start)
            pixels[at : at + 3 * (end - start)] = bytes(_FRAME) * (end - start)
    return png.encode(bytes(pixels), width, height, 3)
