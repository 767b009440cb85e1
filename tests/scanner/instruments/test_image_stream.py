"""Inputs read a part at a time: every kind of file, and those that are damaged or hostile."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scanner.errors import UsageError
from scanner.instruments import image_files, image_stream
from scanner.instruments.image_stream import stream

IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)


def test_arrays_come_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "b.npz", images=IMAGES, labels=np.zeros(5))
    np.savez_compressed(tmp_path / "c.npz", IMAGES)
    np.save(tmp_path / "d.npy", np.asfortranarray(IMAGES))
    for file in sorted(tmp_path.iterdir()):
        names, found = zip(*stream(file), strict=True)
        assert names == ("0", "1", "2", "3", "4")
        assert np.array_equal(np.stack(found), IMAGES)


def test_pictures_of_a_folder_and_one_alone(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        Image.fromarray(IMAGES[0]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [name for name, _ in stream(tmp_path)] == ["a.png", "b.png"]
    ((name, image),) = stream(tmp_path / "b.png")
    assert name == "b.png"
    assert np.array_equal(image, IMAGES[0])


def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_stream, "_BYTES", 2**16)
    monkeypatch.setattr(image_files, "LARGEST", 2**20)  # the file is larger than may be held
    np.savez_compressed(tmp_path / "many.npz", images=np.zeros((4000, 32, 32), np.uint8))
    tracemalloc.start()
    count = sum(1 for _ in stream(tmp_path / "many.npz"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000
    assert peak < 2**20


def objects(path: Path) -> None:
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)


def cut_short(path: Path) -> None:
    np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[:-3])


def a_number(path: Path) -> None:
    np.save(path, np.float32(3))


def nothing(path: Path) -> None:
    np.save(path, np.zeros((0, 3, 4), np.float32))


def no_pixels(path: Path) -> None:
    np.save(path, np.zeros((2, 0, 4), np.float32))


def text(path: Path) -> None:
    path.write_text("no array")


@pytest.mark.parametrize("make", [objects, cut_short, a_number, nothing, no_pixels, text])
def test_what_holds_no_inputs_is_refused(make: object, tmp_path: Path) -> None:
    make(tmp_path / "bad.npy")  # type: ignore[operator]
    with pytest.raises(UsageError):
        list(stream(tmp_path / "bad.npy"))


@pytest.mark.parametrize("name", ["empty", "notes.txt"])
def test_a_folder_or_file_without_pictures(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UsageError, match="there are no images"):
        list(stream(tmp_path / name))
