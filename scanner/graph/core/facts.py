"""What is known of a graph's values without running it: type, shape, numbers of constants."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnx

from scanner.graph.core.draft import Draft
from scanner.graph.core.open_sizes import Shape, open_sizes
from scanner.graph.core.structure import numbers_of
from scanner.modelfile.inference import infer_shapes
from scanner.modelfile.skeleton import FREE_INITIALISERS, declare_constants

HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
"""Element types of 16-bit floating-point numbers."""

FLOATING = HALVES | {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
"""Element types that may hold an image, a score or a gradient."""

_ROUNDS = 8
"""How many times inference may follow the sizes that it left open; networks need two."""

_COLLECTIONS = frozenset({"sequence_type", "optional_type", "map_type"})
"""Kinds of types that a value other than a tensor has."""

_SHAPE_KEEPING = frozenset({"GroupNormalization", "MeanVarianceNormalization"})
"""Operators defined by a function body, which onnx's inference does not always see through."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of the values of one graph.

    Attributes:
        shapes: By value name; a value of unknown rank is missing.
        elem_types: `onnx.TensorProto.DataType` by value name.
        tensors: Initialisers by name.
        collections: Values that are no tensors: sequences, optionals and maps.
    """

    shapes: Mapping[str, Shape]
    elem_types: Mapping[str, int]
    tensors: Mapping[str, onnx.TensorProto]
    collections: frozenset[str] = frozenset()

    @functools.cached_property
    def _arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {}

    def constant(self, name: str) -> npt.NDArray[np.generic] | None:
        """Return the numbers of a constant, or None where the value is computed."""
        if name not in self.tensors:
            return None
        if name not in self._arrays:
            self._arrays[name] = numbers_of(self.tensors[name])
        return self._arrays[name]

    def elements(self, name: str) -> int | None:
        """Return how many numbers a value holds, or None where that is not fixed."""
        shape = self.shapes.get(name)
        if shape is None or any(isinstance(size, str) for size in shape):
            return None
        return int(np.prod([int(size) for size in shape], dtype=np.int64))


def infer(model: onnx.ModelProto) -> Facts:
    """Infer types and shapes; large constants are left out, so that their size does not matter.

    Raises:
        MalformedModelError: The graph contradicts itself.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    skeleton = _skeleton(model, tensors)
    inferred = _inferred(skeleton)
    rounds = itertools.count()
    while _declare_more(skeleton.graph, inferred, sizes=next(rounds) < _ROUNDS):
        inferred = _inferred(skeleton)
    infos = [*model.graph.value_info, *inferred.input, *inferred.output, *inferred.value_info]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in tensors.values()}
    elem_types = {tensor.name: tensor.data_type for tensor in tensors.values()}
    for info in infos:
        kind = info.type.tensor_type
        if kind.elem_type:
            elem_types[info.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[info.name] = dimensions(info)
    shapes |= open_sizes(skeleton.graph, _known_shapes(inferred))
    collections = {i.name for i in infos if i.type.WhichOneof("value") in _COLLECTIONS}
    return Facts(shapes, elem_types, tensors, frozenset(collections))


def _inferred(skeleton: onnx.ModelProto) -> onnx.GraphProto:
    return infer_shapes(skeleton, follow_numbers=True).graph


def _declare_more(graph: onnx.GraphProto, inferred: onnx.GraphProto, *, sizes: bool) -> bool:
    """Declare what inference missed; return whether it will find more by that."""
    declared = {info.name: info for info in graph.value_info}
    missed = (*_forgotten(inferred), *(_left_open(graph, inferred) if sizes else ()))
    more = {info.name: info for info in missed}
    if all(declared.get(name) == info for name, info in more.items()):
        return False
    del graph.value_info[:]
    graph.value_info.extend((declared | more).values())
    return True


def _left_open(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """Yield the values of which a size is a number that inference left open."""
    known = _known_shapes(inferred)
    found = open_sizes(graph, known)
    for info in inferred.value_info:
        shape = found.get(info.name, ())
        if sum(map(_is_number, shape)) > sum(map(_is_number, known.get(info.name, ()))):
            sizes = [size if _is_number(size) else None for size in shape]
            kind = info.type.tensor_type.elem_type
            yield onnx.helper.make_tensor_value_info(info.name, kind, sizes)


def _is_number(size: int | str) -> bool:
    return isinstance(size, int)


def _known_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    return {value.name: dimensions(value) for value in _of_known_rank(graph)}


def _of_known_rank(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            yield value


def _forgotten(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return what inference missed: the types of results that have their argument's type.

    A Tile's result has its argument's rank, also where inference was not shown the Tile, because
    nothing says how many repeats there are.
    """
    known = {value.name: value for value in _of_known_rank(graph)}
    found = []
    for node in graph.node:
        if (
            (node.op_type in _SHAPE_KEEPING or node.op_type == "Tile")
            and node.input  # of another domain, it may lack them
            and node.input[0] in known
            and node.output[0] not in known
        ):
            info = onnx.ValueInfoProto()
            info.CopyFrom(known[node.input[0]])
            info.name = node.output[0]
            if node.op_type == "Tile":
                for size in info.type.tensor_type.shape.dim:
                    size.Clear()
            found.append(info)
    return found


def dimensions(info: onnx.ValueInfoProto) -> Shape:
    """Return the dimensions of a value.

    A nameless one is named after its place, so that it equals only itself.
    """
    return tuple(
        size.dim_value
        if size.HasField("dim_value") and size.dim_value >= 0
        else size.dim_param or f"{info.name}[{i}]"
        for i, size in enumerate(info.type.tensor_type.shape.dim)
    )


def _skeleton(model: onnx.ModelProto, tensors: Mapping[str, onnx.TensorProto]) -> Draft:
    """Return the model without its large weights."""
    skeleton = Draft(
        onnx.ModelProto(
            ir_version=max(model.ir_version, FREE_INITIALISERS), opset_import=model.opset_import
        )
    )
    graph = skeleton.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(_named(info) for info in model.graph.input if info.name not in tensors)
    declare_constants(graph, tensors.items())
    graph.output.extend(onnx.ValueInfoProto(name=info.name) for info in model.graph.output)
    return skeleton


def _named(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """Return an input with a name for each of its open dimensions."""
    kind = info.type.tensor_type
    shape = dimensions(info) if kind.HasField("shape") else None
    return onnx.helper.make_tensor_value_info(info.name, kind.elem_type, shape)
