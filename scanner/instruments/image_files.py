"""A user's images, read from files that may have been built to exhaust or to hang their reader.

Sizes are read off headers and checked before anything is decompressed or allocated; nothing is
unpickled; pipes and devices are refused without waiting for them.
"""

import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from scanner.errors import UsageError

LARGEST = 2**31  # bytes of all images together, as they lie in memory
MOST_PIXELS = 2**24  # of one picture in a folder, 4096 x 4096
MOST_MEMBERS = 1024  # of an archive
# What photographs and data sets come in. Pillow knows forty more, some of them by calling programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# Those that NumPy writes. Others can grow a millionfold, and deflate a thousandfold at most.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_AGAIN = "save the images with numpy.savez"
# What reading a damaged array raises.
ERRORS = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_PLAIN_MODES = {
    "1": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGBA": "RGB",
    "CMYK": "RGB",
}  # Pillow's names


def from_file(path: Path) -> npt.NDArray[np.generic]:
    """Return the array of an .npy file, or of the only or the aptly named member of an .npz.

    Raises:
        UsageError: There is none, or it is too large.
    """
    try:
        with open_file(path) as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return _array(file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                inner = member(path, archive.infolist())
                with archive.open(inner) as inside:
                    return _array(inside, inner.file_size)
    except ERRORS as error:
        raise unreadable(path, error) from error


def labels_from_file(path: Path, name: str = "labels") -> npt.NDArray[np.int64] | None:
    """Return an array of an .npz that holds a class for each image; None where there is none.

    Args:
        path: The file.
        name: Of the array.

    Raises:
        UsageError: It is too large, or holds no whole numbers.
    """
    try:
        with open_file(path) as file:
            if not zipfile.is_zipfile(file):
                return None
            file.seek(0)
            with zipfile.ZipFile(file) as archive:
                members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
                member = members.get(name)
                if member is None or member.compress_type not in _METHODS:
                    return None
                with archive.open(member) as inside:
                    found = _array(inside, member.file_size)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(f"the {name} in {str(path)!r} cannot be read", remedy=_AGAIN) from error
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise UsageError(
            f"the {name} in {str(path)!r} are {found.dtype} in the shape {found.shape}",
            remedy="give one whole number for each image",
        )
    return found.astype(np.int64)


def unreadable(path: Path, error: Exception) -> UsageError:
    """Return what to say of a file that is not one of arrays."""
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no file {str(path)!r}", remedy="check the path")
    if isinstance(error, IsADirectoryError):
        return UsageError(
            f"{str(path)!r} is a folder, and a file of arrays is wanted",
            remedy="name a folder of pictures with the setting `images_folder`",
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return UsageError(f"{str(path)!r} holds no arrays ({reason})", remedy=_AGAIN)


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file.

    Raises:
        OSError: It cannot be opened, or is something else.
    """
    file = os.fdopen(os.open(path, _READ), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError("a folder, a pipe or a device, not a file")
    return file


def member(path: Path, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """Return the member of an archive that holds the images.

    Raises:
        ValueError: There are too many, or it is compressed as NumPy does not.
        UsageError: There are several, and none is called "images".
    """
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"more than {MOST_MEMBERS} members")
    by_name = {each.filename.removesuffix(".npy"): each for each in members}
    if "images" not in by_name and len(by_name) != 1:
        raise UsageError(
            f"{str(path)!r} holds the arrays {sorted(by_name)}",
            remedy="call the array of images 'images'",
        )
    found = by_name.get("images") or members[0]
    if found.compress_type not in _METHODS:
        raise ValueError("compressed by a method that NumPy does not write")
    return found


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header of an array: its shape, whether it lies column by column, and its type.

    Raises:
        ValueError: It is not one, or of objects.
    """
    try:
        version = npy.read_magic(stream)
    except ValueError as error:  # whose words show the bytes
        raise ValueError("neither .npy nor .npz, or cut short") from error
    if version not in _HEADERS:
        raise ValueError("of a version of the format that NumPy writes for no images")
    shape, in_columns, dtype = _HEADERS[version](stream)
    if dtype.hasobject or dtype.subdtype is not None or dtype.names is not None:
        raise ValueError("objects or records, not numbers")
    return shape, in_columns, dtype


def _array(stream: IO[bytes], size: int) -> npt.NDArray[np.generic]:
    """Read an array in NumPy's format, if its shape is that of so many bytes.

    Raises:
        ValueError: It is not one, is larger than it says, or than is allowed.
    """
    shape, in_columns, dtype = header(stream)
    return rest(stream, shape, dtype, size).reshape(shape, order="F" if in_columns else "C")


def rest(
    stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[np.generic], size: int
) -> npt.NDArray[np.generic]:
    """Read the numbers behind a header, as they lie in the file.

    Raises:
        ValueError: They are more than the file can hold, or than is allowed.
    """
    needed = math.prod(shape) * dtype.itemsize
    if needed > LARGEST:
        raise ValueError(f"{needed:,} bytes, more than {LARGEST:,}")
    if needed > size:
        raise ValueError("cut short")
    data = stream.read(needed)
    if len(data) < needed:
        raise ValueError("cut short")
    return np.frombuffer(data, dtype)


def from_folder(path: Path) -> npt.NDArray[np.generic]:
    """Return the pictures of a folder, in the order of their names.

    Raises:
        UsageError: There are none, one cannot be read or is too large, or they differ in size.
    """
    images: list[npt.NDArray[np.generic]] = []
    held = 0
    for _, image in pictures(files_of(path)):
        images.append(image)
        held += image.nbytes
        if held > LARGEST:
            raise UsageError(
                f"the images in {str(path)!r} take more than {LARGEST:,} bytes",
                remedy="name a folder of fewer images: some hundred are enough",
            )
    if not images:
        raise UsageError(
            f"there are no images in the folder {str(path)!r}",
            remedy="name a folder of PNG or JPEG files",
        )
    if len({image.shape for image in images}) > 1:
        raise UsageError(
            f"the images in {str(path)!r} differ in size", remedy="resize them to the model's input"
        )
    return np.stack(images)


def files_of(path: Path) -> list[Path]:
    """Return the files of a folder in the order of their names."""
    return sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else []


def pictures(files: Iterable[Path]) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
    """Yield the name and the pixels of each file that is a picture.

    Raises:
        UsageError: One cannot be read or is too large, or Pillow is missing.
    """
    try:
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - an optional extra, needed only here
    except ImportError as error:
        raise UsageError(
            "reading image files needs Pillow",
            remedy="pip install 'overactivation[images]', or save the images in one file for the "
            "setting `images_file`",
        ) from error
    for name in files:
        try:
            with open_file(name) as file, Image.open(file, formats=_FORMATS) as image:
                yield name.name, _pixels(image)
        except UnidentifiedImageError:
            continue
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UsageError(
                f"the image {str(name)!r} cannot be read ({error})",
                remedy="save it again, or take it away",
            ) from error


def _pixels(image: Any) -> npt.NDArray[np.generic]:
    """Decode a picture, once its header has told its size.

    Raises:
        ValueError: It is too large.
    """
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are too many")
    return np.asarray(image.convert(_PLAIN_MODES.get(image.mode, image.mode)))
