"""What a detector measured, as a claim that can be checked against the file itself.

A detector reads a graph that was parsed, inlined, folded or cut. Each such graph is a witness: it
says which values of the file it computes, and can be asked for them again.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from scanner.values import frozen

Array = npt.NDArray[Any]


@frozen
class Witness:
    """A graph that a detector measured, and what it claims to compute.

    Attributes:
        name: Which graph of which detector, in words.
        values: Names of the values of the file that it claims to compute.
        answer: Takes images, (n, *shape), and returns an array per value, (n, ...), as far as it
            has one for each image.
        peaks: Whether it returns no values but the largest element of each per image, (n,).
        scores: Whether the last of the values holds the class scores.
        relaxed: Whether it differs from the file by design: quantised activations keep no ceiling.
        provider: The execution provider that runs it.
    """

    name: str
    values: tuple[str, ...]
    answer: Callable[[Array], Mapping[str, Array]]
    peaks: bool = False
    scores: bool = False
    relaxed: bool = False
    provider: str = "CPU"
