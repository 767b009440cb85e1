"""Where a classifier's last linear layer begins."""

import numpy as np
import numpy.typing as npt
import onnx

from scanner.errors import NoHeadError
from scanner.graph.core.extract import dependent
from scanner.graph.core.structure import Uses

_LINEAR = frozenset({"Gemm", "MatMul", "Conv"})
_PASSED = frozenset({
    "Add", "Sub", "Mul", "Div", "Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze",
    "Dropout", "BatchNormalization", "QuantizeLinear", "DequantizeLinear", "GlobalAveragePool",
})  # fmt: skip


def head_input(proto: onnx.ModelProto, logits: str) -> str:
    """Return the name of the value that the last linear layer before the logits reads.

    Args:
        proto: The model, flat (`scanner.graph.core.flatten.flatten`).
        logits: Name of the logits.

    Raises:
        NoHeadError: The logits come from something else, such as a tree or a product of two
            computed values.
    """
    uses, computed = Uses(proto.graph), dependent(proto.graph)
    node = uses.producer(logits)
    while node is not None:
        arguments = [name for name in node.input if name in computed]
        if len(arguments) != 1:
            break
        if node.op_type in _LINEAR:
            return str(arguments[0])
        if node.op_type not in _PASSED:
            break
        node = uses.producer(arguments[0])
    made = f"a {node.op_type} node" if node is not None else "the input"
    raise NoHeadError(
        f"no linear layer makes the logits {logits!r}: they come from {made}",
        remedy="name the value that holds the logits with the setting `logits`",
    )


def as_input(name: str, values: npt.NDArray[np.generic], batch: int | None) -> onnx.ValueInfoProto:
    """Describe an inner value as an input.

    Args:
        name: The value's name.
        values: What it holds for some images, shape (images, ...).
        batch: Size of the batch axis; None leaves it open.
    """
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    return onnx.helper.make_tensor_value_info(
        name, kind, ("N" if batch is None else batch, *values.shape[1:])
    )
