"""From a model to a plan: inlined, constants computed, defaults filled in."""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import numpy as np
import onnx
from onnx import defs, helper

from scanner.graph.canonical import sizes
from scanner.graph.canonical.plan import Plan, Step
from scanner.graph.core.draft import Draft, copied
from scanner.graph.core.facts import HALVES
from scanner.graph.core.flatten import flatten
from scanner.graph.core.simplify import fold_constants, widen_halves
from scanner.graph.core.sparse import write_out_sparse
from scanner.graph.core.structure import captures, label, numbers_of, subgraphs
from scanner.modelfile.domains import STANDARD_DOMAINS
from scanner.modelfile.model import required_inputs

_HALF = 0.5  # of the weights: a file that holds more of them in 16 bits was exported so
_ROUNDS = 4  # a shape that one round settles may settle what the next one picks from
BODY_WEIGHTS = "; weights "
FLATTENED = "flattened"
"""Told to a soft maximum over all axes from its own on, as they were before operator set 13."""
_SOFT, _ONE_AXIS = frozenset({"Hardmax", "LogSoftmax", "Softmax"}), 13
HALF_PRECISION = "float16 weights widened"


def read(proto: onnx.ModelProto) -> Plan:
    """Return a model as a plan.

    Args:
        proto: The model, with its external data inside.

    Raises:
        MalformedModelError: The graph contradicts itself.
    """
    model = copied(flatten(proto))
    write_out_sparse(model)
    # Only where the whole file is in 16 bits: a lone Cast to them may be a test of the input, which
    # underflows there and not in 32 bits.
    halved = _share_of_halves(model.graph) > _HALF
    if halved:
        widen_halves(model)
    options = _options(model)
    outputs = [value.name for value in model.graph.output]
    facts = fold_constants(model, keep=outputs)
    shapes = sizes.known(model, facts.shapes)
    for _ in range(_ROUNDS):
        if not sizes.settle(model, shapes, outputs):
            break
        facts = fold_constants(model, keep=outputs)
        shapes = sizes.known(model, facts.shapes)
    constants = {tensor.name: numbers_of(tensor) for tensor in model.graph.initializer}
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    plan = Plan(
        steps=[
            *(Step("Option", name, [], [name]) for name in options),
            *(_step(node, opsets) for node in model.graph.node),
        ],
        constants=constants,
        inputs=[v.name for v in required_inputs(model.graph) if v.name not in options],
        outputs=outputs,
        shapes=shapes,
        elem_types=facts.elem_types,
        opset=max((opsets[name] for name in STANDARD_DOMAINS if name in opsets), default=1),
    )
    plan.habits[HALF_PRECISION] += halved
    return plan


def _options(model: Draft) -> list[str]:
    """Let inputs that have a default be no constants; return their names.

    A caller may give them another value. Exporters that list all initialisers as inputs, as the
    standard once asked for, mean none of them so.
    """
    defaults = [tensor.name for tensor in model.graph.initializer]
    listed = {value.name for value in model.graph.input}
    options = [name for name in defaults if name in listed]
    # Tensors are copied only where some are to go: they may be large.
    if not options or len(options) == len(defaults):
        return []
    kept = onnx.GraphProto(initializer=(t for t in model.graph.initializer if t.name not in listed))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept.initializer)
    return options


def _share_of_halves(graph: onnx.GraphProto) -> float:
    """Return which share of the floating-point weights is stored in 16 bits."""
    halves = whole = 0
    for tensor in graph.initializer:
        count = int(np.prod(tensor.dims, dtype=np.int64))
        halves += count * (tensor.data_type in HALVES)
        whole += count * (tensor.data_type in HALVES | {onnx.TensorProto.FLOAT})
    return halves / whole if whole else 0.0


def _domain(name: str) -> str:
    return "" if name in STANDARD_DOMAINS else name


