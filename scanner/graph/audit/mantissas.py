"""Payloads in the bits of weights: what their distribution shows, and what it cannot show.

Trained weights crowd around zero. Between 2^k and 2^(k+2) twice as many lie in the upper half of
the scale as in the lower, or more do in the lower where the density falls: the last bit of the
exponent and the first of the mantissa are never evenly distributed. Bytes that replace three of the
four of each number are, if they are compressed or encrypted. In windows of 4,096 numbers of 19,000
honest ones (docs/carried-goods.md) the standardised chi-squared of these bits was 16 at least; that
of replaced ones is 0 give or take 1.

The bits below are evenly distributed in honest weights too. A payload there shows only if it is
text, if it starts as a known format does, or where the other weights of its tensor were widened
from 16 bits and have no such bits. Encrypted bytes in the low 16 bits, and a signal that is spread
over weights like radio over a band, cannot be told from honest weights.

Sources: Wang, Liu and Cui, "EvilModel", ISCC 2021, and Wang et al., "EvilModel 2.0", Computers &
Security, 2022; Liu et al., "StegoNet", ACSAC 2020; Hitaj et al., "MaleficNet", ESORICS 2022.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import content, views
from scanner.graph.audit.content import Content

Array = npt.NDArray[Any]

WINDOW = 4096
"""Numbers that are looked at together."""

LEAST = 2048
"""Numbers of a tensor below which its distribution says too little."""

EVEN = 6.0
"""Standardised chi-squared below which bits count as evenly distributed; honest: 12 or more."""

_BLOCK = 1 << 20  # numbers that are worked on at once, so that memory stays bounded
_SEARCHED = 1 << 14  # numbers of a tensor whose low bytes are searched
_CELLS = 8  # the last bit of the exponent and the first two of the mantissa
_DISTINCT, _DISTINCT_HALVES = 0.9, 0.5
_PERIODIC = 1024  # numbers of a block whose every 32nd is compared
_SAMPLE = 256  # low bytes that are looked at first; bytes of a block
_PRINTABLE = np.isin(np.arange(256), (9, 10, 13, *range(32, 127)))
_HIGHEST_BIT: dict[int, int] = {
    onnx.TensorProto.FLOAT: 23,
    onnx.TensorProto.DOUBLE: 52,
    onnx.TensorProto.BFLOAT16: 7,
}
"""The last bit of the exponent, by element type."""
_HALF_BITS = 0x1FFF  # of a float32: those that no float16 has
_LOW_BITS = 0xFF  # of a float32: those that no whole number of 16 bits has


class Oddness(NamedTuple):
    """What the bits of a tensor's numbers show.

    Attributes:
        even: How many numbers stand in windows whose highest bits are evenly distributed.
        mixed: How many stand in windows of full precision beside windows widened from 16 bits.
        text: How many numbers stand where the low bytes, or all bytes, are text.
        periodic: How many stand where some low bits repeat after eight numbers, or 32.
        found: What the low bytes hold, if it is of a known format.
    """

    even: int = 0
    mixed: int = 0
    text: int = 0
    periodic: int = 0
    found: Content | None = None


def look(tensor: onnx.TensorProto) -> Oddness:
    """Return what the bits of a tensor's numbers show; nothing for other than fractions."""
    highest = _HIGHEST_BIT.get(tensor.data_type)
    if tensor.data_type == onnx.TensorProto.FLOAT16:
        halves = views.numbers(tensor)
        fits = halves is not None and halves.dtype.itemsize == 2  # noqa: PLR2004 - read as numbers
        words = halves.view("<u2") if halves is not None and fits else np.zeros(0, "<u2")
        return Oddness(periodic=_periodic(words, 8, _DISTINCT_HALVES))
    numbers = views.numbers(tensor) if highest is not None else None
    if numbers is None or highest is None or numbers.size < LEAST:
        return Oddness()
    width = numbers.dtype.itemsize
    words = numbers.view(f"<u{width}")
    if width == 2:  # noqa: PLR2004 - bfloat16: all but the exponent is in the high bits
        return Oddness(even=_even(words, highest))
    mixed = _mixed(words) if tensor.data_type == onnx.TensorProto.FLOAT else 0
    text = max(_text(words), _plain_text(numbers))
    found = next(_within(words, width), None)
    # Doubles beside a decimal, as thresholds of trees are, repeat in their last bits.
    plain = tensor.data_type == onnx.TensorProto.FLOAT
    periodic = _periodic(words, 16, _DISTINCT) if plain else 0
    even = _even(words, highest)
    return Oddness(even=even, mixed=mixed, text=text, periodic=periodic, found=found)


def _windows(words: Array) -> Iterator[Array]:
    """Yield blocks of windows, each [windows, WINDOW]; the last window lies flush with the end."""
    if len(words) < WINDOW:
        yield words[None, :]
        return
    usable = len(words) // WINDOW * WINDOW
    for start in range(0, usable, _BLOCK):
        yield words[start : min(start + _BLOCK, usable)].reshape(-1, WINDOW)
    if usable < len(words):
        yield words[-WINDOW:][None, :]


def _even(words: Array, highest: int) -> int:
    """Return how many numbers stand in windows whose highest bits are evenly distributed."""
    return sum(
        int((evenness(block, highest) < EVEN).sum()) * block.shape[1] for block in _windows(words)
    )


