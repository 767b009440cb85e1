"""Weights as rows that are small enough to be carried to another process, and tell how they differ.

A row is carried by a digest, which says whether two are equal bit for bit, and by a count sketch,
whose distances are those of the rows (M. Charikar, K. Chen and M. Farach-Colton, "Finding frequent
items in data streams", ICALP 2002): of eight numbers to within a factor of about two.
"""

import base64
import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt

from scanner.graph.canonical.plan import Array
from scanner.results import Array as Packed
from scanner.results import WeightRows
from scanner.results.graphs import DIGEST

_WIDTH = 8
_MOST_ROWS = 2**17  # of one model: 7 MB
_PER_CHANNEL = frozenset({"Conv", "ConvTranspose", "Linear"})
_FLAT = 2
Rows = npt.NDArray[np.float32]


@dataclasses.dataclass(slots=True)
class Rower:
    """Turns weights into rows, of which a model carries only so many.

    Attributes:
        seed: Of the signs. Whoever knows it can change a row of more than a few numbers so that its
            sketch stays as it is; its digest changes even then.
        left: How many rows may still be carried.
    """

    seed: int
    left: int = _MOST_ROWS

    def rows(self, operator: str, role: str, weights: Array) -> WeightRows:
        """Return weights as rows: of a layer one per output channel."""
        matrix = _matrix(operator, weights)
        if len(matrix) > self.left:
            matrix = matrix.reshape(1, -1)
        self.left -= len(matrix)
        count, columns = matrix.shape
        whole = columns <= _WIDTH
        sums = matrix if whole else self._summed(matrix)
        largest = float(np.nan_to_num(max(matrix.max(), -matrix.min())))
        return WeightRows(
            role=role,
            shape=tuple(size for size in weights.shape if size != 1 or operator in _PER_CHANNEL),
            columns=columns,
            largest=largest,
            rows=Packed.packed(np.asarray(sums, "<f4").tobytes(), (count, sums.shape[1])),
            digests="" if whole else _digests(matrix),
        )

    def _summed(self, matrix: Rows) -> Rows:
        """Return the sums of every eighth number of each row, each with its sign."""
        columns = matrix.shape[1]
        signs = np.random.default_rng(self.seed).integers(0, 2, columns) * 2 - 1
        signs = signs.astype(np.float32)
        even = columns - columns % _WIDTH
        # Not by a matrix product, whose threads would wait for one another longer than they work.
        sums = np.einsum(
            "rkw,kw->rw",
            matrix[:, :even].reshape(len(matrix), -1, _WIDTH),
            signs[:even].reshape(-1, _WIDTH),
        )
        sums[:, : columns - even] += matrix[:, even:] * signs[even:]
        return np.asarray(sums)


def _matrix(operator: str, weights: Array) -> Rows:
    numbers = np.ascontiguousarray(weights, np.float32)
    if operator in _PER_CHANNEL and numbers.ndim >= _FLAT:
        return numbers.reshape(len(numbers), -1)
    sizes = [size for size in numbers.shape if size != 1]
    return numbers.reshape(-1, sizes[-1] if len(sizes) >= _FLAT else 1)


def _digests(matrix: Rows) -> str:
    made = (hashlib.sha256(row).digest()[:DIGEST] for row in matrix)
    return base64.b64encode(b"".join(made)).decode()
