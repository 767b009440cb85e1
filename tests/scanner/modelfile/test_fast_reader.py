"""A plain file is read as onnx reads it, or declined."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import models
import onnx
import pytest
from hostile import attacks

from scanner.limits import Limits
from scanner.modelfile import fast_reader

SAMPLES = sorted((Path(__file__).parents[3] / "samples").glob("*.onnx"))


def read(model: onnx.ModelProto, limits: Limits | None = None) -> fast_reader.File | None:
    return fast_reader.read(model.SerializeToString(), limits or Limits())


@pytest.mark.parametrize("operator", fast_reader._OPERATORS)
def test_the_table_of_operators_is_that_of_onnx(operator: str) -> None:
    least, most, declared, required = fast_reader._OPERATORS[operator]
    for version in fast_reader._OPSETS:
        schema = onnx.defs.get_schema(operator, version, "")
        assert schema.min_input <= least <= most <= schema.max_input
        assert schema.min_output == 1
        assert required >= {
            name for name, attribute in schema.attributes.items() if attribute.required
        }
        for name in declared.keys() & schema.attributes.keys():
            assert schema.attributes[name].type.value == declared[name], name  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", fast_reader.Message.__subclasses__())
def test_the_fields_are_those_of_onnx(message: type[fast_reader.Message]) -> None:
    names = {
        "Tensor": "TensorProto", "Attribute": "AttributeProto", "Node": "NodeProto",
        "Value": "ValueInfoProto", "Dimension": "TensorShapeProto.Dimension",
        "Shape": "TensorShapeProto", "TensorType": "TypeProto.Tensor",
        "Type": "TypeProto", "Graph": "GraphProto", "OperatorSet": "OperatorSetIdProto",
        "Entry": "StringStringEntryProto", "File": "ModelProto",
    }  # fmt: skip
    descriptor = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name[
        names[message.__name__].split(".")[0]
    ]
    for inner in names[message.__name__].split(".")[1:]:
        descriptor = descriptor.nested_types_by_name[inner]
    wires = {"int32": 0, "int64": 0, "enum": 0, "float": 5, "string": 2, "bytes": 2, "message": 2}
    kinds = {
        1: "double",
        2: "float",
        3: "int64",
        5: "int32",
        9: "string",
        11: "message",
        12: "bytes",
        14: "enum",
    }
    for tag, (name, _convert, repeated) in message.FIELDS.items():
        field = descriptor.fields_by_name[name]
        assert (field.number, wires[kinds[field.type]]) == (tag >> 3, tag & 7)
        assert repeated == field.is_repeated
        assert not (repeated and field.is_packed)


def test_the_sizes_of_elements_are_those_of_onnx() -> None:
    assert all(
        onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize == size
        for kind, size in fast_reader._SIZES.items()
    )


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_plain(path: Path) -> None:
    assert fast_reader.read(path.read_bytes(), Limits()) is not None


def test_names_numbers_and_shapes_are_read() -> None:
    file = read(models.plain())
    assert file is not None
    assert [node.op_type for node in file.graph.node] == [
        "Conv",
        "Relu",
        "GlobalAveragePool",
        "Flatten",
        "MatMul",
    ]
    assert next((t.name, list(t.dims)) for t in file.graph.initializer) == ("kernel", [4, 1, 3, 3])
    assert file.graph.node[0].attribute[0].ints == [1, 1, 1, 1]
    assert not file.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def _unknown_field(data: bytes) -> bytes:
    return data + b"\xf8\x07\x01"


def _twice(data: bytes) -> bytes:
    return data + b"\x08\x08"


def _merged_graph(data: bytes) -> bytes:
    return data + b"\x3a\x00"


def _longer_number(data: bytes) -> bytes:
    assert data[:2] == b"\x08\x08"
    return b"\x08\x88\x00" + data[2:]


@pytest.mark.parametrize("change", [_unknown_field, _twice, _merged_graph, _longer_number])
def test_what_protobuf_would_write_in_another_way_is_declined(
    change: Callable[[bytes], bytes],
) -> None:
    data = models.plain().SerializeToString()
    changed = change(data)
    onnx.ModelProto().ParseFromString(changed)
    assert fast_reader.read(data, Limits()) is not None
    assert fast_reader.read(changed, Limits()) is None


def _typed_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.float_data[:] = [0.0] * math.prod(tensor.dims)


def _longer(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data += b"1234"


def _foreign(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.evil"


def _attribute_of_two_values(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].i = 3


def _attribute_of_another_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].CopyFrom(onnx.helper.make_attribute("pads", 1.0))


def _two_operator_sets(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="ai.onnx", version=3)


@pytest.mark.parametrize(
    "change",
    [
        *(_typed_data, _longer, _foreign, _attribute_of_two_values),
        *(_attribute_of_another_type, _two_operator_sets),
    ],
)
def test_what_is_not_plain_is_declined(change: Callable[[onnx.ModelProto], None]) -> None:
    model = models.plain()
    assert read(model) is not None
    change(model)
    assert read(model) is None


def _many_nodes() -> onnx.ModelProto:
    return attacks.node_flood(5_000)


def _many_inputs() -> onnx.ModelProto:
    model = models.plain()
    model.graph.node[-1].input.extend(["x"] * 5_000)
    return model


def _wide_nodes() -> onnx.ModelProto:
    model = models.plain()
    model.graph.node.extend(
        onnx.helper.make_node("Sum", ["activated"] * 1000, [f"sum{i}"], pads=[1] * 1000)
        for i in range(1000)
    )
    return model


def _wide_tensors() -> onnx.ModelProto:
    model = models.plain()
    model.graph.initializer.extend(
        onnx.TensorProto(name=f"wide{i}", dims=[0] * 4000, data_type=1, raw_data=b"")
        for i in range(1000)
    )
    return model


def _large_node() -> onnx.ModelProto:
    model = models.plain()
    model.graph.node[-1].name = "n" * 2**16
    return model


@pytest.mark.parametrize(
    "build", [_many_nodes, _many_inputs, _wide_nodes, _wide_tensors, _large_node]
)
def test_a_file_built_to_be_read_slowly_is_declined_at_once(
    build: Callable[[], onnx.ModelProto],
) -> None:
    data = build().SerializeToString()
    start = time.process_time()
    assert fast_reader.read(data, Limits()) is None
    assert time.process_time() - start < 2


def test_limits_are_those_of_the_guards() -> None:
    assert read(models.plain(), Limits(nodes=5)) is not None
    assert read(models.plain(), Limits(nodes=4)) is None
    assert read(models.plain(), Limits(memory=256)) is not None
    assert read(models.plain(), Limits(memory=255)) is None
