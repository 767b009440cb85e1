"""What stands beside the computation: entries, names, numbers and values without a use."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from models import plain
from onnx import AttributeProto, TensorProto, helper

from scanner.graph.audit import ledger
from scanner.modelfile.nested import Contents
from scanner.results import Severity

BYTES = np.random.default_rng(5).integers(1 << 20, 1 << 31, 40).tolist()
WORDS = " ".join(f"word{number}" for number in range(60))


def told(change: Callable[[onnx.ModelProto], object]) -> list[tuple[str, Severity]]:
    model = plain(ir_version=11)
    change(model)
    return [(o.code, o.severity) for o in ledger.observe(model, Contents(model))]


@pytest.mark.parametrize(
    "owner",
    [
        lambda m: m.graph,
        lambda m: m.graph.node[0],
        lambda m: m.graph.initializer[0],
        lambda m: m.graph.output[0],
    ],
    ids=["graph", "node", "tensor", "value"],
)
def test_entries_under_unknown_keys_are_told_of_every_part(
    owner: Callable[[onnx.ModelProto], onnx.NodeProto],
) -> None:
    full = [("full-field", Severity.NOTE)]
    assert told(lambda m: owner(m).metadata_props.add(key="note", value=WORDS)) == full
    assert told(lambda m: owner(m).metadata_props.add(key="note", value="short")) == []
    known = "pkg.torch.export.graph_signature"
    assert told(lambda m: owner(m).metadata_props.add(key=known, value=WORDS)) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("namespace", ": net.Net/conv1: torch.nn.modules.conv.Conv2d/conv2d: aten.conv2d.default"),
        ("pkg.torch.onnx.class_hierarchy", "['__main__.Net', '<built-in function eq>']"),
        ("pkg.torch.onnx.name_scopes", "['', 'conv1', 'conv2d']"),
        ("pkg.torch.onnx.fx_node", "%relu : [num_users=1] = call_function[target=x](args = ())"),
        ("pkg.torch.onnx.stack_trace", 'File "net.py", line 3, in forward\n    return x'),
    ],
)
def test_values_of_an_exporter_have_its_form(key: str, value: str) -> None:
    assert told(lambda m: m.graph.node[0].metadata_props.add(key=key, value=value)) == []
    strange = told(lambda m: m.graph.node[0].metadata_props.add(key=key, value="nothing of it"))
    assert strange == [("strange-entries", Severity.NOTE)]


def annotated(*names: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        for name in names:
            note = model.graph.quantization_annotation.add(tensor_name="kernel")
            note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=name)

    return change


def test_names_of_nothing_are_told_and_those_of_the_file_are_not() -> None:
    assert told(annotated(*(f"q_{number}" for number in BYTES))) == [("loose-names", Severity.NOTE)]
    honest = ["kernel", "convolved", *(f"{name}_scale" for name in ("kernel", "activated"))]
    assert told(annotated(*honest * 8)) == []


def test_bindings_and_shards_of_nothing_are_told() -> None:
    def bound(model: onnx.ModelProto) -> None:
        training = model.training_info.add()
        for number in BYTES:
            training.update_binding.add(key="kernel", value=f"next_{number}")

    def sharded(model: onnx.ModelProto) -> None:
        placed = model.graph.node[0].device_configurations.add(configuration_id="mesh")
        for number in BYTES:
            placed.sharding_spec.add(tensor_name=f"part_{number}")

    assert told(bound) == [("loose-names", Severity.NOTE)]
    assert told(sharded) == [("loose-names", Severity.NOTE)]


def test_numbers_that_no_runtime_reads_are_counted() -> None:
    def placed(numbers: list[int]) -> Callable[[onnx.ModelProto], None]:
        def change(model: onnx.ModelProto) -> None:
            model.configuration.add(name="mesh", num_devices=2)
            spec = model.graph.node[0].device_configurations.add(configuration_id="mesh")
            spec.sharding_spec.add(tensor_name="kernel", device=numbers)

        return change

    assert told(placed(BYTES)) == [("idle-fields", Severity.NOTE)]
    assert told(placed([0, 1] * 20)) == []
    assert told(lambda m: setattr(m, "model_version", 20261126)) == []
    assert told(lambda m: setattr(m, "model_version", 1 << 60)) == [("idle-fields", Severity.NOTE)]


def test_a_value_beside_the_one_of_its_type_is_told() -> None:
    def change(model: onnx.ModelProto) -> None:
        held = helper.make_attribute("group", 1)
        held.s = b"a text beside a number"
        model.graph.node[0].attribute.append(held)

    assert told(change) == [("two-value-attributes", Severity.WARNING)]
    empty = AttributeProto(name="group", type=AttributeProto.INT)
    assert told(lambda m: m.graph.node[0].attribute.append(empty)) == []


def outside(**entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_checksums_that_cannot_be_any_are_told() -> None:
    def codes(*tensors: TensorProto) -> list[str]:
        return [o.code for o in ledger.checksums(tensors)]

    one, other = "a1" * 20, "b2" * 20
    assert codes(outside(location="m", checksum=one), outside(location="m", checksum=one)) == []
    assert codes(outside(location="m", checksum=one), outside(location="n", checksum=other)) == []
    assert codes(outside(location="m", checksum="a1" * 12)) == ["false-checksum"]
    two = (outside(location="m", checksum=one), outside(location="m", checksum=other))
    assert codes(*two) == ["false-checksum"]
    assert codes(outside(location="m", remark="text")) == ["idle-fields"]


def test_segments_of_tensors() -> None:
    def cut(model: onnx.ModelProto) -> None:
        for number in BYTES:
            part = model.graph.initializer.add()
            part.segment.begin, part.segment.end = number, number + 1

    assert ("idle-fields", Severity.NOTE) in told(cut)


@pytest.mark.parametrize(
    ("kind", "held", "more"),
    [
        (TensorProto.INT8, [-128, 127, 255], 256),
        (TensorProto.UINT8, [0, 255], 0x414100),
        (TensorProto.FLOAT16, [0, 0xFFFF], 1 << 16),
        (TensorProto.BOOL, [0, 1], 2),
        (TensorProto.INT32, [0, 1 << 30], None),
    ],
)
def test_numbers_that_hold_more_than_their_type(
    kind: int, held: list[int], more: int | None
) -> None:
    def told_of(numbers: list[int]) -> list[tuple[str, Severity]]:
        tensor = TensorProto(name="codes", data_type=kind, dims=[len(numbers)], int32_data=numbers)
        return told(lambda m: m.graph.initializer.append(tensor))

    assert told_of(held) == []
    if more is not None:
        assert told_of([*held, more]) == [("idle-bits", Severity.WARNING)]


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "INT4", "UINT4", "INT16", "BOOL"])
@pytest.mark.parametrize(
    ("number", "codes"), [(1, []), (1 << 20, [("idle-bits", Severity.WARNING)])]
)
def test_bits_above_a_narrow_type(
    kind: str, number: int, codes: list[tuple[str, Severity]]
) -> None:
    tensor = TensorProto(
        name="t", data_type=TensorProto.DataType.Value(kind), int32_data=[number], dims=[1]
    )
    assert told(lambda m: m.graph.initializer.append(tensor)) == codes
