"""What onnx reads is checked; what it writes names no second file."""

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError

from scanner.errors import MalformedModelError, UnsafeModelError, UnsupportedModelError
from scanner.graph.core.structure import numbers_of
from scanner.limits import Limits
from scanner.modelfile import held, parser, tensor_sizes
from scanner.modelfile.external_data import Folder

LIMITS = Limits()


def test_a_model_is_parsed_and_written_as_it_was() -> None:
    data = models.plain().SerializeToString()
    proto = parser.parse(data, "m", LIMITS)
    assert parser.complete(proto, Folder(Path())) is proto
    assert parser.serialise(proto, Folder(Path()), LIMITS, "m") == data


def test_what_is_no_model_is_named() -> None:
    with pytest.raises(MalformedModelError, match="'m' is not an ONNX file"):
        parser.parse(b"x", "m", LIMITS)


def test_what_a_guard_rejects_is_named() -> None:
    with pytest.raises(UnsafeModelError, match="'m': the graph has more than 4 nodes"):
        parser.parse(models.plain().SerializeToString(), "m", Limits(nodes=4))


def test_external_data_is_taken_into_a_copy(tmp_path: Path) -> None:
    path = models.save(models.plain(), tmp_path / "m.onnx", external=True)
    proto = parser.parse(path.read_bytes(), "m", LIMITS)
    complete = parser.complete(proto, Folder(tmp_path))
    assert any(t.data_location == onnx.TensorProto.EXTERNAL for t in tensor_sizes.tensors(proto))
    assert not any(t.data_location for t in tensor_sizes.tensors(complete))


@pytest.mark.parametrize(
    ("size", "error"),
    [(2**31, UnsupportedModelError), (2**31 - 1, MemoryError), (None, MemoryError)],
)
def test_a_model_beyond_what_protobuf_can_write_is_unsupported(
    size: int | None, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protobuf says the same where there is no memory for a smaller one, or to find its size."""

    class Large:
        def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
            raise ValueError("exceeds maximum protobuf size of 2GB")

        def ByteSize(self) -> int:  # noqa: N802 - as above
            if size is None:
                raise EncodeError("Failed to serialize proto")
            return size

    monkeypatch.setattr(parser, "complete", lambda *_, **__: Large())
    with pytest.raises(error, match="the setting `layer`" if size == 2**31 else None):
        parser.serialise(models.plain(), Folder(Path()), LIMITS, "m")


def test_large_tensors_stay_outside_and_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = models.save(models.plain(), tmp_path / "m.onnx", external=True)
    proto, folder = parser.parse(path.read_bytes(), "m", LIMITS), Folder(tmp_path)
    largest = max(tensor_sizes.data_bytes(t) or 0 for t in proto.graph.initializer)
    monkeypatch.setattr(held, "LEAST", largest)
    once = parser.complete(proto, folder, hold=True)
    (tmp_path / "m.onnx.data").unlink()
    inside = [t for t in once.graph.initializer if not t.data_location]
    assert 0 < len(inside) < len(once.graph.initializer)
    assert parser.complete(once, folder, hold=True) is once  # nothing is missing any more
    for whole, found in zip(models.plain().graph.initializer, once.graph.initializer, strict=True):
        np.testing.assert_array_equal(numbers_of(found), numbers_of(whole))
    with pytest.raises(MalformedModelError):  # the others are read again, and are gone
        parser.complete(proto, folder, hold=True)


def test_too_much_data_outside_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.save(models.plain(), tmp_path / "m.onnx", external=True)
    proto = parser.parse(path.read_bytes(), "m", LIMITS)
    (tmp_path / "m.onnx.data").unlink()
    monkeypatch.setattr(parser, "LARGEST", proto.ByteSize() + 1)
    with pytest.raises(UnsupportedModelError, match="more than 2 GiB"):
        parser.serialise(proto, Folder(tmp_path), LIMITS, "m")
