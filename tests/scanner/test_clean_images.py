"""The user's images: which arrays and folders are understood, and what is said of the others."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanner.errors import UsageError
from scanner.instruments.probes import Images, clean_images
from scanner.settings import Settings

UNIT = (0.0, 1.0)
GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.integers(0, 256, (10, 8, 6), dtype=np.uint8)
COLOUR = GENERATOR.integers(0, 256, (10, 8, 6, 3), dtype=np.uint8)


def from_file(
    folder: Path,
    images: npt.NDArray[Any],
    shape: tuple[int, ...],
    limits: tuple[float, float] = UNIT,
) -> Images:
    np.savez(folder / "images.npz", images=images)
    return clean_images(Settings(images_file=str(folder / "images.npz")), shape, limits)


def everything(images: Images) -> npt.NDArray[np.float32]:
    """All images, in an order of their own."""
    return np.sort(np.concatenate([images.shown, images.held_back]).reshape(-1))


CHANNELS_FIRST = np.moveaxis(COLOUR, -1, 1)


@pytest.mark.parametrize(
    ("given", "shape", "expected"),
    [
        (GREY, (1, 8, 6), GREY[:, None]),
        (GREY, (8, 6, 1), GREY[..., None]),
        (GREY, (8, 6), GREY),
        (GREY, (48,), GREY.reshape(10, 48)),
        (COLOUR, (3, 8, 6), CHANNELS_FIRST),
        (COLOUR, (8, 6, 3), COLOUR),
        (CHANNELS_FIRST, (8, 6, 3), COLOUR),
        (CHANNELS_FIRST, (3, 8, 6), CHANNELS_FIRST),
        (GREY[..., None], (1, 8, 6), GREY[:, None]),
    ],
)
def test_layouts(
    given: npt.NDArray[Any], shape: tuple[int, ...], expected: npt.NDArray[Any], tmp_path: Path
) -> None:
    found = from_file(tmp_path, given, shape)
    assert (len(found.shown), len(found.held_back)) == (8, 2)
    for image in (*found.shown, *found.held_back):
        assert any(np.allclose(image, other / 255) for other in expected)


@pytest.mark.parametrize("limits", [UNIT, (0.0, 255.0), (-1.0, 1.0)])
def test_bytes_fill_the_input_range(limits: tuple[float, float], tmp_path: Path) -> None:
    found = everything(from_file(tmp_path, GREY, (1, 8, 6), limits))
    np.testing.assert_allclose(
        found, np.sort(limits[0] + GREY.ravel() / 255 * (limits[1] - limits[0])), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are(dtype: type[np.floating[Any]], tmp_path: Path) -> None:
    images = GENERATOR.random((6, 1, 8, 6)).astype(dtype)
    found = everything(from_file(tmp_path, images, (1, 8, 6)))
    np.testing.assert_allclose(found, np.sort(images.ravel().astype(np.float32)))


def test_an_npy_file_and_any_single_name(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    np.savez(tmp_path / "b.npz", x_test=GREY)
    one, other = (
        clean_images(Settings(images_file=str(tmp_path / n)), (1, 8, 6), UNIT).shown
        for n in ("a.npy", "b.npz")
    )
    np.testing.assert_array_equal(one, other)


def test_the_seed_chooses_and_the_budget_bounds(tmp_path: Path) -> None:
    many = GENERATOR.random((200, 1, 8, 6), dtype=np.float32)
    np.savez(tmp_path / "i.npz", images=many)
    first, same, other = (
        clean_images(Settings(images_file=str(tmp_path / "i.npz"), seed=seed), (1, 8, 6), UNIT)
        for seed in (0, 0, 1)
    )
    assert (len(first.shown), len(first.held_back)) == (48, 16)
    np.testing.assert_array_equal(first.shown, same.shown)
    assert not np.array_equal(first.shown, other.shown)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((5, 9, 9), np.uint8),
            r"uint8 in the shape \(5, 9, 9\), and the model takes .* \(1, 8, 6\)",
        ),
        (np.zeros((1, 8, 6), np.uint8), "at least two images"),
        (np.zeros((0, 8, 6), np.uint8), "at least two images"),
        (np.zeros((), np.float32), "at least two images"),
        (np.full((4, 8, 6), "x"), "holds <U1 in the shape"),
        (
            np.full((4, 8, 6), 7.5, np.float32),
            "lie in \\[7.5, 7.5\\], outside the input range \\[0, 1\\]",
        ),
        (np.full((4, 8, 6), -1, np.int64), "outside the input range"),
        (np.full((4, 8, 6), np.nan, np.float32), "hold NaN or infinity"),
    ],
    ids=["size", "one image", "no image", "a number", "words", "range", "negative", "NaN"],
)
def test_arrays_that_do_not_fit(images: npt.NDArray[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        from_file(tmp_path, images, (1, 8, 6))


def cut_archive(path: Path) -> None:
    np.savez(path, images=GREY)
    path.write_bytes(path.read_bytes()[:-200])


def damaged_member(path: Path) -> None:
    np.savez_compressed(path, images=GREY)
    data = bytearray(path.read_bytes())
    data[150:160] = bytes(10)
    path.write_bytes(data)


def objects(path: Path) -> None:
    np.savez(path, images=np.array([{}, []], dtype=object))


def no_array_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", "no array")


@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        lambda path: path.write_text("images"),
        cut_archive,
        damaged_member,
        objects,
        no_array_inside,
    ],
    ids=["empty", "text", "cut", "damaged", "pickled", "no array"],
)
def test_files_that_hold_no_arrays(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    make(path)
    with pytest.raises(UsageError, match=r"images\.npz' holds no arrays"):
        clean_images(Settings(images_file=str(path)), (1, 8, 6), UNIT)


def test_several_arrays_need_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", x=GREY, y=GREY)
    with pytest.raises(
        UsageError, match=r"holds the arrays \['x', 'y'\]; call the array of images 'images'"
    ):
        clean_images(Settings(images_file=str(tmp_path / "i.npz")), (1, 8, 6), UNIT)


def from_folder(folder: Path, shape: tuple[int, ...] = (3, 8, 6)) -> Images:
    return clean_images(Settings(images_folder=str(folder)), shape, UNIT)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_a_folder_of_pictures_of_any_mode(mode: str, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    flat = [
        np.broadcast_to(colour[:1, :1], colour.shape) for colour in COLOUR
    ]  # one colour: a palette keeps it
    for index, picture in enumerate(flat):
        pillow.fromarray(picture).convert(mode).save(tmp_path / f"{index}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    found = everything(from_folder(tmp_path))
    tolerance = 0.2 if mode == "P" else 1e-6  # the web palette has steps of 51
    np.testing.assert_allclose(found, np.sort(np.stack(flat).ravel() / 255), atol=tolerance)


def test_grey_pictures(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    for index, picture in enumerate(GREY):
        pillow.fromarray(picture).save(tmp_path / f"{index}.png")
    np.testing.assert_allclose(
        everything(from_folder(tmp_path, (1, 8, 6))), np.sort(GREY.ravel() / 255), atol=1e-6
    )


def test_pictures_that_differ_in_size(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(GREY[0]).save(tmp_path / "a.png")
    pillow.fromarray(GREY[0, 1:]).save(tmp_path / "b.png")
    with pytest.raises(UsageError, match="differ in size; resize them"):
        from_folder(tmp_path)


def test_a_picture_cut_short_is_named(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(COLOUR[0]).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:90])
    with pytest.raises(UsageError, match=r"a\.png' cannot be read"):
        from_folder(tmp_path)


@pytest.mark.parametrize("name", ["", "missing"])
def test_folders_without_pictures(name: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    with pytest.raises(UsageError, match="there are no images in the folder"):
        from_folder(tmp_path / name)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match="needs Pillow; pip install"):
        from_folder(tmp_path)


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (7, 1), (8, 2), (64, 16)])
def test_a_quarter_is_held_back_and_one_at_least(count: int, held: int, tmp_path: Path) -> None:
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((8, 6), np.uint8)
    found = from_file(tmp_path, images, (1, 8, 6))
    assert (len(found.shown), len(found.held_back)) == (count - held, held)


def test_without_images_there_is_noise_at_every_scale() -> None:
    found = clean_images(Settings(), (1, 32, 32), (-1.0, 3.0))
    assert found.source == "multi-scale noise (no images given)"
    assert len(found.shown) == len(found.held_back) == 32
    values = [len(np.unique(image)) for image in found.shown[:6]]
    assert values == [1, 4, 16, 64, 256, 1024]
    assert -1 <= found.shown.min() < -0.9
    assert 2.9 < found.shown.max() <= 3
