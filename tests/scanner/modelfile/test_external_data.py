"""External data is a regular file with one name, in the model's folder, of the stated size."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from scanner.errors import MalformedModelError, ModelError, UnsafeModelError
from scanner.modelfile.external_data import Folder, location, trespass

VALUES = np.arange(6, dtype=np.float32)
BYTES = VALUES.tobytes()


def tensor(path: str, *, dims: tuple[int, ...] = (6,), **numbers: object) -> onnx.TensorProto:
    made = TensorProto(
        name="weight", dims=dims, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": path, **numbers}.items():
        made.external_data.add(key=key, value=str(value))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(BYTES)
    for place in (inside / "data", inside / "sub" / "data"):
        place.write_bytes(b"head" + BYTES)
    return inside


@pytest.mark.parametrize(
    "made",
    [
        tensor("data", offset=4, length=24),
        tensor("data", offset=4),
        tensor("sub/data", offset=4, length=24),
        tensor("./data", offset=4, length=0),
    ],
)
def test_data_is_read_into_the_tensor(folder: Path, made: onnx.TensorProto) -> None:
    Folder(folder).inline(made)
    assert not made.external_data
    assert made.data_location == TensorProto.DEFAULT
    np.testing.assert_array_equal(numpy_helper.to_array(made), VALUES)


def test_what_belongs_to_no_tensor_is_put_together(folder: Path) -> None:
    (folder / "data").write_bytes(b"head" + BYTES + bytes(8) + BYTES + b"tail")
    made = [tensor("data", offset=4), tensor("data", offset=36), tensor("sub/data", offset=4)]
    assert list(Folder(folder).spare(made)) == [("data", 8, b"headtail"), ("sub/data", 4, b"head")]


def test_zeros_between_tensors_are_nothing(folder: Path) -> None:
    (folder / "data").write_bytes(bytes(4) + BYTES + bytes(4096) + BYTES)
    assert not list(Folder(folder).spare([tensor("data", offset=4), tensor("data", offset=4124)]))


def test_only_what_the_shape_takes_is_read_of_a_longer_file(folder: Path) -> None:
    made = tensor("data", dims=(2,), offset=4)
    Folder(folder).inline(made)
    assert made.raw_data == BYTES[:8]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("../secret", id="CVE-2022-25882"),
        pytest.param("sub/../../secret", id="CVE-2024-27318"),
        "/etc/passwd",
        "..\\secret",
        "C:\\secret",
        "C:secret",
        "\\\\host\\share\\secret",
    ],
)
def test_a_location_outside_the_folder_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(UnsafeModelError, match="outside the model's folder"):
        Folder(folder).inline(tensor(path))
    assert trespass(folder / "model.onnx", path) == "outside the model's folder"


def _file_link(folder: Path) -> str:
    (folder / "link").symlink_to(folder.parent / "secret")
    return "link"


def _folder_link(folder: Path) -> str:
    (folder / "down").symlink_to(folder.parent)
    return "down/secret"


def _inner_link(folder: Path) -> str:
    (folder / "link").symlink_to("data")
    return "link"


def _hard_link(folder: Path) -> str:
    (folder / "link").hardlink_to(folder.parent / "secret")
    return "link"


def _pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def _itself(_folder: Path) -> str:
    return "sub"


@pytest.mark.parametrize(
    ("trap", "sentence"),
    [
        pytest.param(_file_link, "a symbolic link", id="CVE-2026-34447, a symbolic link"),
        pytest.param(
            _folder_link, "a symbolic link", id="CVE-2026-27489, a symbolic link on the way"
        ),
        (_inner_link, "a symbolic link"),
        pytest.param(_hard_link, "a hard link", id="CVE-2026-34446, a hard link"),
        (_pipe, "not a regular file"),
        (_itself, "not a regular file"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_what_is_no_file_of_its_own_is_refused(
    folder: Path, trap: Callable[[Path], str], sentence: str
) -> None:
    path = trap(folder)
    with pytest.raises(UnsafeModelError, match=sentence):
        Folder(folder).inline(tensor(path))
    assert trespass(folder / "model.onnx", path) == sentence


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (tensor("none"), "is not there"),
        (tensor("data/none"), "is not there"),
        (tensor("data", offset=8), "too short"),
        (tensor("data", offset=10**18), "too short"),
        (tensor("data", length=10**18), "for a shape that takes 24"),
        (tensor("data", dims=(10**12,)), "too short"),
        (tensor("data", dims=(-6,)), "negative size"),
        (tensor("data", offset=-4), "unreadable reference"),
        (tensor("data", offset="1e3"), "unreadable reference"),
        (tensor("data", length=10**30), "unreadable reference"),
        (tensor(""), "unreadable reference"),
        (tensor("."), "names no file"),
        (tensor("a\0b"), "cannot be read"),
        (tensor("x" * 300), "cannot be read"),
        (tensor("data:stream"), "names no file"),
    ],
)
def test_a_reference_that_fits_nothing_is_malformed(
    folder: Path, made: onnx.TensorProto, sentence: str
) -> None:
    with pytest.raises(MalformedModelError, match=sentence):
        Folder(folder).inline(made)


@pytest.mark.parametrize("path", ["data", "./data", "none", "a\0b", "x" * 300, "~", "a\\b"])
def test_a_file_of_ones_own_or_none_at_all_trespasses_on_nothing(folder: Path, path: str) -> None:
    assert trespass(folder / "model.onnx", path) is None


def test_keys_that_name_something_else_change_nothing(folder: Path) -> None:
    """CVE-2026-34445: keys of the file were set as attributes of the reader's own object."""
    made = tensor("data", offset=4, length=24, __class__="int", basepath="/etc", checksum="x")
    Folder(folder).inline(made)
    assert made.raw_data == BYTES


def test_two_locations_are_no_location() -> None:
    made = tensor("data")
    made.external_data.add(key="location", value="../secret")
    with pytest.raises(MalformedModelError, match="unreadable reference"):
        location(made)


def test_text_cannot_lie_in_another_file(folder: Path) -> None:
    made = tensor("data")
    made.data_type = TensorProto.STRING
    with pytest.raises(MalformedModelError, match="cannot be stored there"):
        Folder(folder).inline(made)


def test_a_file_that_changes_between_two_readings_is_refused(folder: Path) -> None:
    opened = Folder(folder)
    opened.inline(tensor("data"))
    (folder / "data").write_bytes(b"other" + BYTES)
    with pytest.raises(MalformedModelError, match="changed during the scan"):
        opened.inline(tensor("data"))


def test_a_file_that_is_replaced_by_one_of_equal_size_is_refused(folder: Path) -> None:
    opened = Folder(folder)
    opened.inline(tensor("data"))
    status = (folder / "data").stat()
    (folder / "new").write_bytes(b"tail" + BYTES)
    os.utime(folder / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "new").replace(folder / "data")
    with pytest.raises(ModelError, match="changed during the scan"):
        opened.inline(tensor("data"))
