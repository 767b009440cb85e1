"""Cutting a part out of a graph: what it changed is taken past it, and what only it needed goes."""

import math
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Draft, Proto, copied
from scanner.graph.core.shapes import value_types
from scanner.graph.core.structure import Uses, reads, subgraphs

_MOST_ENDS = 200
"""Values behind a test that are tried as the place where its outcome is taken out."""


def bypasses(flat: Proto, root: str) -> list[tuple[str, str]]:
    """Return pairs (value, carrier), of which the carrier might take the value's place.

    All that depends on `root` passes the value. The carrier, of the same type and shape, is what
    the value was made of, and does not depend on the root. Carriers behind most weights come first:
    the trunk of a network, not a corner of the image that a test cuts out. Among equals the values
    nearest to the root come first, and the carriers that were made last.
    """
    graph = flat.graph
    uses, types = Uses(graph), value_types(flat)
    behind = _behind(graph, root)
    order = {name: place for place, name in enumerate(_made(graph))}
    inputs = {value.name for value in graph.input}
    ends = [name for name in sorted(behind, key=lambda n: order.get(n, -1)) if name in order]
    found: list[tuple[int, int, int, str, str]] = []
    for value in ends[:_MOST_ENDS]:
        if value not in types or not _separates(graph, root, value, uses.outputs):
            continue
        for carrier in ancestors([value], uses.sources):
            known = carrier in inputs or carrier in order
            if known and carrier not in behind and _alike(types.get(carrier), types[value]):
                weights = _weights_behind(carrier, uses)
                found.append((-weights, order[value], -order.get(carrier, -1), value, carrier))
    return [(value, carrier) for *_, value, carrier in sorted(found)]


def is_past(flat: Proto, root: str, value: str, carrier: str) -> bool:
    """Whether a way leads from a carrier to a value past the root.

    Then the value mixes both. Else the carrier is a part of the test, and the gate that stays would
    be opened by it.
    """
    found = {carrier}
    for node in flat.graph.node:
        if found & reads(node):
            found.update(name for name in node.output if name and name != root)
    return value in found


def _weights_behind(value: str, uses: Uses) -> int:
    """Return how many numbers a value is computed with that the graph holds."""
    names = ancestors([value], uses.sources)
    return sum(math.prod(uses.constants[n].dims) for n in names if n in uses.constants)


def _made(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.output if name]


def _behind(graph: onnx.GraphProto, root: str) -> set[str]:
    """Return the root and all values that depend on it."""
    found = {root}
    for node in graph.node:
        if found & reads(node):
            found.update(name for name in node.output if name)
    return found


def _separates(graph: onnx.GraphProto, root: str, value: str, outputs: set[str]) -> bool:
    """Whether all that leads from the root to an output passes a value."""
    found = {root}
    for node in graph.node:
        if found & reads(node):
            found.update(name for name in node.output if name and name != value)
    found.discard(value)
    return value == root or not found & outputs


def _alike(one: Any, other: Any) -> bool:
    return (
        one is not None
        and one.dtype == other.dtype
        and one.shape is not None
        and other.shape is not None
        and len(one.shape) == len(other.shape)
        and all(
            a == b or isinstance(a, str) or isinstance(b, str)
            for a, b in zip(one.shape, other.shape, strict=True)
        )
    )


def bypassed(proto: Proto, value: str, carrier: str) -> Draft:
    """Return the graph in which the carrier takes the place of a value.

    An output keeps its name: its carrier then gets it. What nothing needs any more is gone.
    """
    cut = copied(proto)
    uses = Uses(cut.graph)
    if value not in uses.outputs:
        _renamed(cut.graph, {value: carrier})
    elif uses.producer(carrier) is None or carrier in uses.outputs:
        maker = uses.producer(value)
        assert maker is not None  # noqa: S101 - an output that a node makes
        maker.CopyFrom(onnx.helper.make_node("Identity", [carrier], [value], maker.name))
    else:
        maker = uses.producer(value)
        assert maker is not None  # noqa: S101 - as above
        for place, name in enumerate(maker.output):
            if name == value:
                maker.output[place] = _free(f"{value}/cut", cut.graph)
        source = uses.producer(carrier)
        assert source is not None  # noqa: S101 - asked above
        for place, name in enumerate(source.output):
            if name == carrier:
                source.output[place] = value
        _renamed(cut.graph, {carrier: value})
    _drop_leftovers(cut, proto)
    return cut


def held(proto: Proto, value: str, numbers: npt.NDArray[Any]) -> Draft:
    """Return the graph in which a value is a constant. What nothing needs any more is gone."""
    cut = copied(proto)
    maker = Uses(cut.graph).producer(value)
    if maker is not None:
        for place, name in enumerate(maker.output):
            if name == value:
                maker.output[place] = _free(f"{value}/cut", cut.graph)
    cut.graph.initializer.append(numpy_helper.from_array(numbers, value))
    _drop_leftovers(cut, proto)
    return cut


def _free(stem: str, graph: onnx.GraphProto) -> str:
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    while stem in taken:
        stem += "_"
    return stem


def _renamed(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Let nodes read another value, those of bodies included."""
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = names[name]
        for body in subgraphs(node):
            own = {v.name for v in body.input} | {t.name for t in body.initializer}
            own |= set(_made(body))
            _renamed(body, {old: new for old, new in names.items() if old not in own})
            for out in body.output:
                if out.name in names and out.name not in own:
                    out.name = names[out.name]


def _drop_leftovers(cut: Draft, before: Proto) -> None:
    """Remove what the outputs needed before a cut, and do not need any more.

    What they did not need before stays, unless it reads what goes: it is not ours to tidy up.
    """
    graph = cut.graph
    live, now = _needed(before.graph), _needed(graph)
    names = {t.name for t in before.graph.initializer}
    old, gone, nodes = set(_made(before.graph)), set[str](), []
    for node in graph.node:
        made = set(filter(None, node.output))
        needed_once = bool(made & live or made - old)
        if (needed_once and not made & now) or reads(node) & gone:
            gone |= made
        else:
            nodes.append(node)
    dead = ((live - now) | gone).difference(*map(reads, nodes))
    kept = onnx.GraphProto(
        node=nodes,
        initializer=[t for t in graph.initializer if t.name not in dead or t.name not in names],
        sparse_initializer=[t for t in graph.sparse_initializer if t.values.name not in dead],
        value_info=[v for v in graph.value_info if v.name not in dead],
        input=[v for v in graph.input if v.name not in dead or v.name not in names],
    )
    for field in ("node", "initializer", "sparse_initializer", "value_info", "input"):
        del getattr(graph, field)[:]
        getattr(graph, field).extend(getattr(kept, field))
    _forget(graph)


def _needed(graph: onnx.GraphProto) -> set[str]:
    return set(ancestors([value.name for value in graph.output], Uses(graph).sources))


def _forget(graph: onnx.GraphProto) -> None:
    """Drop what is said about values that an output's new name made doubtful."""
    outputs = {value.name for value in graph.output}
    told = [value for value in graph.value_info if value.name not in outputs]
    kept = onnx.GraphProto(value_info=told)
    del graph.value_info[:]
    graph.value_info.extend(kept.value_info)
