"""Sizes that onnx's inference leaves open although they follow from those of the inputs.

It tells what the -1 of a Reshape stands for only where all other sizes are numbers. Beside an open
batch N, what [N, -1, 32] makes of (N, 16, 16, 32) stays (N, ?, 32), and all behind it with it. As
a number times open sizes of inputs, the sizes can be multiplied and divided: N 16 16 32 / (N 32).
"""

import collections
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import onnx

from scanner.graph.core.structure import attribute, held_tensor, numbers_of
from scanner.modelfile.domains import STANDARD_DOMAINS

Shape = tuple[int | str, ...]
"""Dimensions; one that is not a number is a name, and equal names are equal sizes."""

_BROADCAST = frozenset({"Add", "Div", "MatMul", "Mul", "Sub"})
_MATRIX = 2  # dimensions
_SAME_NUMBERS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})
_LONGEST = 64  # of a list of sizes, and of a product of open ones
_LARGEST = 2**63  # from here on, ONNX's numbers overflow


class _Size(NamedTuple):
    """A number times open sizes of inputs, in the order of their names.

    These are never 0, unlike those of values within, which a Slice may have emptied: in a Reshape,
    0 would stand for another size.
    """

    number: int
    names: tuple[str, ...] = ()


_Sizes = tuple[_Size | None, ...]
"""Sizes or numbers made of them; None for one that is not known."""