def _step(node: onnx.NodeProto, opsets: Mapping[str, int]) -> Step:
    domain = _domain(node.domain)
    operator = f"{domain}.{node.op_type}" if domain else node.op_type
    version = opsets.get(domain, opsets.get("", 1))
    attributes: dict[str, object] = dict(_defaults(_schema(node.op_type, domain, version)))
    attributes |= {a.name: _value(a) for a in node.attribute}
    if operator in _SOFT and version < _ONE_AXIS:
        attributes[FLATTENED] = 1
    captured = sorted({name for body in subgraphs(node) for name in captures(body)})
    return Step(
        operator=operator,
        name=label(node),
        inputs=[*node.input, *captured],
        outputs=list(node.output),
        attributes=attributes,
    )


def defaults(operator: str, opset: int) -> dict[str, object]:
    """Return the attributes that a standard operator has where a node says nothing."""
    return dict(_defaults(_schema(operator, "", opset)))


@functools.cache
def _schema(operator: str, domain: str, version: int) -> defs.OpSchema | None:
    try:
        return defs.get_schema(operator, version, domain)
    except (defs.SchemaError, TypeError):
        return None  # of another domain, which onnx does not know


def _defaults(schema: defs.OpSchema | None) -> Iterator[tuple[str, object]]:
    for name, attribute in schema.attributes.items() if schema else ():
        if attribute.default_value is not None and attribute.default_value.type:
            yield name, _value(attribute.default_value)


@functools.cache
def input_name(operator: str, slot: int) -> str:
    """Return what the standard calls an input, as older versions call the attribute."""
    schema = _schema(operator, "", defs.onnx_opset_version())
    known = schema is not None and slot < len(schema.inputs)
    return schema.inputs[slot].name if schema is not None and known else f"input {slot}"


def _value(attribute: onnx.AttributeProto) -> object:
    """Return an attribute's content; of a body what tells it from others."""
    if attribute.HasField("g"):
        return _spelled(attribute.g)
    if attribute.HasField("t"):
        return numbers_of(attribute.t)
    try:
        value = helper.get_attribute_value(attribute)
    except ValueError:
        return "nothing"
    return value.decode(errors="replace") if isinstance(value, bytes) else _plain(value)


def _plain(value: object) -> object:
    """Return numbers, lists of numbers and of texts as they are, of anything else a digest."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple) or type(value).__name__.startswith("Repeated"):
        items = list(cast("Iterable[object]", value))
        if items and all(isinstance(i, bytes) for i in items):
            return [cast("bytes", i).decode(errors="replace") for i in items]
        return items if all(isinstance(i, int | float) for i in items) else _digest(repr(items))
    return _digest(repr(value))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _spelled(graph: onnx.GraphProto) -> str:
    """Return digests of a body that do not depend on its names: of its graph, and of its weights.

    Weights are tensors of several fractions.
    """
    names: dict[str, str] = {}
    weights: list[str] = []
    for kind, values in (("in", graph.input), ("out", sorted(captures(graph)))):
        for place, value in enumerate(values):
            names[value if isinstance(value, str) else value.name] = f"{kind}{place}"
    for tensor in graph.initializer:
        held = numbers_of(tensor)
        digest = _digest(held.tobytes().hex())
        trained = held.dtype.kind == "f" and held.size > 1
        names[tensor.name] = f"{held.dtype}{held.shape}{'' if trained else digest}"
        weights += [digest] if trained else []
    for sparse in graph.sparse_initializer:
        names[sparse.values.name] = f"sparse {list(sparse.dims)}"
        weights += [_digest(sparse.SerializeToString(deterministic=True).hex())]
    told: list[str] = []
    for place, node in enumerate(graph.node):
        read = [names.get(name, "") for name in node.input]
        given = sorted((a.name, str(_text(_value(a)))) for a in node.attribute)
        told.append(f"{node.domain}.{node.op_type}({read}){given}")
        names |= {name: f"{place}.{slot}" for slot, name in enumerate(node.output)}
    told += [names.get(value.name, "") for value in graph.output]
    spelt = f"{len(graph.node)} nodes, {_digest(repr(told))}"
    return f"{spelt}{BODY_WEIGHTS}{_digest(repr(weights))}" if weights else spelt


def _text(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value
