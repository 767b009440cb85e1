"""Where a value that passed few of the trained weights joins one that passed the network.

Whatever a planted test is made of, it reads the image past the network, and its outcome meets what
the network computes: in a sum, a product, a selection, an index. Honest networks have such
meetings too (a residual connection, a mask, a statistic put back); they carry something on ordinary
inputs, which only running the model shows.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence

import onnx

from scanner.graph.core import facts
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.effect import trained
from scanner.graph.core.structure import LAYERS, Uses, label, reads
from scanner.modelfile.model import required_inputs

MOST_SHARED = 0.05
"""Of the weights behind the network's value, the share that a side path may have passed."""
_CLASSES, _AS_HEAVY = 3, 1.5
"""Scores that are computed one by one: how many at least, and times the lightest's weights."""
_BITS = 1024
"""Layers that are counted separately; with more of them, neighbours share a bit."""
_ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Pow", "Equal", "Less", "Greater", "PRelu"}
)
"""Operators whose constants are no weights: each number acts on one number."""
_ADDING = frozenset({"Add", "Sub", "Sum"})
_ON_CODES = frozenset({"ConvInteger", "MatMulInteger"})
_MEASURES = frozenset({"Shape", "Size"})
WHOLE = frozenset({onnx.TensorProto.INT32, onnx.TensorProto.INT64})
"""Types of outputs that name a class by its number."""
_UNREADABLE = frozenset(
    getattr(onnx.TensorProto, name)
    for name in onnx.TensorProto.DataType.keys()  # noqa: SIM118 - an enum of protobuf
    if name.startswith(("FLOAT8", "FLOAT4", "UINT4", "INT4", "UINT2", "INT2"))
)
"""Types of values that cannot be read out of a run."""
_RAGGED = frozenset({"NonZero", "NonMaxSuppression", "Compress", "Unique"})
"""Operators that make as many values as the input's numbers say."""
_SHAPED_BY = frozenset({"Reshape", "Expand", "ConstantOfShape", "Tile", "Range"})
"""Operators whose further inputs are sizes; those of a resampling say what is seen of an image."""


@dataclasses.dataclass(frozen=True, slots=True)
class Joint:
    """A node where a side path joins the network.

    Attributes:
        node: Its label.
        operator: Its operator.
        side: Name of the value that comes by the side path.
        carrier: Name of the value that it meets.
        output: Name of the first value that the node makes.
        shared: Of the weights behind the carrier, the share that is behind the side value too.
        single: Whether the side value is one number times constants that is added to scores.
    """

    node: str
    operator: str
    side: str
    carrier: str
    output: str
    shared: float
    single: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FirstLayer:
    """A layer that reads the image, and not what another layer made of it.

    Attributes:
        value: Name of the value that it makes.
        node: Its label.
        convolution: Whether its units lie along the second axis; else along the last.
    """

    value: str
    node: str
    convolution: bool


