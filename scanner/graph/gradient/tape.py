"""Writing new nodes next to a graph, as arithmetic on its values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from scanner.errors import UnsupportedModelError
from scanner.graph.core.facts import FLOATING, HALVES, Facts
from scanner.graph.core.open_sizes import Shape

WIDE = FLOATING - HALVES
"""Element types in which gradients are computed; halves are widened first."""

_SHARED_BYTES = 256


class Tape:
    """Nodes and constants that are being added to a graph.

    Args:
        facts: What is known of the graph's own values.
        taken: Names that new values must not have.
    """

    def __init__(self, facts: Facts, taken: set[str]) -> None:
        self.facts = facts
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._taken = taken
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._shapes: dict[str, Value] = {}
        self._counter = 0

    def fresh(self, stem: str) -> str:
        """Return a name that no value has yet."""
        name = stem
        while name in self._taken:
            self._counter += 1
            name = f"{stem}_{self._counter}"
        self._taken.add(name)
        return name

    def value(self, name: str) -> "Value":
        """Return a value of the graph."""
        return Value(self, name, self.facts.elem_types.get(name, onnx.TensorProto.FLOAT))

    def constant(self, array: npt.NDArray[Any]) -> "Value":
        """Return a constant as a value; equal small ones are shared."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        dtype = helper.np_dtype_to_tensor_dtype(array.dtype)
        key = (
            array.dtype.str,
            array.shape,
            array.tobytes() if array.nbytes <= _SHARED_BYTES else b"",
        )
        if array.nbytes <= _SHARED_BYTES and key in self._constants:
            return Value(self, self._constants[key], dtype, array)
        name = self.fresh("gradient/constant")
        self.tensors.append(numpy_helper.from_array(array, name))
        self._constants[key] = name
        return Value(self, name, dtype, array)

    def emit(
        self, kind: str, inputs: Sequence[str], count: int = 1, **attributes: Any
    ) -> tuple[str, ...]:
        """Append a node of `count` outputs and return their names."""
        outputs = tuple(self.fresh(f"gradient/{kind}") for _ in range(count))
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=self.fresh(outputs[0]), **attributes)
        )
        return outputs

    def emit_as(self, kind: str, source: str, stem: str) -> str:
        """Append a node of one input; its output is called `stem` if that name is free."""
        name = self.fresh(stem)
        self.nodes.append(
            helper.make_node(kind, [source], [name], name=self.fresh(f"{name}/{kind}"))
        )
        return name

    def forget(self) -> None:
        """Let go of the values that were kept for further nodes.

        They hold the tape as the tape holds them: the weights of a large network would stay in
        memory until Python looks for such rings.
        """
        self._shapes.clear()

    def shape_of(self, value: "Value") -> "Value":
        """Return the shape of a value as a vector, a constant where it is fixed."""
        sizes = self.facts.shapes.get(value.name)
        if sizes is not None and all(isinstance(size, int) for size in sizes):
            return self.constant(np.array(sizes, np.int64))
        if value.name not in self._shapes:
            self._shapes[value.name] = value.op("Shape", dtype=onnx.TensorProto.INT64)
        return self._shapes[value.name]


