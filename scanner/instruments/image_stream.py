"""Inputs read a part at a time, so that memory does not grow with their number.

What may be read, and how a file that was built to exhaust its reader is refused, is as in
`scanner.instruments.image_files`.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from scanner.errors import UsageError
from scanner.instruments import image_files

Named = tuple[str, npt.NDArray[np.generic]]
"""What an input is called, and its pixels."""
_ARRAYS = (".npz", ".npy")
_BYTES = 2**26  # read from an array at a time


def stream(path: Path) -> Iterator[Named]:
    """Yield the images of a folder, in the order of their names, of an array, or of one picture.

    Raises:
        UsageError: There are none, or one cannot be read or is too large.
    """
    if path.is_dir():
        yield from _some(path, image_files.pictures(image_files.files_of(path)))
    elif path.suffix.lower() in _ARRAYS:
        yield from _some(path, _of_array(path))
    else:
        yield from _some(path, image_files.pictures([path]))


def _some(path: Path, images: Iterator[Named]) -> Iterator[Named]:
    """Yield images, one at least.

    Raises:
        UsageError: There are none.
    """
    first = next(images, None)
    if first is None:
        raise UsageError(
            f"there are no images in {str(path)!r}",
            remedy="name a folder of PNG or JPEG files, or an .npz file",
        )
    yield first
    yield from images


def _of_array(path: Path) -> Iterator[Named]:
    """Yield the images of an .npy file, or of the only or aptly named member of an .npz.

    Raises:
        UsageError: It is not such a file, or damaged.
    """
    number = 0
    with contextlib.ExitStack() as opened:
        try:
            file, size = _entered(path, opened)
            for part in _parts(file, size):
                for image in part:
                    yield str(number), image
                    number += 1
        except image_files.ERRORS as error:
            raise image_files.unreadable(path, error) from error


def _entered(path: Path, opened: contextlib.ExitStack) -> tuple[IO[bytes], int]:
    """Open an array for reading from its start; return it and its bytes."""
    file = opened.enter_context(image_files.open_file(path))
    if not zipfile.is_zipfile(file):
        file.seek(0)
        return file, os.fstat(file.fileno()).st_size
    file.seek(0)
    archive = opened.enter_context(zipfile.ZipFile(file))
    member = image_files.member(path, archive.infolist())
    return opened.enter_context(archive.open(member)), member.file_size


def _parts(file: IO[bytes], size: int) -> Iterator[npt.NDArray[np.generic]]:
    """Yield an array some images at a time.

    Raises:
        ValueError: It is not one, cut short, or an image is too large.
    """
    shape, in_columns, dtype = image_files.header(file)
    if not shape:
        raise ValueError("a single number")
    image = math.prod(shape[1:]) * dtype.itemsize
    if in_columns and len(shape) > 1:  # then the first image ends where the file does
        yield image_files.rest(file, shape, dtype, size).reshape(shape, order="F")
        return
    if not image or image > image_files.LARGEST:
        raise ValueError(f"images of {image:,} bytes")
    if image * shape[0] > size:
        raise ValueError("cut short")
    at_once, left = max(1, _BYTES // image), shape[0]
    while left:
        count = min(at_once, left)
        data = file.read(count * image)
        if len(data) < count * image:
            raise ValueError("cut short")
        yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
        left -= count
