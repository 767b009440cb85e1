"""Numbers of operators of classical models that no row of data reaches."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from scanner.graph.audit import ml_operators
from scanner.modelfile.nested import Contents

LOAD = np.random.default_rng(5).integers(1, 1 << 30, 40).tolist()
FRACTIONS = [n / 7 for n in LOAD]


def told(*nodes: onnx.NodeProto) -> list[str]:
    model = onnx.ModelProto(graph={"node": nodes})
    return [o.sentence for o in ml_operators.observe(Contents(model))]


def node(kind: str, given: str = "x", made: str = "y", **more: Any) -> onnx.NodeProto:
    held: onnx.NodeProto = helper.make_node(kind, [given], [made], domain="ai.onnx.ml", **more)
    return held


def test_keys_that_are_no_labels() -> None:
    keys, values = [0, 1, 2, *LOAD], [5, 6, 7, *LOAD]
    encoder = node("LabelEncoder", keys_int64s=keys, values_int64s=values)
    known = node("LinearClassifier", "image", "x", classlabels_ints=[0, 1, 2])
    (found,) = told(known, encoder)
    assert "labels that the node before them never gives" in found
    assert told(encoder) == []
    every = node("LinearClassifier", "image", "x", classlabels_ints=keys)
    assert told(every, encoder) == []


def test_what_replaces_a_number_that_nobody_feeds() -> None:
    def imputer(value: float) -> onnx.NodeProto:
        return node("Imputer", replaced_value_float=value, imputed_value_floats=FRACTIONS)

    assert len(told(imputer(-1e30))) == 1
    assert told(imputer(float("nan"))) == []
    assert told(imputer(-1.0)) == []
    assert len(told(helper.make_node("Relu", ["image"], ["x"]), imputer(-1.0))) == 1


def test_offsets_that_are_multiplied_by_zero() -> None:
    assert len(told(node("Scaler", scale=[0.0] * 40, offset=FRACTIONS))) == 1
    assert told(node("Scaler", scale=[0.5] * 40, offset=FRACTIONS)) == []


@pytest.mark.parametrize(("weight", "count"), [(0.0, 1), (0.5, 0)])
def test_vectors_of_weight_zero(weight: float, count: int) -> None:
    machine = node(
        "SVMRegressor", support_vectors=FRACTIONS, coefficients=[weight, 1.0], n_supports=2
    )
    assert len(told(machine)) == count


def test_whole_numbers_that_count_nothing() -> None:
    large = node("TfIdfVectorizer", pool_int64s=[n << 30 for n in LOAD])
    assert "beyond 2^48" in told(large)[0]
    assert told(node("TfIdfVectorizer", pool_int64s=[*LOAD, (1 << 63) - 1])) == []
