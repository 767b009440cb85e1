"""Reverse-mode differentiation: an ONNX model in, an ONNX model that also computes gradients out.

The gradient of a scalar is carried backwards through the graph, node by node, by each operator's
vector-Jacobian product (Griewank and Walther, "Evaluating Derivatives", 2nd ed., SIAM 2008, section
3.2), and written down in standard operators, so that any ONNX runtime computes it.

What contributes no gradient: integers, comparisons, shapes, ArgMax, rounding and random numbers
(`scanner.graph.gradient.vjps.ZERO`), and constants. Quantisation and signs are differentiated
straight through. At ties, a maximum shares its gradient among the elements that attain it (MaxPool
gives it to the one that it reports), and Relu has slope 0 at 0. docs/operators.md lists all
operators.
"""

import dataclasses
import enum
from collections.abc import Collection, Mapping, Sequence

import onnx
from onnx import helper

from scanner.errors import NoGradientError, ValueNotFoundError
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Draft
from scanner.graph.core.extract import upstream
from scanner.graph.core.facts import HALVES, Facts
from scanner.graph.core.flatten import flatten
from scanner.graph.core.opsets import lift
from scanner.graph.core.simplify import (
    fold_batch_normalisation,
    fold_constants,
    pool_before_relu,
    widen_halves,
)
from scanner.graph.core.sparse import write_out_sparse
from scanner.graph.core.structure import reads
from scanner.graph.gradient import recurrent, signs, vjps
from scanner.graph.gradient.float_twin import float_twin
from scanner.graph.gradient.tape import WIDE, Tape, Value
from scanner.graph.gradient.vjps.base import Op, Vjp, no_gradient
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import standard_opset

_IR_VERSION = 8
_INTEGER_CARRIERS = frozenset({"QuantizeLinear"})


class Objective(enum.Enum):
    """The scalar of each image that is differentiated; the model's is their sum over the batch.

    With z the value (logits) and w the weights, a graph input of z's shape:

    * `WEIGHTED_SUM`: sum(w z), so that w is the cotangent.
    * `CROSS_ENTROPY`: -sum(w log softmax(z)), where w holds the target probabilities (one-hot).
    * `MARGIN`: sum(w z) - max(z where w = 0), where w is one-hot: how far the target leads all
      other classes.
    """

    WEIGHTED_SUM = "weighted sum"
    CROSS_ENTROPY = "cross-entropy"
    MARGIN = "margin"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GradientModel:
    """A model that computes a value, one scalar per image, and the scalar's gradients, in one run.

    Attributes:
        proto: The model. Its inputs are the original ones and `weights`; its outputs are `value`,
            `objective` and the gradients. Halves have become float32.
        weights: Name of the input that weighs the value, of the value's shape and type.
        value: Name of the output that holds the value, such as the logits.
        objective: Name of the output that holds the scalar of each image, (N,).
        gradients: Names of the outputs that hold the gradients, by the value with respect to which
            they are taken; each has that value's shape.
    """

    proto: onnx.ModelProto
    weights: str
    value: str
    objective: str
    gradients: Mapping[str, str]


def gradient_model(
    model: onnx.ModelProto,
    *,
    of: str,
    with_respect_to: Sequence[str],
    objective: Objective = Objective.WEIGHTED_SUM,
) -> GradientModel:
    """Return a model that computes a value of `model`, a scalar of it, and the scalar's gradients.

    Before: the tensors' data lie inside the model.
    After: what is returned runs on its own, in operator set 18 or later, and holds only what its
    outputs need.

    Args:
        model: An opened model.
        of: The value to differentiate: an output or any inner value, with the batch as its first
            axis. Choose logits rather than probabilities (`scanner.graph.layers.logits`): a
            saturated softmax has no gradient left.
        with_respect_to: Inputs or inner values, of a floating type.
        objective: How the value becomes a scalar.

    Raises:
        NoGradientError: An operator on the way cannot be differentiated, or no way leads there.
        UnsupportedModelError: The model is too old, or a rank cannot be inferred.
        ValueNotFoundError: There is no such value.
        MalformedModelError: A node lacks what its operator asks for.
    """
    forward = _prepared(model, of, with_respect_to)
    keep = {of, *with_respect_to}
    recurrent.unroll(forward, fold_constants(forward, keep))
    fold_batch_normalisation(forward, keep)
    pool_before_relu(forward, keep)
    facts = fold_constants(forward, keep)
    return _Reverse(forward, facts).differentiate(of, with_respect_to, objective)


