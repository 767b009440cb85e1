"""What two readers may read as two models is refused; what exporters write passes."""

from collections.abc import Callable

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from scanner.errors import UnsafeModelError
from scanner.modelfile.ambiguity import check_readings


def two_values(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(1, np.float32))
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor, value_float=2.0))


def two_values_in_a_branch(model: onnx.ModelProto) -> None:
    branch = models.branch_relu()
    two_values_inside = branch.graph.node[1].attribute[0].g
    two_values_inside.node.append(
        helper.make_node("Constant", [], ["c"], value_int=1, value_float=2.0)
    )
    model.CopyFrom(branch)


def attribute_twice(model: onnx.ModelProto) -> None:
    attributes = model.graph.node[0].attribute
    attributes.append(helper.make_attribute("group", 1))
    attributes.append(helper.make_attribute("group", 2))


def function_twice(model: onnx.ModelProto) -> None:
    model.CopyFrom(models.function_relu())
    model.functions.append(model.functions[0])


def dense_and_sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "dense")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 3]))


def opset_twice(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 12))


def opset_twice_in_a_function(model: onnx.ModelProto) -> None:
    model.CopyFrom(models.function_relu())
    model.functions[0].opset_import.append(helper.make_opsetid("", 12))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (two_values, "the Constant node .* has 2 attributes"),
        (two_values_in_a_branch, "the Constant node .* has 2 attributes"),
        (attribute_twice, "has the attribute 'group' twice"),
        (function_twice, "the function 'Activate' of 'local' is defined twice"),
        (opset_twice, "two versions of the operators of 'ai.onnx' are imported"),
        (opset_twice_in_a_function, "two versions of the operators of 'ai.onnx' are imported"),
        (dense_and_sparse, "the name 'dense' stands for two initialisers"),
    ],
)
def test_two_readings_are_refused(change: Callable[[onnx.ModelProto], None], words: str) -> None:
    model = models.plain()
    change(model)
    with pytest.raises(UnsafeModelError, match=rf"can be read in several ways: .*{words}") as error:
        check_readings(model)
    assert "the setting `lenient`" in str(error.value.remedy)


@pytest.mark.parametrize("name", list(models.MEASURABLE))
def test_what_exporters_write_passes(name: str) -> None:
    check_readings(models.MEASURABLE[name](False))