def evenness(block: Array, highest: int) -> npt.NDArray[np.float64]:
    """Return how unevenly the highest bits are distributed in each window.

    Args:
        block: Numbers as words [windows, numbers].
        highest: The position of the exponent's last bit.

    Returns:
        Pearson's chi-squared over eight cells, less its mean and over its standard deviation.
        Zeros do not count; a window that is more than half zeros is infinitely uneven.
    """
    cells = (block >> (highest - 2)).astype(np.int64) & (_CELLS - 1)
    zero = (block << 1) == 0  # of either sign
    cells += np.arange(len(block))[:, None] * (_CELLS + 1)
    cells[zero] += _CELLS - (cells[zero] % (_CELLS + 1))
    counts = np.bincount(cells.reshape(-1), minlength=len(block) * (_CELLS + 1))
    counts = counts[: len(block) * (_CELLS + 1)].reshape(len(block), _CELLS + 1)[:, :_CELLS]
    total = counts.sum(1)
    expected = np.maximum(total / _CELLS, 1)[:, None]
    squared = ((counts - expected) ** 2 / expected).sum(1)
    uneven: npt.NDArray[np.float64] = (squared - (_CELLS - 1)) / np.sqrt(2 * (_CELLS - 1))
    return np.where(total > block.shape[1] // 2, uneven, np.inf)


def _mixed(words: Array) -> int:
    """Return how many numbers are of another precision than the rest of their tensor.

    Those with bits that the others, which were widened from 16 bits, lack; or those that lack bits,
    as whole numbers do that were divided, where the others have them. Zeros have none anyway.
    """
    widened = full = coarse = fine = 0
    for block in _windows(words):
        size = block.shape[1]
        share = ((block & _HALF_BITS) != 0).mean(1)
        widened += int((share < _FEW).sum()) * size
        full += int((share > 1 - _MANY).sum()) * size
        share = ((block & _LOW_BITS) != 0).mean(1)
        coarse += int(((share < _FEW) & ((block << 1) != 0).all(1)).sum()) * size
        fine += int((share > 1 - _MANY).sum()) * size
    return min(coarse, fine) or (full if widened >= full > 0 else 0)


_FEW, _MANY = 0.02, 0.1  # none, or all, or nearly


def _periodic(words: Array, bits: int, distinct: float) -> int:
    """Return how many numbers stand in blocks whose low bits repeat as bytes or words do.

    The highest bit of each byte of a text is zero, and so are some of each weight's exponent. Where
    a few bits of each number are a load, however many, these are the same in every 32nd number,
    while the same bit of the numbers between varies.

    Args:
        words: Numbers as words.
        bits: How many low bits of each are looked at.
        distinct: The share of different numbers in a block below which they are those of a table
            or a lattice, which repeat as a whole.
    """
    rows = words[: min(len(words), _SEARCHED) // _PERIODIC * _PERIODIC]
    rows = rows.reshape(-1, _PERIODIC // 32, 32)
    ones, none = np.bitwise_and.reduce(rows, axis=1), ~np.bitwise_or.reduce(rows, axis=1)
    still = (ones | none) & rows.dtype.type((1 << bits) - 1)
    # Numbers that are alike as a whole, as in a table of sines, are none of weights.
    high = rows >> rows.dtype.type(_ALIKE[rows.dtype.itemsize])
    still[(high == high[:, :1]).all(axis=1)] = 0
    found = 0
    for block, same in zip(rows, still, strict=True):
        if not same.any() or len(np.unique(block)) < _PERIODIC * distinct:
            continue
        counts = ((same[:, None] >> np.arange(bits, dtype=same.dtype)) & 1).sum(0)
        # A bit that all numbers lack says nothing.
        found += block.size if ((counts >= 3) & (counts <= 16)).any() else 0  # noqa: PLR2004
    return found


_ALIKE = {2: 7, 4: 20, 8: 49}
"""Bits below the first three of the mantissa, by width in bytes."""


def _text(words: Array) -> int:
    """Return how many low bytes stand in windows that are text."""
    return sum(
        block.shape[1]
        for block in _windows(words)
        for low in (block & 0xFF).astype(np.uint8)
        if content.is_text(low[:_SAMPLE].tobytes()) and content.is_text(low.tobytes())
    )


def _plain_text(numbers: Array) -> int:
    """Return how many numbers stand in blocks of nothing but text."""
    octets = numbers.view(np.uint8)
    blocks = octets[: len(octets) // _SAMPLE * _SAMPLE].reshape(-1, _SAMPLE)
    # Few weights pass so far: two bytes of each block.
    likely = np.flatnonzero(_PRINTABLE[blocks[:, 0]] & _PRINTABLE[blocks[:, -1]])
    likely = likely[_PRINTABLE[blocks[likely]].all(axis=1)]
    found = sum(content.is_text(blocks[place].tobytes()) for place in likely.tolist())
    return found * _SAMPLE // numbers.dtype.itemsize


def _within(words: Array, width: int) -> Iterator[Content]:
    """Yield what lies in the first numbers' low bytes, of formats that never fit by chance."""
    rows = np.ascontiguousarray(words[:_SEARCHED]).view(np.uint8).reshape(-1, width)
    for count in range(1, width):
        for low in (rows[:, :count], rows[:, count - 1 :: -1] if count > 1 else rows[:0]):
            for seen in content.all_within(low.tobytes(), 1):
                yield seen.inside(f"the low {count} bytes of each number")
