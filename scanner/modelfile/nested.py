"""Everything that lies within a model, wherever the schema allows it, however deep.

Whatever a guard or an audit looks for, it looks for here: a list of places kept by hand misses one,
and the attacker looks for that one. So the walk follows onnx's own schema, and what a new version
of onnx adds is walked the day it is installed.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from scanner.errors import UnsafeModelError
from scanner.limits import Limits

Body = onnx.GraphProto | onnx.FunctionProto
"""What has nodes."""

Kind = TypeVar("Kind", bound=Message)

_BODIES = ("onnx.GraphProto", "onnx.FunctionProto")


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node holds as attributes: the bodies of an If, Loop or Scan."""
    return attribute_graphs(node.attribute) if node.attribute else []


def attribute_graphs(attributes: Iterable[onnx.AttributeProto]) -> list[onnx.GraphProto]:
    """Return the graphs that attributes hold: those of a node, or the defaults of a function."""
    return [
        graph
        for attribute in attributes
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
    ]


def walk(roots: Iterable[Body], deepest: int | None = None) -> Iterator[Body]:
    """Yield graphs and all graphs nested in them, each before its own, the last root first.

    Args:
        roots: Where to start: graphs, or bodies of model-local functions.
        deepest: How deep they may nest; None sets no limit.

    Raises:
        UnsafeModelError: They nest deeper.
    """
    waiting = [(root, 0) for root in roots]
    while waiting:
        graph, depth = waiting.pop()
        _check_depth(depth, deepest)
        yield graph
        waiting += [(inner, depth + 1) for node in graph.node for inner in subgraphs(node)]
        if isinstance(graph, onnx.FunctionProto):
            waiting += [(inner, depth + 1) for inner in attribute_graphs(graph.attribute_proto)]


class Contents:
    """All messages and texts within a message, itself included.

    Args:
        root: Where to start; usually a model.
        limits: How deep graphs may nest, and how many parts there may be; None sets no limit.

    Raises:
        UnsafeModelError: A limit is exceeded. That is found out before the parts in question are
            looked at one by one, so that a refusal takes no longer than the limit allows.

    Attributes:
        parts: How many messages and texts there are.
        texts: Those that are not UTF-8, which protobuf returns as bytes.
    """

    def __init__(self, root: Message, limits: Limits | None = None) -> None:
        self.parts = 1
        self.texts: list[bytes] = []
        self._found: dict[str, list[Any]] = collections.defaultdict(list)
        most = None if limits is None else limits.parts
        deepest = None if limits is None else limits.depth
        waiting: list[tuple[Any, int]] = [(root, -1)]
        while waiting:
            message, depth = waiting.pop()
            name = message.DESCRIPTOR.full_name
            if name in _BODIES:
                depth += 1
                _check_depth(depth, deepest)
            self._found[name].append(message)
            for field, content in message.ListFields():
                kind = _KINDS.get(field) or _kind(field)
                if kind is _OTHER:
                    continue
                self.parts += len(content) if kind in _REPEATED else 1
                if most is not None and self.parts > most:
                    raise UnsafeModelError(
                        f"the file describes more than {most:,} parts (names, nodes, dimensions, "
                        "entries)",
                        remedy="raise the setting `parts` if you trust the file",
                    )
                if kind is _MESSAGES:
                    waiting.extend([(inner, depth) for inner in reversed(content)])
                elif kind is _MESSAGE:
                    waiting.append((content, depth))
                else:
                    texts = content if kind is _TEXTS else (content,)
                    self.texts += [text for text in texts if not isinstance(text, str)]

    def of(self, kind: type[Kind]) -> Sequence[Kind]:
        """Return all messages of a type."""
        return self._found.get(kind.DESCRIPTOR.full_name, ())

    def all(self, name: str) -> Sequence[Any]:
        """Return all messages of a type, by the type's full name."""
        return self._found.get(name, ())

    def types(self) -> Mapping[str, int]:
        """Return how many messages of each type there are, by the type's full name."""
        return {name: len(found) for name, found in self._found.items()}


def _check_depth(depth: int, deepest: int | None) -> None:
    if deepest is not None and depth > deepest:
        raise UnsafeModelError(
            f"sub-graphs nest deeper than {deepest}",
            remedy="raise the setting `depth` if you trust the file",
        )


_MESSAGE, _MESSAGES, _TEXT, _TEXTS, _OTHER = "message", "messages", "text", "texts", "other"
_REPEATED = (_MESSAGES, _TEXTS)
_KINDS: dict[FieldDescriptor, str] = {}
"""What a field holds. The descriptors are kept, since protobuf would make new ones."""


def _kind(field: FieldDescriptor) -> str:
    several = repeated(field)
    if field.message_type is not None:
        kind = _MESSAGES if several else _MESSAGE
    elif field.type == FieldDescriptor.TYPE_STRING:
        kind = _TEXTS if several else _TEXT
    else:
        kind = _OTHER
    return _KINDS.setdefault(field, kind)


def repeated(field: Any) -> bool:
    """Whether a field of the schema may appear several times in a message."""
    # Newer protobuf releases say it by a property and warn of the label; older ones have the label
    # alone.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)
