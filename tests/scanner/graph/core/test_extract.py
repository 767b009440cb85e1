"""What lies upstream of a value, and nothing else."""

import models
import pytest
from onnx import helper

from scanner.errors import ValueNotFoundError
from scanner.graph.core import extract


def test_only_what_the_value_needs_is_left() -> None:
    cut = extract.upstream(models.plain(), ["activated"])
    assert [n.op_type for n in cut.graph.node] == ["Conv", "Relu"]
    assert {t.name for t in cut.graph.initializer} == {"kernel", "bias"}
    assert [o.name for o in cut.graph.output] == ["activated"]


def test_the_argument_is_left_alone() -> None:
    model = models.plain()
    before = model.SerializeToString()
    extract.upstream(model, ["activated"])
    assert model.SerializeToString() == before


def test_values_captured_by_a_branch_are_kept() -> None:
    cut = extract.upstream(models.branch_relu(constant=False), ["activated"])
    assert [n.op_type for n in cut.graph.node] == ["Conv", "ReduceMean", "Greater", "If"]


def test_initialisers_are_no_inputs() -> None:
    cut = extract.upstream(models.initialisers_as_inputs(), ["activated"])
    assert [i.name for i in cut.graph.input] == ["image"]


def test_sparse_initialisers_are_kept() -> None:
    model = models.plain()
    values = helper.make_tensor("sparse", 1, [1], [2.0])
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, helper.make_tensor("indices", 7, [1], [0]), [4])
    )
    model.graph.node[0].input[2] = "sparse"
    cut = extract.upstream(model, ["activated"])
    assert [t.values.name for t in cut.graph.sparse_initializer] == ["sparse"]


def test_an_unknown_value_is_refused() -> None:
    with pytest.raises(ValueNotFoundError, match="did you mean 'activated'"):
        extract.upstream(models.plain(), ["activatd"])