def open_sizes(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of which more is known than inference told.

    Before: the graph is flat, its nodes are in order, and large constants are declared as inputs.

    Args:
        graph: The graph.
        shapes: What inference told of its values.
    """
    if all(node.op_type != "Reshape" for node in graph.node):
        return {}  # nothing else leaves a size open, and most small networks have none
    follower = _Follower(graph, shapes)
    for node in graph.node:
        if node.domain in STANDARD_DOMAINS and node.output:
            follower.follow(node)
    told = {name: tuple(map(follower.told, shape)) for name, shape in follower.shapes.items()}
    return {name: shape for name, shape in told.items() if shape != shapes.get(name)}


class _Follower:
    """What is known of sizes and of the numbers in lists, from node to node."""

    def __init__(self, graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        sizes = itertools.chain.from_iterable(shapes.get(v.name, ()) for v in graph.input)
        self._given = {size for size in sizes if isinstance(size, str)}
        self._meant: dict[str, _Size] = {}  # by the name that inference gave a size
        self._lists: dict[str, _Sizes] = {}  # numbers of a value of one dimension or none

    def follow(self, node: onnx.NodeProto) -> None:
        """Note what a node tells of its result, those before it first."""
        if node.op_type == "Constant":
            held = held_tensor(node, "value")
            self._constants |= {} if held is None else {node.output[0]: held}
        if not node.input:
            return
        if node.op_type == "Reshape":
            self._mean(node.output[0], self._reshaped(node))
        elif node.op_type in _BROADCAST:
            self._mean(node.output[0], self._broadcast(node))
        if len(self.shapes.get(node.output[0], (0, 0))) < 2:  # noqa: PLR2004 - a list or a number
            made = self._made(node)
            if made is not None and len(made) <= _LONGEST:
                self._lists[node.output[0]] = made

    def told(self, size: int | str) -> int | str:
        """Return a size as a number or by an input's name, where it is found to be one."""
        meant = self._size(size)
        if meant is None:
            return size
        if not meant.names:
            return meant.number
        return meant.names[0] if (meant.number, len(meant.names)) == (1, 1) else size

    def _mean(self, name: str, sizes: _Sizes) -> None:
        """Note what the open sizes of a value are."""
        # Before set 13, inference does not follow lists, and then not even tells the rank.
        unknown = tuple(f"{name}[{place}]" for place in range(len(sizes)))
        shape = self.shapes.setdefault(name, unknown) if sizes else ()
        if len(shape) == len(sizes):
            for open_size, size in zip(shape, sizes, strict=True):
                if isinstance(open_size, str) and size is not None:
                    self._meant.setdefault(open_size, size)

    def _broadcast(self, node: onnx.NodeProto) -> _Sizes:
        """Return the sizes of a result where all arguments have the same, or 1."""
        every = [self._sizes(name) for name in node.input]
        shapes = [shape for shape in every if shape is not None]
        if len(shapes) < len(every):
            return ()
        rows = itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=_Size(1))
        one = [set(row) - {_Size(1)} or {_Size(1)} for row in rows]
        matrix = _MATRIX if node.op_type == "MatMul" else 0  # its last two are no such ones
        return tuple(
            next(iter(sizes)) if len(sizes) == 1 and place >= matrix else None
            for place, sizes in reversed(list(enumerate(one)))
        )

    def _sizes(self, name: str) -> _Sizes | None:
        """Return the sizes of a value, None where its rank is not known."""
        shape = self.shapes.get(name)
        return None if shape is None else tuple(map(self._size, shape))

    def _size(self, size: int | str) -> _Size | None:
        if isinstance(size, int):
            return _Size(size)
        return _Size(1, (size,)) if size in self._given else self._meant.get(size)

    def _reshaped(self, node: onnx.NodeProto) -> _Sizes:
        """Return the sizes of a Reshape's result; none where nothing is known of them."""
        target = self._numbers(node.input[1]) if len(node.input) > 1 else None
        source = self._sizes(node.input[0])
        zero, rest = _Size(0), _Size(-1)
        if target is None or source is None or (zero in target and attribute(node, "allowzero", 0)):
            return ()
        if [size for size in target if size and size.number < 0] not in ([], [rest]):
            return ()  # -N is the rest of one image alone
        copied = (*source, *itertools.repeat(None, len(target)))
        sizes = [copied[i] if size == zero else size for i, size in enumerate(target)]
        if rest in sizes:
            place = sizes.index(rest)
            sizes[place] = _Size(1)
            sizes[place] = _quotient(_product(source), _product(sizes))
        return tuple(sizes)

    def _numbers(self, name: str) -> _Sizes | None:
        """Return the numbers of a list or of a single number, None where they are not followed."""
        if name in self._lists:
            return self._lists[name]
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != onnx.TensorProto.INT64 or tensor.external_data:
            return None
        if len(tensor.dims) > 1 or math.prod(tensor.dims) > _LONGEST:
            return None
        return tuple(_Size(int(number)) for number in numbers_of(tensor).reshape(-1))

    def _integers(self, name: str) -> list[int] | None:
        """Return the numbers of a list in which none is open."""
        sizes = self._numbers(name)
        if sizes is None or any(size is None or size.names for size in sizes):
            return None
        return [size.number for size in sizes if size is not None]

    def _made(self, node: onnx.NodeProto) -> _Sizes | None:
        """Return the numbers of a node's result."""
        if node.op_type == "Shape":
            sizes = self._sizes(node.input[0])
            start, end = attribute(node, "start", 0), attribute(node, "end", None)
            return None if sizes is None else sizes[start:end]
        lists = [self._numbers(name) for name in node.input]
        first, known = lists[0], [numbers for numbers in lists if numbers is not None]
        if first is None:
            return None
        whole = node.op_type == "Cast" and attribute(node, "to") == onnx.TensorProto.INT64
        if whole or node.op_type in _SAME_NUMBERS:
            return first
        if node.op_type in ("Concat", "Mul") and len(known) == len(lists):
            join = node.op_type == "Concat"
            return tuple(itertools.chain(*known)) if join else self._multiplied(*known)
        return self._picked(node, first)

    @staticmethod
    def _multiplied(one: _Sizes, other: _Sizes) -> _Sizes | None:
        same = len(one) == len(other)
        return tuple(map(_product, zip(one, other, strict=True))) if same else None

    def _picked(self, node: onnx.NodeProto, sizes: _Sizes) -> _Sizes | None:
        """Return what a Gather or a Slice takes of a list."""
        rest = [self._integers(name) for name in node.input[1:]]
        lists = [numbers for numbers in rest if numbers is not None]
        if not lists or len(lists) < len(rest):
            return None
        if node.op_type == "Gather":
            inside = all(-len(sizes) <= place < len(sizes) for place in lists[0])
            return tuple(sizes[place] for place in lists[0]) if inside else None
        if node.op_type != "Slice" or len(lists) < 2:  # noqa: PLR2004 - starts and ends
            return None
        steps = lists[3] if len(lists) > 3 else [1]  # noqa: PLR2004 - starts, ends, axes, steps
        whole = steps == [1] and len(lists[0]) == len(lists[1]) == 1
        return sizes[lists[0][0] : lists[1][0]] if whole else None


def _product(sizes: Iterable[_Size | None]) -> _Size | None:
    known = list(sizes)
    each = [size for size in known if size is not None]
    if len(each) < len(known):
        return None
    number = math.prod(size.number for size in each)
    names = sorted(itertools.chain.from_iterable(size.names for size in each))
    if abs(number) >= _LARGEST or len(names) > _LONGEST:
        return None
    return _Size(number, tuple(names) if number else ())


def _quotient(one: _Size | None, other: _Size | None) -> _Size | None:
    """Return how often one size goes into another, None where that is no whole number always."""
    if one is None or other is None or not other.number or one.number % other.number:
        return None
    left, gone = collections.Counter(one.names), collections.Counter(other.names)
    if not gone <= left:
        return None
    return _Size(one.number // other.number, tuple(sorted((left - gone).elements())))