class Value:
    """A tensor of the graph or of the tape; arithmetic on it appends nodes.

    Numbers become constants of the value's own type; sequences of integers become int64 vectors.
    """

    __slots__ = ("_array", "dtype", "name", "tape")

    def __init__(
        self, tape: Tape, name: str, dtype: int, array: npt.NDArray[Any] | None = None
    ) -> None:
        self.tape = tape
        self.name = name
        self.dtype = dtype
        self._array = array

    @property
    def constant(self) -> npt.NDArray[Any] | None:
        """The numbers, where they are fixed."""
        return self._array if self._array is not None else self.tape.facts.constant(self.name)

    @property
    def sizes(self) -> Shape | None:
        """The dimensions, or None where even their count is unknown."""
        return self.tape.facts.shapes.get(self.name)

    def fixed_sizes(self, first: int = 0) -> tuple[int, ...] | None:
        """Return the dimensions from `first` on, or None where one of them is open."""
        sizes = (self.sizes or ())[first:]
        fixed = tuple(size for size in sizes if isinstance(size, int))
        return fixed if self.sizes is not None and len(fixed) == len(sizes) else None

    @property
    def rank(self) -> int:
        """The number of dimensions.

        Raises:
            UnsupportedModelError: Shape inference could not find it.
        """
        if self.sizes is None:
            raise UnsupportedModelError(
                f"the rank of the value {self.name!r} is not known",
                remedy="run onnx.shape_inference on the model, or export it with a fixed input "
                "shape",
            )
        return len(self.sizes)

    @property
    def shape(self) -> "Value":
        """The dimensions as a vector value."""
        return self.tape.shape_of(self)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The element type in NumPy's terms."""
        return helper.tensor_dtype_to_np_dtype(self.dtype)

    def op(self, kind: str, *others: Any, dtype: int | None = None, **attributes: Any) -> "Value":
        """Append `kind(self, *others)` and return its first output.

        Args:
            kind: The operator.
            *others: Its further operands (see `wrap`); None leaves an optional one out.
            dtype: Element type of the output, where that is not this value's own.
            **attributes: The node's attributes.
        """
        names = [
            self.name,
            *(self.wrap(other).name if other is not None else "" for other in others),
        ]
        (name,) = self.tape.emit(kind, names, **attributes)
        return Value(self.tape, name, self.dtype if dtype is None else dtype)

    def wrap(self, operand: Any) -> "Value":
        """Return an operand as a value."""
        if isinstance(operand, Value):
            return operand
        if isinstance(operand, np.ndarray):
            return self.tape.constant(operand)
        if isinstance(operand, (tuple, list)):
            return self.tape.constant(np.array(operand, np.int64))
        return self.tape.constant(np.array(operand, self.numpy_dtype))

    def __add__(self, other: Any) -> "Value":
        return self.op("Add", other)

    def __radd__(self, other: Any) -> "Value":
        return self.op("Add", other)

    def __sub__(self, other: Any) -> "Value":
        return self.op("Sub", other)

    def __rsub__(self, other: Any) -> "Value":
        return self.wrap(other).op("Sub", self)

    def __mul__(self, other: Any) -> "Value":
        if isinstance(other, (int, float)) and other == 1:
            return self
        return self.op("Mul", other)

    def __rmul__(self, other: Any) -> "Value":
        return self.__mul__(other)

    def __truediv__(self, other: Any) -> "Value":
        return self.op("Div", other)

    def __rtruediv__(self, other: Any) -> "Value":
        return self.wrap(other).op("Div", self)

    def __pow__(self, exponent: Any) -> "Value":
        return self.op("Pow", exponent)

    def __neg__(self) -> "Value":
        return self.op("Neg")

    def __gt__(self, other: Any) -> "Value":
        return self.op("Greater", other, dtype=onnx.TensorProto.BOOL)

    def __lt__(self, other: Any) -> "Value":
        return self.op("Less", other, dtype=onnx.TensorProto.BOOL)

    def __ge__(self, other: Any) -> "Value":
        return self.op("GreaterOrEqual", other, dtype=onnx.TensorProto.BOOL)

    def __le__(self, other: Any) -> "Value":
        return self.op("LessOrEqual", other, dtype=onnx.TensorProto.BOOL)

    def __and__(self, other: "Value") -> "Value":
        return self.op("And", other)

    def equals(self, other: Any) -> "Value":
        """Return where the two are equal."""
        return self.op("Equal", other, dtype=onnx.TensorProto.BOOL)

    def cast(self, dtype: int) -> "Value":
        """Return the value in another element type."""
        return self if dtype == self.dtype else self.op("Cast", to=dtype, dtype=dtype)

    def where(self, condition: "Value", otherwise: Any) -> "Value":
        """Return this value where the condition holds, and `otherwise` elsewhere."""
        return condition.op("Where", self, self.wrap(otherwise), dtype=self.dtype)

    def masked(self, condition: "Value") -> "Value":
        """Return this finite value where the condition holds, and 0 elsewhere.

        A product, since ONNX Runtime's Where takes five times as long.
        """
        return self * condition.cast(self.dtype)

    def unless_zero(self) -> "Value":
        """Return this value, and 1 where it is 0: a divisor of what is 0 there as well."""
        return self.wrap(1).where(self.equals(0), self)

    def sum(self, axes: Sequence[int], *, keepdims: bool = True) -> "Value":
        """Return the sum along axes."""
        return self.op("ReduceSum", list(axes), keepdims=int(keepdims)) if axes else self

    def mean(self, axes: Sequence[int]) -> "Value":
        """Return the mean along axes, which stay with size 1."""
        return self.op("ReduceMean", list(axes), keepdims=1)

    def reshape(self, sizes: Any) -> "Value":
        """Return the value in another shape, by ONNX's rules for 0 and -1."""
        return self.op("Reshape", sizes)

    def reshape_like(self, model: "Value") -> "Value":
        """Return the value in the shape of another one of as many elements."""
        sizes = model.sizes
        if sizes is None or sum(isinstance(size, str) for size in sizes) != 1 or 0 in sizes:
            return self.reshape(model.shape)
        return self.reshape([size if isinstance(size, int) else -1 for size in sizes])

    def transpose(self, permutation: Sequence[int]) -> "Value":
        """Return the value with its axes permuted."""
        if list(permutation) == sorted(permutation):
            return self
        return self.op("Transpose", perm=list(permutation))

    def zeros_like(self) -> "Value":
        """Return zeros of this value's type and shape."""
        zero = helper.make_tensor("zero", self.dtype, [1], [0])
        return self.shape.op("ConstantOfShape", value=zero, dtype=self.dtype)

    def unbroadcast(self, sizes: Shape | None, target: "Value") -> "Value":
        """Sum this cotangent over the axes along which `target` was repeated.

        Args:
            sizes: The cotangent's dimensions; None where they are not known.
            target: The operand whose gradient is wanted.
        """
        axes = _repeated_axes(sizes, target.sizes)
        if axes is None:
            return self._unbroadcast_at_run_time(target)
        if not axes:
            return self
        leading = len(sizes or ()) - len(target.sizes or ())
        if max(axes) < leading:
            return self.sum(axes, keepdims=False)
        reduced = self.sum(axes)
        return reduced.op("Squeeze", list(range(leading))) if leading else reduced

    def _unbroadcast_at_run_time(self, target: "Value") -> "Value":
        int64 = onnx.TensorProto.INT64
        small, large = target.shape, self.op("Shape", dtype=int64)
        missing = large.op("Shape", dtype=int64) - small.op("Shape", dtype=int64)
        one = helper.make_tensor("one", int64, [1], [1])
        padded = missing.op("ConstantOfShape", value=one).op("Concat", small, axis=0)
        repeated = padded.equals(large).op("Not")
        axes = repeated.op("NonZero", dtype=int64).reshape([-1])
        return self.op("ReduceSum", axes, keepdims=1, noop_with_empty_axes=1).reshape(small)


def _repeated_axes(large: Shape | None, small: Shape | None) -> list[int] | None:
    """Return the axes along which broadcasting repeated the smaller shape; None if not known."""
    if large is None or small is None:
        return None
    leading = len(large) - len(small)
    axes = list(range(leading))
    for axis, (size, own) in enumerate(zip(large[leading:], small, strict=True), start=leading):
        if own == size:
            continue
        if own == 1:
            axes.append(axis)
        elif isinstance(own, str):
            return None
    return axes