def _prepared(model: onnx.ModelProto, of: str, with_respect_to: Sequence[str]) -> Draft:
    """Return the part of the model that computes `of`, in operators and types that VJPs know."""
    forward = upstream(flatten(model), [of])
    write_out_sparse(forward)
    forward = Draft(float_twin(forward))
    names = {v.name for v in forward.graph.input} | {
        name for node in forward.graph.node for name in node.output
    }
    for name in with_respect_to:
        if name not in names:
            raise _unreachable(model, name, of)
    lift(forward)
    if any(t.data_type in HALVES for t in forward.graph.initializer):
        # Before they are widened: what is rounded away in the file must not come back.
        fold_constants(forward, {of, *with_respect_to})
    widen_halves(forward)
    return forward


def _unreachable(model: onnx.ModelProto, name: str, of: str) -> Exception:
    everywhere = {v.name for v in model.graph.input} | {
        n for node in model.graph.node for n in node.output
    }
    if name not in everywhere:
        return ValueNotFoundError(name, everywhere)
    return _no_path(name, of)


def _no_path(name: str, of: str) -> NoGradientError:
    return NoGradientError(
        f"{of!r} does not depend on {name!r} through operators that have a gradient",
        remedy="differentiate with respect to a floating-point value on the way from the input to "
        "the output",
        value=name,
        of=of,
    )


class _Reverse:
    """One backward sweep over a simplified model."""

    def __init__(self, forward: Draft, facts: Facts) -> None:
        self.forward = forward
        self.facts = facts
        self.opset = standard_opset(forward) or 0
        self.turning = signs.turning(forward.graph)
        self.nodes = list(forward.graph.node)
        taken = {name for node in self.nodes for name in (node.name, *node.output)} | set(
            facts.tensors
        )
        self.tape = Tape(facts, taken | {v.name for v in forward.graph.input})
        self.pending: dict[str, list[Value]] = {}

    def differentiate(
        self, of: str, with_respect_to: Sequence[str], objective: Objective
    ) -> GradientModel:
        active = self._active(with_respect_to)
        missing = next((name for name in with_respect_to if name not in active), None)
        if of not in active:
            raise _no_path(with_respect_to[0], of)
        if missing is not None:
            raise _no_path(missing, of)
        self._check_vjps(of, active)
        value = self.tape.value(of)
        if value.dtype not in WIDE:
            raise _no_path(with_respect_to[0], of)
        weights = Value(self.tape, self.tape.fresh("weights"), value.dtype)
        scalar, cotangent = _seed(value, weights, objective)
        self.pending[of] = [cotangent]
        for node in reversed(self.nodes):
            self._step(node, active)
        gradients = {}
        for name in with_respect_to:
            gradient = self._cotangent(name)
            if gradient is None:
                raise _no_path(name, of)
            gradients[name] = _renamed(gradient, f"gradient/{name}")
        found = self._assembled(value, weights, _renamed(scalar, "objective"), gradients)
        self.tape.forget()
        return found

    def _active(self, sources: Collection[str]) -> set[str]:
        """Return the values that depend on the sources through operators that have a gradient."""
        active = set(sources)
        for node in self.nodes:
            if node.op_type in vjps.ZERO or not active & reads(node):
                continue
            active |= {name for name in node.output if name and self._carries(node, name)}
            active -= self.turning
        return active

    def _check_vjps(self, of: str, active: set[str]) -> None:
        """Refuse an operator without a VJP before anything is asked about the values it makes."""
        needed = {of}
        for node in reversed(self.nodes):
            if needed & active & set(node.output):
                if _vjp(node) is None:
                    raise no_gradient(node, "no gradient rule is known for it")
                needed |= active & set(node.input)

    def _carries(self, node: onnx.NodeProto, name: str) -> bool:
        """Whether a value may carry a gradient.

        It does if it is a float, or an integer between quantisation and dequantisation.
        """
        kind = self.facts.elem_types.get(name, onnx.TensorProto.FLOAT)
        return kind in WIDE or node.op_type in _INTEGER_CARRIERS

    def _cotangent(self, name: str) -> Value | None:
        terms = self.pending.pop(name, [])
        if not terms:
            return None
        total = terms[0].op("Sum", *terms[1:]) if len(terms) > 1 else terms[0]
        self.pending[name] = [total]
        return total

    def _step(self, node: onnx.NodeProto, active: set[str]) -> None:
        cotangents = [self._cotangent(name) if name in active else None for name in node.output]
        if all(cotangent is None for cotangent in cotangents):
            return
        wanted = frozenset(i for i, name in enumerate(node.input) if name in active)
        vjp = _vjp(node)
        if not wanted or vjp is None:
            return  # the node lies behind a value whose gradient was asked for
        op = Op(node, cotangents, wanted, self.tape, self.opset)
        # A rule takes the sizes and attributes for those of its operator. Where they are not, its
        # arithmetic fails in one way or another; onnx's checker would know, but refuses honest
        # files as well.
        try:
            gradients = list(vjp(op))
        except (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            raise no_gradient(
                node, f"its inputs or attributes do not fit the operator ({_shown(error)})"
            ) from error
        for position, gradient in gradients:
            if position in wanted:
                self.pending.setdefault(node.input[position], []).append(gradient)

    def _assembled(
        self, value: Value, weights: Value, scalar: Value, gradients: Mapping[str, Value]
    ) -> GradientModel:
        # Made anew: what is deleted from a message stays in memory as long as the message does.
        model = onnx.ModelProto(
            ir_version=max(self.forward.ir_version, _IR_VERSION),
            opset_import=self.forward.opset_import,
        )
        graph = model.graph
        graph.name = self.forward.graph.name
        graph.node.extend(
            _needed([*self.nodes, *self.tape.nodes], [value, scalar, *gradients.values()])
        )
        used = {name for node in graph.node for name in reads(node)}
        used |= {value.name, scalar.name, *(v.name for v in gradients.values())}
        tensors = (*self.forward.graph.initializer, *self.tape.tensors)
        graph.initializer.extend(tensor for tensor in tensors if tensor.name in used)
        graph.input.extend(self.forward.graph.input)
        graph.input.append(self._info(weights.name, value))
        graph.output.append(self._info(value.name, value))
        graph.output.append(
            helper.make_tensor_value_info(scalar.name, value.dtype, (value.sizes or (1,))[:1])
        )
        graph.output.extend(
            self._info(v.name, self.tape.value(name)) for name, v in gradients.items()
        )
        return GradientModel(
            proto=model,
            weights=weights.name,
            value=value.name,
            objective=scalar.name,
            gradients={name: v.name for name, v in gradients.items()},
        )

    @staticmethod
    def _info(name: str, like: Value) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, like.dtype, like.sizes)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _vjp(node: onnx.NodeProto) -> Vjp | None:
    return vjps.VJPS.get(node.op_type) if node.domain in STANDARD_DOMAINS else None


