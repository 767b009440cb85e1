"""What was kept outside a model stays outside, and reads back as it was."""

import hashlib
from pathlib import Path

import models
import onnx
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.surgery import parcel
from scanner.modelfile.model import open_model


def test_a_model_without_data_outside_is_one_file() -> None:
    file, data = parcel.packed(models.plain(), set(), "x.data")
    assert bytes(file) == models.plain().SerializeToString()
    assert not data.size


def test_data_outside_is_written_beside_the_model(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "model.onnx", external=True)
    model = open_model(path)
    names = parcel.outside(model.proto)
    assert names
    file, data = parcel.packed(model.complete(model.proto), names, "new.onnx.data")
    (tmp_path / "new.onnx").write_bytes(bytes(file))
    (tmp_path / "new.onnx.data").write_bytes(bytes(data))
    again = open_model(tmp_path / "new.onnx")
    assert parcel.outside(again.proto) == names
    whole = again.complete(again.proto)
    for old, new in zip(models.plain().graph.initializer, whole.graph.initializer, strict=True):
        assert (
            onnx.numpy_helper.to_array(old).tobytes() == onnx.numpy_helper.to_array(new).tobytes()
        )


@given(st.lists(st.binary(max_size=9)), st.integers(0, 40), st.integers(0, 40))
def test_parts_are_one_file(parts: list[bytes], start: int, size: int) -> None:
    whole, bulk = b"".join(parts), parcel.Bulk(parts)
    assert (bytes(bulk), bulk.size) == (whole, len(whole))
    assert bulk.sha256() == hashlib.sha256(whole).hexdigest()
    assert bulk.piece(start, size) == whole[start : start + size]
