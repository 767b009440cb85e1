"""Subnormal numbers: smaller than any of full precision, as good as zero, with bits to spare.

Weights that decayed to nothing are such too, in 10 of 1,550 honest files; most readers take them
for zeros.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.audit import views
from scanner.modelfile.nested import Contents
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_LEAST = 64
"""Numbers of a file below which nothing is said: a few are left by any training."""
_FRACTION: dict[int, int] = {onnx.TensorProto.FLOAT: 23, onnx.TensorProto.DOUBLE: 52}
"""Bits below the exponent, by element type. In float16 ordinary weights are subnormal."""
_SHOWN = 20


def find(contents: Contents) -> list[tuple[str, Array]]:
    """Return the tensors with subnormal numbers, and these as words without their signs."""
    found = [(tensor.name, _words(tensor)) for tensor in contents.of(onnx.TensorProto)]
    return sorted((each for each in found if each[1].size), key=lambda each: -each[1].size)


def told(found: Sequence[tuple[str, Array]]) -> Iterator[Observation]:
    """Yield one observation for the subnormal numbers of all tensors, if there are many."""
    count = sum(int(words.size) for _, words in found)
    if count >= _LEAST:
        yield Observation(
            code="subnormal-numbers",
            severity=Severity.NOTE,
            sentence=f"{count} numbers of {len(found)} tensors are subnormal: they are as good as "
            "zero, and their bits are room",
            nodes=tuple(name for name, _ in found[:_SHOWN]),
            details={"count": count, "tensors": len(found)},
        )


def streams(words: Array) -> Iterator[bytes]:
    """Yield the low bytes of a tensor's subnormal numbers, as they are and less the smallest."""
    if words.size < _LEAST:
        return
    for shifted in (words, words - words.min(), words - 1):
        octets = shifted.astype(f"<u{words.dtype.itemsize}").view(np.uint8)
        rows = octets.reshape(-1, words.dtype.itemsize)
        for width in range(1, words.dtype.itemsize - 1):
            yield rows[:, :width].tobytes()


def _words(tensor: onnx.TensorProto) -> Array:
    """Return the subnormal numbers of a tensor, as words without their signs."""
    bits = _FRACTION.get(tensor.data_type)
    numbers = None if bits is None else views.numbers(tensor)
    if numbers is None or bits is None:
        return np.zeros(0, np.uint32)
    words = numbers.view(f"<u{numbers.dtype.itemsize}")
    fraction = words & words.dtype.type((1 << bits) - 1)
    sign = words.dtype.type(1 << (8 * words.dtype.itemsize - 1))
    found: Array = fraction[((words & ~sign) == fraction) & (fraction != 0)]
    return found