def _renamed(value: Value, stem: str) -> Value:
    return Value(value.tape, value.tape.emit_as("Identity", value.name, stem), value.dtype)


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[Value]) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on, in order."""
    producers = {name: node for node in nodes for name in node.output}
    wanted = ancestors(
        (value.name for value in outputs),
        lambda name: reads(producers[name]) if name in producers else (),
    )
    return [node for node in nodes if not wanted.keys().isdisjoint(node.output)]


def _seed(value: Value, weights: Value, objective: Objective) -> tuple[Value, Value]:
    """Return the scalar of each image and the cotangent of the value."""
    z, w = (v.op("Flatten", axis=min(1, value.rank)) for v in (value, weights))
    if objective is Objective.WEIGHTED_SUM:
        return (z * w).sum([1], keepdims=False), weights
    if objective is Objective.CROSS_ENTROPY:
        logarithm = z.op("LogSoftmax", axis=1)
        cotangent = logarithm.op("Exp") * w.sum([1]) - w
        return -(w * logarithm).sum([1], keepdims=False), cotangent.reshape_like(value)
    lowest = float(onnx.helper.tensor_dtype_to_np_dtype(value.dtype).type(-1e30))
    others = z.wrap(lowest).where(w > 0, z)
    best = others.op("ReduceMax", [1], keepdims=1)
    leader = others.equals(best).cast(z.dtype)
    cotangent = w - leader / leader.sum([1])
    return ((w * z).sum([1]) - best).op("Squeeze", [1]), cotangent.reshape_like(value)