class Paths:
    """Which weights lie behind each value of a flat graph, and where side paths join.

    Raises:
        MalformedModelError: The graph contradicts itself.
    """

    def __init__(self, flat: onnx.ModelProto, answer: str) -> None:
        self.uses, self.answer = Uses(flat.graph), answer
        self.facts = facts.infer(flat)
        self.inputs = tuple(value.name for value in required_inputs(flat.graph))
        live = ancestors([answer], self.uses.sources)
        self.nodes = [n for n in flat.graph.node if any(name in live for name in n.output)]
        self.data = self._data()
        # Operators of classical models hold weights in their attributes.
        self._classical = any(node.domain == "ai.onnx.ml" for node in self.nodes)
        self._behind, self._sizes = self._weights()

    def joints(self) -> Iterator[Joint]:
        """Yield every place where a value that passed few weights meets one that passed more.

        In front of all weights every value meets the others as a side path. Behind all of them so
        does a single number that is added to scores, whatever it has passed.
        """
        for node in self.nodes:
            # A size that is computed from values does not change what they are.
            data = sorted(
                name
                for name in (node.input[:1] if node.op_type in _SHAPED_BY else reads(node))
                if name in self.data
            )
            if len(data) < 2:  # noqa: PLR2004 - nothing meets
                continue
            if self._are_scores(node, data):
                continue
            # Whatever a single number has passed, the scores that it is added to are the network's.
            single = {name for name in data if self._is_single(node, name, data)}
            carrier = max(
                data,
                key=lambda name: (
                    name not in single, self.mass(name), name in self.inputs, self.room(name)
                ),
            )  # fmt: skip
            sides = sorted({side for name in data for side in self._tensors_behind(name)})
            for side in filter(self.readable, sides):
                shared = self._shared(side, carrier)
                if self._belongs(node, side, carrier):
                    continue
                if side != carrier and (shared <= MOST_SHARED or side in single):
                    yield Joint(
                        label(node),
                        node.op_type,
                        side,
                        carrier,
                        node.output[0],
                        shared,
                        side in single,
                    )

    def first_layers(self) -> Iterator[FirstLayer]:
        """Yield the layers in front of which there are no weights, in the order of the graph."""
        for node in self.nodes:
            if (
                node.op_type in LAYERS
                and node.input[0] in self.data
                and node.input[1] not in self.data
                and self.mass(node.input[0]) == 0
            ):
                yield FirstLayer(node.output[0], label(node), node.op_type == "Conv")

    def _are_scores(self, node: onnx.NodeProto, data: Sequence[str]) -> bool:
        """Whether a node joins the scores of classes that are computed one by one.

        By the same operator from about as many weights each, with no layer behind them: as in
        quadratic discriminants, none of them bypasses another. A side path within one of them
        meets it in front of that node.
        """
        if node.op_type != "Concat" or len(data) < _CLASSES or self.mass(data[0]) == 0:
            return False
        masses = [self.mass(name) for name in data]
        makers = [self.uses.producer(name) for name in data]
        return (
            len(data) == len(node.input)
            and max(masses) <= _AS_HEAVY * min(masses)
            and len({maker.op_type if maker else "" for maker in makers}) == 1
            and all(self.room(name) == 1 for name in data)
            and self._behind.get(node.output[0]) == self._behind.get(self.answer)
        )

    def _is_single(self, node: onnx.NodeProto, side: str, data: Sequence[str]) -> bool:
        """Whether a value that joins scores holds no more than one number times constants.

        Or says by itself whether constants take their place.
        """
        if self._classical or self._behind.get(node.output[0]) != self._behind.get(self.answer):
            return False
        if node.op_type == "Where" and side == node.input[0]:
            return self.room(side) == 1 and len(data) == 2  # noqa: PLR2004 - constants or scores
        adds = node.op_type in _ADDING or (node.op_type == "Gemm" and side in node.input[2:])
        if not adds or self.room(side) < self.room(node.output[0]):
            return False
        name = side
        while self.room(name) > 1:
            maker = self.uses.producer(name)
            read = [] if maker is None else [n for n in reads(maker) if n in self.data]
            if len(read) != 1 or read[0] in data:
                return False
            name = read[0]
        return True

    def _belongs(self, node: onnx.NodeProto, side: str, carrier: str) -> bool:
        """Whether a value is the scale, or the zero point, of the very codes that it meets.

        A layer on codes of 8 bits takes both from what made the codes of its image: the product of
        its sums with the scale is the layer, and no side path.
        """
        if node.op_type in _ON_CODES:
            return len(node.input) > 2 and side == node.input[2] and self._codes(node, side, 2)  # noqa: PLR2004
        if node.op_type != "Mul":
            return False
        layer = self.uses.producer(carrier)
        if layer is not None and layer.op_type == "Cast" and layer.input:
            layer = self.uses.producer(layer.input[0])
        while (maker := self.uses.producer(side)) is not None and maker.op_type == "Mul":
            read = [name for name in maker.input if name in self.data]
            if len(read) != 1:
                return False
            (side,) = read
        return layer is not None and layer.op_type in _ON_CODES and self._codes(layer, side, 1)

    def _codes(self, layer: onnx.NodeProto, value: str, place: int) -> bool:
        """Whether a value is an output of the quantisation that made the codes of a layer."""
        maker = self.uses.producer(layer.input[0]) if layer.input else None
        return (
            maker is not None
            and maker.op_type == "DynamicQuantizeLinear"
            and layer.input[0] == maker.output[0]
            and value in maker.output[place : place + 1]
        )

    def _tensors_behind(self, name: str) -> Iterator[str]:
        """Yield a value, or of a sequence or an optional the tensors that it is made from.

        A collection can be neither read out of a run nor given by hand.
        """
        if name not in self.facts.collections:
            yield name
        elif maker := self.uses.producer(name):
            for source in reads(maker) & self.data:
                yield from self._tensors_behind(source)

    def readable(self, value: str) -> bool:
        """Whether a value can be read out of a run, and given by hand."""
        return (
            value not in self.facts.collections
            and self.facts.elem_types.get(value) not in _UNREADABLE
        )

    def trail(self, value: str) -> tuple[str, ...]:
        """Return the values on the way from the inputs to a value, in the order of the graph."""

        def data_sources(name: str) -> Iterator[str]:
            return (source for source in self.uses.sources(name) if source in self.data)

        found = [n for n in ancestors([value], data_sources) if n not in self.inputs]
        return self.ordered(filter(self.readable, found))

    def ordered(self, values: Iterable[str]) -> tuple[str, ...]:
        """Return computed values in the order of the graph."""
        return tuple(sorted(values, key=lambda name: self.uses.producer_position[name]))

    def labels(self, values: Iterable[str]) -> tuple[str, ...]:
        """Return the labels of the nodes that make these values, each once."""
        makers = (self.uses.producer(name) for name in values)
        return tuple(dict.fromkeys(label(node) for node in makers if node is not None))

    def picture_behind(self, value: str) -> str:
        """Return the last value of an image's size that derives from a value, before any weights.

        It is the value itself where there is none.
        """
        behind, size = {value}, max(self.room(name) for name in self.inputs)
        found = value
        for node in self.nodes:
            if behind & reads(node):
                behind.update(node.output)
                made = [n for n in node.output if self.mass(n) == 0 and self.room(n) == size]
                found = made[-1] if made else found
        return found

    def mass(self, value: str) -> int:
        """Return how many weights lie behind a value."""
        return self._count(self._behind.get(value, 0))

    @property
    def total(self) -> int:
        """How many weights there are."""
        return sum(self._sizes)

    def room(self, name: str) -> float:
        """Return how many numbers a value holds, with 1 for each open size."""
        shape = self.facts.shapes.get(name, ())
        return float(math.prod(size if isinstance(size, int) else 1 for size in shape))

    def _data(self) -> set[str]:
        """Return the values that change with the numbers of an input, not only with its shape.

        How many values there are counts as a number where the input's numbers decide it.
        """
        found, ragged = set(self.inputs), set[str]()
        for node in self.nodes:
            read, made = reads(node), {name for name in node.output if name}
            if found & read and (node.op_type not in _MEASURES or ragged & read):
                found |= made
                if node.op_type in _RAGGED or ragged & read:
                    ragged |= made
        return found

    def _weights(self) -> tuple[dict[str, int], list[int]]:
        layers = {
            position: size
            for position, node in enumerate(self.nodes)
            if self.data.intersection(node.output) and (size := self._layer_size(node))
        }
        per_bit = len(layers) // _BITS + 1
        bits = {position: place // per_bit for place, position in enumerate(layers)}
        sizes = [0] * (len(layers) // per_bit + 1)
        for position, size in layers.items():
            sizes[bits[position]] += size
        behind: dict[str, int] = {}
        for position, node in enumerate(self.nodes):
            if self.data.isdisjoint(node.output):
                continue  # of the weights before it, a shape tells nothing
            mask = 1 << bits[position] if position in bits else 0
            for name in reads(node):
                mask |= behind.get(name, 0)
            if mask:
                behind.update((name, mask) for name in node.output)
        return behind, sizes

    def _layer_size(self, node: onnx.NodeProto) -> int:
        """Return how many weights a node applies; numbers of an axis each are none."""
        if node.op_type in _ELEMENTWISE:
            return 0
        return sum(
            self._trained(name, math.prod(int(size) for size in shape))
            for name in node.input
            if name and name not in self.data
            for shape in [self.facts.shapes.get(name, ())]
            if all(isinstance(size, int) for size in shape)
            and sum(int(size) > 1 for size in shape) > 1
        )

    def _trained(self, name: str, size: int) -> int:
        tensor = self.facts.tensors.get(name)
        return size if tensor is None else trained(tensor, size)

    def _shared(self, side: str, carrier: str) -> float:
        other = self._behind.get(carrier, 0)
        return self._count(self._behind.get(side, 0) & other) / max(self._count(other), 1)

    @functools.cache  # noqa: B019 - lives as long as the analysis of one file
    def _count(self, bits: int) -> int:
        return sum(size for place, size in enumerate(self._sizes) if bits >> place & 1)
