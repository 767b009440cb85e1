"""What a file claims of its values, against what follows from its nodes and from running them.

A runtime derives types and shapes itself; a reader that shows a model, or converts it, often
believes what stands in the file.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from scanner.errors import ModelError
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.skeleton import without_weights
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_SHOWN = 20


class Type(NamedTuple):
    """Element type (`onnx.TensorProto.DataType`; 0: open) and sizes (None: open), None: no rank."""

    element: int
    sizes: tuple[int | None, ...] | None


def observe(proto: onnx.ModelProto, answers: Sequence[Array] = ()) -> Iterator[Observation]:
    """Yield the claims that are contradicted.

    Args:
        proto: A model.
        answers: What its outputs were when it was run with a batch of one, in order; none if not.
    """
    wrong = [*_of_constants(proto.graph), *_of_values(proto), *_of_answers(proto, answers)]
    if wrong:
        named = dict(wrong)
        yield Observation(
            code="false-claim",
            severity=Severity.WARNING,
            sentence=f"The file claims a type or shape of {len(named)} values that they do not "
            f"have: {next(iter(named.values()))}",
            nodes=tuple(named)[:_SHOWN],
            details={"count": len(named), "claims": list(named.values())[:_SHOWN]},
        )


def _of_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if (tensor := tensors.get(value.name)) is not None:
            yield from _differs(
                value.name, _claimed(value), Type(tensor.data_type, tuple(tensor.dims))
            )


def _of_values(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Yield what inference, which is told nothing of the claims, contradicts."""
    graph = proto.graph
    inner = {value.name: value for value in (*graph.value_info, *graph.output)}
    if not inner:
        return
    light = without_weights(proto)
    del light.graph.output[:]
    light.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in graph.output)
    try:
        inferred = infer_shapes(light, follow_numbers=False).graph
    except ModelError:
        return  # it cannot be told; whether the graph holds together is a matter of its guards
    given = {value.name for value in light.graph.input}
    for value in (*inferred.value_info, *inferred.output):
        if value.name in inner and value.name not in given:
            yield from _differs(value.name, _claimed(inner[value.name]), _claimed(value))


def _of_answers(proto: onnx.ModelProto, answers: Sequence[Array]) -> Iterator[tuple[str, str]]:
    for value, answer in zip(proto.graph.output, answers, strict=False):
        if not isinstance(answer, np.ndarray):
            continue  # a sequence or a map
        claim = _claimed(value)
        try:
            element = onnx.helper.np_dtype_to_tensor_dtype(answer.dtype)
        except (KeyError, ValueError, TypeError):
            continue
        # The batch is ours: a claim of another one is no lie.
        own = claim.sizes and (None, *claim.sizes[1:])
        yield from _differs(value.name, Type(claim.element, own), Type(element, answer.shape))


def _claimed(value: onnx.ValueInfoProto) -> Type:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return Type(kind.elem_type, None)
    return Type(
        kind.elem_type,
        # Some exporters write an open size as -1.
        tuple(
            d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None
            for d in kind.shape.dim
        ),
    )


def _differs(name: str, claim: Type, fact: Type) -> Iterator[tuple[str, str]]:
    """Yield a value's name and what is wrong, if a claim cannot be true."""
    if claim.element and fact.element and claim.element != fact.element:
        said = (onnx.TensorProto.DataType.Name(each) for each in (claim.element, fact.element))
        yield name, "{!r} is claimed to be {} and is {}".format(name, *said)
    elif claim.sizes is not None and fact.sizes is not None and not _agree(claim.sizes, fact.sizes):
        yield name, f"{name!r} is claimed to be {_said(claim.sizes)} and is {_said(fact.sizes)}"


def _agree(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(one) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(one, other, strict=True)
    )


def _said(sizes: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"
