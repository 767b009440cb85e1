"""Files of images that were built to exhaust, to hang or to run something."""

import io
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanner.errors import UsageError
from scanner.instruments import image_files
from scanner.instruments.image_files import from_file, from_folder

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def header(shape: str, descr: str = "'|u1'") -> bytes:
    """The start of an .npy file that claims a shape and a type."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(path: Path, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as made:
        made.writestr("images.npy", data)


def huge(path: Path) -> None:
    path.write_bytes(header("(1000000, 1000, 1000)"))


def longer_than_its_member(path: Path) -> None:
    archive(path, header("(1000, 1000, 1000)") + bytes(1000))


def bomb(path: Path) -> None:
    """Four gibibytes of zeros in some megabytes: only the sizes in the directory are read."""
    archive(path, header("(4, 1024, 1024, 1024)"))
    data = path.read_bytes()
    at = data.rindex(b"PK\x01\x02") + 24
    path.write_bytes(data[:at] + struct.pack("<I", 2**32 - 2) + data[at + 4 :])


def other_method(path: Path) -> None:
    archive(path, header("(2, 3, 4)") + bytes(24), zipfile.ZIP_LZMA)


def many_members(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        for number in range(image_files.MOST_MEMBERS + 1):
            made.writestr(f"{number}.npy", b"")


class Deed:
    """What a pickle would do when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/never-made-by-a-pickle",)  # noqa: S108 - it is never made


def pickled(path: Path) -> None:
    archive(path, header("(1,)", "'|O'") + pickle.dumps(Deed()))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Deed()))


def records(path: Path) -> None:
    path.write_bytes(header("(1,)", "[('a', '<f4')]") + bytes(4))


@pytest.mark.parametrize(
    "make",
    [huge, longer_than_its_member, bomb, other_method, many_members, pickled, bare_pickle, records,
     os.mkfifo],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_a_hostile_file_is_refused_at_once(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "images.npz")
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"images\.npz' holds no arrays \(.+\); save the images"):
        from_file(tmp_path / "images.npz")
    assert time.monotonic() - start < 1
    assert not Path("/tmp/never-made-by-a-pickle").exists()  # noqa: S108 - as above


def test_what_is_no_file_of_arrays_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*; check the path"):
        from_file(tmp_path / "none.npz")
    with pytest.raises(UsageError, match=r"is a folder, .* the setting `images_folder`"):
        from_file(tmp_path)
    (tmp_path / "short.npz").write_bytes(b"PK\3\4 and no directory")
    with pytest.raises(UsageError, match=r"\(neither \.npy nor \.npz, or cut short\)"):
        from_file(tmp_path / "short.npz")


def test_a_device_is_refused() -> None:
    with pytest.raises(UsageError, match="a folder, a pipe or a device, not a file"):
        from_file(Path("/dev/zero"))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_an_honest_file_is_read(save: Callable[..., None], order: Any, tmp_path: Path) -> None:
    stream = io.BytesIO()
    save(stream, np.array(IMAGES, order=order))
    (tmp_path / "images").write_bytes(stream.getvalue())
    np.testing.assert_array_equal(from_file(tmp_path / "images"), IMAGES)


def test_a_picture_of_too_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "MOST_PIXELS", 11)
    with pytest.raises(UsageError, match="4 x 3 pixels are too many"):
        from_folder(tmp_path)


def test_pictures_that_take_too_much_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for number, image in enumerate(IMAGES):
        pillow.fromarray(image).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(image_files, "LARGEST", 20)
    with pytest.raises(UsageError, match="take more than 20 bytes"):
        from_folder(tmp_path)


def test_pipes_and_formats_that_run_programs_are_passed_over(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    pillow.fromarray(IMAGES[0]).convert("RGB").save(tmp_path / "b.eps")
    os.mkfifo(tmp_path / "c.png")
    np.testing.assert_array_equal(from_folder(tmp_path), IMAGES[:1])
