"""A tensor takes what it declares, and holds what it declares."""

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.guards import check_structure
from scanner.modelfile.tensor_sizes import check_memory, data_bytes, scalar, tensors

LIMITS = Limits()

# Six-bit floats are stored packed or not; readers take both.
SIZED = [
    n
    for n, _ in TensorProto.DataType.items()
    if n not in ("UNDEFINED", "STRING") and not n.startswith("FLOAT6")
]


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_tensor_is_that_of_its_data(name: str) -> None:
    dtype = TensorProto.DataType.Value(name)
    made = helper.make_tensor("t", dtype, [5], [0, 1, 0, 1, 0])
    assert data_bytes(made) is not None
    model = models.plain()
    model.graph.initializer.append(made)
    check_structure(model, LIMITS)
    raw = TensorProto(name="raw", dims=[5], data_type=dtype, raw_data=bytes(data_bytes(made) or 0))
    model.graph.initializer.append(raw)
    check_structure(model, LIMITS)
    raw.dims[0] = 500
    model.graph.initializer[-1].CopyFrom(raw)
    with pytest.raises(MalformedModelError, match="declares"):
        check_structure(model, LIMITS)


def test_an_unknown_element_type_is_malformed() -> None:
    model = models.plain()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(MalformedModelError, match="unknown element type"):
        check_structure(model, LIMITS)


def test_every_tensor_of_a_model_is_found() -> None:
    model = models.branch_relu()
    model.functions.add(name="f", domain="d").node.add(op_type="Constant").attribute.add(
        name="value",
        type=onnx.AttributeProto.TENSOR,
        t=numpy_helper.from_array(np.zeros(1), "in a function"),
    )
    names = {tensor.name for tensor in tensors(model)}
    assert {"kernel", "bias", "dense", "in a function"} <= names


def test_a_scalar_is_one_real_number_of_this_file() -> None:
    number = numpy_helper.from_array(np.array([2.5], np.float16))
    assert scalar(number) == 2.5
    number.data_location = TensorProto.EXTERNAL
    assert scalar(number) is None
    assert scalar(numpy_helper.from_array(np.zeros(2))) is None
    assert scalar(numpy_helper.from_array(np.array(1j))) is None
    assert scalar(None) is None


def test_a_size_that_no_number_format_holds_is_refused_in_words() -> None:
    check_memory("t", LIMITS.memory, LIMITS)
    with pytest.raises(UnsafeModelError, match="2\\^80 bytes or more"):
        check_memory("t", 10**400, LIMITS)
