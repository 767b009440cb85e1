"""Files are opened once, and what is no model is said to be none."""

import hashlib
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from scanner.errors import MalformedModelError, ScannerError, UnsafeModelError, UsageError
from scanner.limits import Limits
from scanner.modelfile import held, parser
from scanner.modelfile.model import (
    ELEMENT_TYPES,
    Model,
    open_model,
    required_inputs,
    standard_opset,
)


def test_identity(tmp_path: Path) -> None:
    path = models.save(
        models.plain(producer_name="tool", producer_version="2"), tmp_path / "m.onnx"
    )
    identity = open_model(path, "as named").identity
    assert identity.path == "as named"
    assert identity.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (identity.producer, identity.opset) == ("tool 2", 17)
    assert [(i.name, i.dtype, i.shape) for i in identity.inputs] == [
        ("image", "float", ("N", 1, 8, 8))
    ]


def test_a_size_counts_the_second_file(tmp_path: Path) -> None:
    alone = open_model(models.save(models.plain(), tmp_path / "m.onnx"))
    assert alone.size == len(alone.data)
    proto = models.plain()
    kernel = next(t for t in proto.graph.initializer if t.name == "kernel")
    kernel.data_location = onnx.TensorProto.EXTERNAL
    kernel.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(kernel.raw_data)
    outside = 4 * int(np.prod(kernel.dims))
    kernel.ClearField("raw_data")
    model = open_model(models.save(proto, tmp_path / "outside.onnx"))
    assert model.size == len(model.data) + outside


def test_initialisers_are_no_required_inputs() -> None:
    model = models.initialisers_as_inputs()
    assert [i.name for i in required_inputs(model.graph)] == ["image"]
    assert standard_opset(model) == 8


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"", MalformedModelError, "is empty"),
        (
            b"\x13\x37 not a model at all, but long enough to be one",
            MalformedModelError,
            "is not an ONNX file",
        ),
        (models.plain().SerializeToString()[:-40], MalformedModelError, "cut short"),
        (b"\x08\x08", MalformedModelError, "holds no ONNX graph"),
    ],
    ids=["empty", "random bytes", "truncated", "no graph"],
)
def test_what_is_no_model(
    content: bytes, kind: type[ScannerError], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(kind, match=message):
        open_model(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        open_model(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="is a folder"):
        open_model(tmp_path)


def test_external_data_is_read_when_it_is_needed(tmp_path: Path) -> None:
    model = open_model(models.save(models.plain(), tmp_path / "m.onnx", external=True))
    assert b"m.onnx.data" not in model.serialise(model.proto)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(MalformedModelError, match="put the data file next to the model"):
        model.serialise(model.proto)


def test_element_types_have_onnx_names() -> None:
    known = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    assert {n: name for n, name in enumerate(ELEMENT_TYPES) if n in known} == known


def test_a_network_in_a_branch_is_part_of_the_architecture(tmp_path: Path) -> None:
    def architecture(model: onnx.ModelProto) -> str:
        return open_model(models.save(model, tmp_path / "model.onnx")).identity.architecture

    hidden = models.branch_relu()
    body = hidden.graph.node[1].attribute[0].g
    weights = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32))
    body.node.append(onnx.helper.make_node("Constant", [], ["inner"], value=weights))
    body.node.append(onnx.helper.make_node("MatMul", ["then_out", "inner"], ["spare"]))
    assert architecture(hidden) != architecture(models.branch_relu())
    assert architecture(models.branch_relu()) == architecture(models.plain())


def test_sparse_weights_are_part_of_the_architecture(tmp_path: Path) -> None:
    model = models.plain()
    dense = model.graph.initializer.pop()
    held = onnx.numpy_helper.to_array(dense)
    places = onnx.numpy_helper.from_array(np.arange(held.size))
    values = onnx.numpy_helper.from_array(held.reshape(-1), dense.name)
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(values, places, held.shape)
    )
    sparse, plain = (
        open_model(models.save(proto, tmp_path / "model.onnx")).identity
        for proto in (model, models.plain())
    )
    assert sparse.architecture == plain.architecture


def test_a_model_too_large_for_a_message_keeps_its_weights_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.save(models.plain(), tmp_path / "m.onnx", external=True)
    monkeypatch.setattr(held, "LEAST", 1)
    monkeypatch.setattr(parser, "HELD", open_model(path).size)
    model = open_model(path)
    data = model.serialise(model.proto)
    found = held.beside(data)
    assert set(found) == {tensor.name for tensor in model.proto.graph.initializer}
    again = Model(path, "again", data, Limits())
    assert again.complete(again.proto) is again.proto
    del model  # what was made of it keeps the weights
    assert held.beside(again.data).keys() == found.keys()


def test_a_model_of_more_than_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.save(models.plain(), tmp_path / "m.onnx", external=True)
    size = open_model(path).size
    monkeypatch.setattr(parser, "HELD", size)
    model = open_model(path, limits=Limits(memory=size - 1))
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(UnsafeModelError, match="more than the limit on memory"):
        model.complete(model.proto)
