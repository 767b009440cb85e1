"""The oracle of gradients: float64 central differences of the ONNX reference evaluator.

A graph is built twice: in float32 it is differentiated by the scanner and run by ONNX Runtime; in
float64 it is only evaluated, by the reference evaluator, at two points of a random direction v.
With a step of h = 1e-6 the difference quotient errs by h^2 (1e-12) and by rounding 1e-16 / h
(1e-10); float32 arithmetic errs by 6e-8 a step. The tolerance of 3e-5 of |gradient| |v| leaves room
for a few hundred steps, and yet a single wrong element among hundreds breaks it.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from scanner.graph.gradient.backward import GradientModel, gradient_model

UNCHECKED = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Refused by the checker: the first is withdrawn, the second's function body cannot be typed."""

STEP = 1e-6
TOLERANCE = 3e-5
_TYPES = {np.float32: onnx.TensorProto.FLOAT, np.float64: onnx.TensorProto.DOUBLE}

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Function:
    """A small graph with its output `y`.

    Attributes:
        nodes: In order.
        inputs: Differentiable inputs, float64.
        constants: Further tensors; floating ones take the graph's precision, others stay as they
            are.
        opset: Version of the standard operator set.
        open_axes: How many leading axes of each input are symbolic in the file; None opens all.
    """

    nodes: Sequence[onnx.NodeProto]
    inputs: Mapping[str, Array]
    constants: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    opset: int = 18
    open_axes: int | None = 0

    def model(self, kind: Any) -> onnx.ModelProto:
        """Return the graph in float32 or float64."""
        infos = [
            helper.make_tensor_value_info(n, _TYPES[kind], self._sizes(n, a))
            for n, a in self.inputs.items()
        ]
        tensors = [numpy_helper.from_array(_in(a, kind), n) for n, a in self.constants.items()]
        result = helper.make_tensor_value_info("y", _TYPES[kind], None)
        graph = helper.make_graph(list(self.nodes), "g", infos, [result], tensors)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )

    def _sizes(self, name: str, array: Array) -> list[int | str]:
        count = array.ndim if self.open_axes is None else self.open_axes
        return [f"{name}{axis}" if axis < count else size for axis, size in enumerate(array.shape)]


def _in(array: Array, kind: Any) -> Array:
    return array.astype(kind) if array.dtype.kind == "f" else array


def node(kind: str, inputs: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node with output y whose inputs are the words of `inputs` ('-' omits one)."""
    names = ["" if word == "-" else word for word in inputs.split()]
    return helper.make_node(kind, names, ["y"], **attributes)


def run(model: GradientModel, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return value and gradients by name, from ONNX Runtime."""
    session = ort.InferenceSession(
        model.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [model.value, *model.gradients.values()]
    return dict(zip([model.value, *model.gradients], session.run(names, dict(feeds)), strict=True))


def assert_gradient(
    function: Function,
    rng: np.random.Generator,
    *,
    linear: bool = False,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare the gradient by every input, along random directions, with central differences.

    Args:
        function: What to differentiate.
        rng: For weights and directions.
        linear: Whether each input enters linearly, so that ONNX Runtime itself can be the oracle,
            with a step of 1: for operators that the reference evaluator gets wrong.
        tolerance: Largest error, as a share of |gradient| |direction|.
    """
    backward = gradient_model(
        function.model(np.float32), of="y", with_respect_to=list(function.inputs)
    )
    if not UNCHECKED & {item.op_type for item in function.nodes}:
        onnx.checker.check_model(backward.proto, full_check=True)
    evaluate = _runtime(function) if linear else _reference(function)
    step = 1.0 if linear else STEP
    value = evaluate(function.inputs)
    weights = rng.standard_normal(value.shape)
    feeds = {name: array.astype(np.float32) for name, array in function.inputs.items()}
    found = run(backward, {**feeds, backward.weights: weights.astype(np.float32)})
    np.testing.assert_allclose(found["y"], value, rtol=1e-3, atol=1e-4)
    for name, array in function.inputs.items():
        gradient = found[name].astype(np.float64)
        assert gradient.shape == array.shape
        for _ in range(2):
            direction = rng.standard_normal(array.shape)
            ahead, behind = (
                evaluate({**function.inputs, name: array + s * step * direction}) for s in (1, -1)
            )
            expected = float(np.sum(weights * (ahead - behind))) / (2 * step)
            scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
            assert abs(np.sum(gradient * direction) - expected) <= tolerance * scale + 1e-6, name


class Erf(OpRun):
    """In the input's own precision; onnx's is in float32."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class GlobalLpPool(OpRun):
    """Missing from onnx's evaluator."""

    op_domain = ""

    def _run(self, x: Array, p: int = 2) -> tuple[Array]:
        return ((np.abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class LRN(OpRun):
    """Over all channels; onnx's normalises only as many as there are images."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        before, after = (size - 1) // 2, size // 2
        sums = [
            (x[:, max(0, c - before) : c + after + 1] ** 2).sum(axis=1) for c in range(x.shape[1])
        ]
        return (x / (bias + alpha / size * np.stack(sums, axis=1)) ** beta,)


class LpNormalization(OpRun):
    """The 1-norm sums absolute values, which onnx's evaluator forgets."""

    op_domain = ""

    def _run(self, x: Array, axis: int, p: int) -> tuple[Array]:
        return (x / (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p),)


class Gelu(OpRun):
    """In the input's own precision."""

    op_domain = ""

    def _run(self, x: Array, approximate: str = "none") -> tuple[Array]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),)


class GroupNormalization(OpRun):
    """In the input's precision, with parameters per channel or (until opset 20) per group."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, **attributes: Any) -> tuple[Array]:
        epsilon = attributes.get("epsilon", 1e-5)
        groups = x.reshape(x.shape[0], attributes["num_groups"], -1)
        normal = (groups - groups.mean(2, keepdims=True)) / np.sqrt(
            groups.var(2, keepdims=True) + epsilon
        )
        a, b = (
            np.repeat(p, x.shape[1] // p.size).reshape(1, -1, *[1] * (x.ndim - 2))
            for p in (scale, bias)
        )
        return (normal.reshape(x.shape) * a + b,)


class MeanVarianceNormalization(OpRun):
    """In the input's own precision."""

    op_domain = ""

    def _run(self, x: Array, axes: Sequence[int] = (0, 2, 3)) -> tuple[Array]:
        kept = tuple(axes)
        return ((x - x.mean(kept, keepdims=True)) / (x.std(kept, keepdims=True) + 1e-9),)


CORRECTED: list[type[OpRun]] = [Erf, Gelu, GlobalLpPool, GroupNormalization, LRN, LpNormalization]
CORRECTED += [MeanVarianceNormalization]


def _reference(function: Function) -> Callable[[Mapping[str, Array]], Array]:
    evaluator = ReferenceEvaluator(function.model(np.float64), new_ops=list(CORRECTED))

    def run(inputs: Mapping[str, Array]) -> Array:
        (output,) = evaluator.run(None, dict(inputs))
        return np.asarray(output)

    return run


def _runtime(function: Function) -> Callable[[Mapping[str, Array]], Array]:
    session = ort.InferenceSession(
        function.model(np.float32).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(None, {n: a.astype(np.float32) for n, a in inputs.items()})[
        0
    ].astype(np.float64)
