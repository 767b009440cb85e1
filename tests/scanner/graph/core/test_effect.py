"""Which numbers of a constant count as trained."""

import numpy as np
import pytest
from onnx import numpy_helper

from scanner.graph.core.effect import trained

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("numbers", "least", "most"),
    [
        (GENERATOR.normal(size=(30, 30)), 900, 900),
        (np.eye(100), 1, 1),
        (np.zeros((50, 50)), 0, 0),
        (np.where(GENERATOR.random((60, 60)) < 0.1, GENERATOR.normal(size=(60, 60)), 0), 250, 450),
        (np.sign(GENERATOR.normal(size=(40, 40))), 2, 2),
    ],
)
def test_written_numbers_count_for_little(numbers: np.ndarray, least: int, most: int) -> None:
    tensor = numpy_helper.from_array(numbers.astype(np.float32), "w")
    assert least <= trained(tensor, numbers.size) <= most
