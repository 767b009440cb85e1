"""Numbers that reach no output though their tensor is read."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import idle_numbers
from scanner.modelfile.nested import Contents
from scanner.results import Severity

Array = np.ndarray
GENERATOR = np.random.default_rng(3)
LOAD = GENERATOR.integers(1, 1 << 30, 400)


def told(
    array: Array, *nodes: onnx.NodeProto, within: bool = False
) -> list[tuple[str, Severity, tuple[str, ...]]]:
    held = numpy_helper.from_array(array, "held")
    first = [helper.make_node("Constant", [], ["held"], value=held)] if within else []
    graph = helper.make_graph([*first, *nodes], "g", [], [], [] if within else [held])
    model = helper.make_model(graph)
    return [(o.code, o.severity, o.nodes) for o in idle_numbers.observe(Contents(model))]


def cast(to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", ["held"], ["y"], name="cast", to=to)


@pytest.mark.parametrize("within", [False, True])
def test_the_upper_half_of_indices_is_told(within: bool) -> None:
    found = told((LOAD << 32) | np.arange(400), cast(TensorProto.INT32), within=within)
    assert found == [("idle-bits", Severity.WARNING, ("cast",))]


def test_the_lower_half_of_fractions_is_noted() -> None:
    found = told(GENERATOR.normal(size=400), cast(TensorProto.FLOAT))
    assert found == [("idle-bits", Severity.NOTE, ("cast",))]


@pytest.mark.parametrize(
    ("array", "to"),
    [
        (np.arange(400), TensorProto.INT32),
        (np.arange(400) / 8, TensorProto.FLOAT),
        (GENERATOR.normal(size=400), TensorProto.INT32),
        (np.full(400, 1 << 40), TensorProto.INT32),  # one number, many times
        (np.asarray([np.inf, 1e300] * 200), TensorProto.FLOAT),
        (LOAD[:8] << 32, TensorProto.INT32),
    ],
)
def test_casts_that_lose_nothing_or_the_same_are_none(array: Array, to: int) -> None:
    assert told(array, cast(to)) == []


def ensemble(values: list[float], *, as_tensor: bool = False) -> onnx.NodeProto:
    held: dict[str, Any] = {"nodes_values": values}
    if as_tensor:
        held = {"nodes_values_as_tensor": numpy_helper.from_array(np.asarray(values, np.float64))}
    modes = ["BRANCH_LEQ", *["LEAF"] * (len(values) - 1)]
    return helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], name="trees", nodes_modes=modes, **held
    )


@pytest.mark.parametrize("as_tensor", [False, True])
def test_thresholds_of_leaves_are_told(as_tensor: bool) -> None:
    node = ensemble([0.5, *LOAD[:40].tolist()], as_tensor=as_tensor)
    found = told(np.zeros(1), node)
    assert found == [("idle-numbers", Severity.WARNING, ("trees",))]
    assert told(np.zeros(1), ensemble([0.5, *[0.0] * 20, *[-2.0] * 20], as_tensor=as_tensor)) == []


def test_signs_of_zeros_are_told_where_there_is_nothing_else() -> None:
    zeros = np.where(LOAD % 2 == 0, np.float32(0.0), np.float32(-0.0))
    assert told(zeros) == [("idle-bits", Severity.NOTE, ("held",))]
    assert told(np.abs(zeros)) == []
    assert told(-np.abs(zeros)) == []
    zeros[-1] = 1
    assert told(zeros) == []
