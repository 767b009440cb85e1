"""External data: the second files that a model names, read by our own rules.

ONNX Runtime never opens one. A location is the way for a model to read somebody else's files: by
`..` and absolute paths (CVE-2022-25882, CVE-2024-27318), by links in place of the file
(CVE-2026-34447) or of a folder on the way (CVE-2026-27489), by hard links (CVE-2026-34446). So a
file is opened component by component without following links, the checks look at what was opened,
and a file that is read again must not have changed.
"""

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.modelfile import blob_cache, held, tensor_sizes

_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# Without O_NONBLOCK, opening a FIFO would hang.
_NO_SURPRISES = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_MOST_SPARE = 1 << 24  # bytes of one file that belong to no tensor and are looked at
_STEP_BY_STEP = os.open in os.supports_dir_fd


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """Where a tensor says its data is.

    Attributes:
        path: Relative to the model's folder.
        offset: In bytes.
        length: In bytes; None stands for the rest of the file.
    """

    path: str
    offset: int
    length: int | None


class Folder:
    """The folder of a model, from which its external data is read.

    Args:
        path: The folder.
        blobs: Where a download cache keeps its files, if the model is a link into one
            (`scanner.modelfile.blob_cache`): the data may then be a link into the same folder.
    """

    def __init__(self, path: Path, blobs: Path | None = None) -> None:
        self._path, self._blobs = path, blobs
        self._seen: dict[str, tuple[int, ...]] = {}
        self._held: dict[tuple[Location, int, tuple[int, ...]], str] = {}

    def inline(self, tensor: onnx.TensorProto) -> None:
        """Replace a tensor's reference to external data with the data.

        Raises:
            UnsafeModelError: The location is outside the folder, a link, or not a regular file.
            MalformedModelError: The reference is unreadable, or the file is missing, too short or
                has changed.
        """
        place, want, problem = _wanted(tensor)
        tensor.raw_data = self._read(place, want, problem)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT

    def hold(self, tensor: onnx.TensorProto) -> None:
        """Let a tensor refer to its data in memory, which is read once for all graphs.

        Raises:
            UnsafeModelError: As by `inline`.
            MalformedModelError: As by `inline`.
        """
        place, want, problem = _wanted(tensor)
        key = (place, tensor.data_type, tuple(tensor.dims))
        if key in self._held:
            held.refer(tensor, self._held[key])
            return
        held.put(tensor, held.read_as(tensor, self._read(place, want, problem)))
        held.claim(self, [tensor])
        self._held[key] = str(held.place_of(tensor))

    def spare(self, tensors: Iterable[onnx.TensorProto]) -> Iterator[tuple[str, int, bytes]]:
        """Yield what data files hold that belongs to no tensor, put together.

        Tensors are aligned by zeros; a stretch of nothing else is left out.

        Args:
            tensors: All that refer to external data, none of which was refused by `inline`.

        Yields:
            A file's path, how many bytes it has to spare, and the first of them, 16 MiB at most.

        Raises:
            UnsafeModelError: As by `inline`.
            MalformedModelError: As by `inline`.
        """
        taken: dict[str, list[tuple[int, int]]] = {}
        for tensor in tensors:
            place = location(tensor)
            end = place.offset + (tensor_sizes.data_bytes(tensor) or 0)
            taken.setdefault(place.path, []).append((place.offset, end))
        for path, ranges in taken.items():
            descriptor, status = _open(self._path, path, self._blobs)
            with os.fdopen(descriptor, "rb") as file:
                size, found = 0, bytearray()
                for start, end in _between(ranges, status.st_size):
                    file.seek(start)
                    held = file.read(min(end - start, _MOST_SPARE - len(found)))
                    if held.strip(b"\0") or end - start > len(held):
                        size += end - start
                        found += held
            if size:
                yield path, size, bytes(found)

    def _read(self, place: Location, length: int, problem: str) -> bytes:
        try:
            descriptor, before = _open(self._path, place.path, self._blobs)
        except (UnsafeModelError, MalformedModelError) as error:
            raise type(error)(f"{problem}, {error.problem}", remedy=error.remedy) from error
        try:
            if place.offset + length > before.st_size:
                raise MalformedModelError(
                    f"{problem}, which is too short", remedy="download the data file again"
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                file.seek(place.offset)
                data = file.read(length)
            after = _fingerprint(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        if self._seen.setdefault(place.path, _fingerprint(before)) != after or len(data) != length:
            raise MalformedModelError(
                f"{problem}, which changed during the scan",
                remedy="scan it again when it is complete",
            )
        return data


def _wanted(tensor: onnx.TensorProto) -> tuple[Location, int, str]:
    """Return where a tensor's data is, how many bytes, and how a complaint about it begins.

    Raises:
        MalformedModelError: The reference is unreadable, or does not fit the tensor's shape.
    """
    place, want = location(tensor), tensor_sizes.data_bytes(tensor)
    problem = f"the tensor {tensor.name!r} takes its data from {place.path!r}"
    if want is None:
        raise MalformedModelError(
            f"{problem}, and is of a type that cannot be stored there",
            remedy="do not use this file",
        )
    if place.length not in (None, want):
        raise MalformedModelError(
            f"{problem}: {place.length:,} bytes for a shape that takes {want:,}",
            remedy="do not use this file",
        )
    return place, want, problem


def _between(ranges: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a file of a size that lie in none of some ranges."""
    reached = 0
    for start, end in (*sorted(ranges), (size, size)):
        if start > reached:
            yield reached, start
        reached = max(reached, end)


def location(tensor: onnx.TensorProto) -> Location:
    """Return a tensor's reference to external data.

    Raises:
        MalformedModelError: A key is missing or repeated, or a number is malformed.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    numbers = [entries.get(key, "0") for key in ("offset", "length")]
    usable = all(n.isascii() and n.isdecimal() and len(n) < 20 for n in numbers)  # noqa: PLR2004 - 64 bits
    if len(entries) != len(tensor.external_data) or not entries.get("location") or not usable:
        raise MalformedModelError(
            f"the tensor {tensor.name!r} has an unreadable reference to external data",
            remedy="do not use this file",
        )
    length = int(numbers[1]) if "length" in entries else None
    return Location(entries["location"], int(numbers[0]), length or None)


def of_model(path: Path) -> Folder:
    """Return the folder of a model, given the model's own path."""
    return Folder(path.parent, _blobs(path))


def _blobs(path: Path) -> Path | None:
    found = blob_cache.blob(path)
    return None if found is None else found.parent


def trespass(model: Path, path: str) -> str | None:
    """Say why a location is not a file of the model's own.

    These are the rules by which external data is read. A file that is missing or cannot be opened
    trespasses on nothing.

    Args:
        model: Where the model lies.
        path: The location, as the file states it.

    Returns:
        The reason in words, or None.
    """
    try:
        descriptor, _ = _open(model.parent, path, _blobs(model))
    except UnsafeModelError as error:
        return error.problem
    except MalformedModelError:
        return None
    os.close(descriptor)
    return None


def _open(folder: Path, path: str, blobs: Path | None) -> tuple[int, os.stat_result]:
    """Open a file of the model's own, and return its descriptor and status.

    Of a model that is a link into `blobs`, a link to a file there is the model's own as well.

    Raises:
        UnsafeModelError: It is outside the folder, a link, or not a regular file.
        MalformedModelError: It is missing, cannot be opened, or the path names no file.
    """
    parts = _parts(path)
    blob = None if blobs is None else blob_cache.blob(folder.joinpath(*parts))
    if blob is not None and blob.parent == blobs:
        folder, parts = blob.parent, (blob.name,)
    try:
        descriptor = _descend(folder, parts)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MalformedModelError(
            "which is not there", remedy="put the data file next to the model"
        ) from error
    except (OSError, ValueError) as error:
        raise _refusal(error) from error
    try:
        return descriptor, _checked(os.fstat(descriptor))
    except UnsafeModelError:
        os.close(descriptor)
        raise


def _parts(path: str) -> tuple[str, ...]:
    """Return the components of a relative path that stays in its folder on POSIX and Windows."""
    for flavour in (PurePosixPath(path), PureWindowsPath(path)):
        if flavour.anchor or flavour.drive or ".." in flavour.parts:
            raise UnsafeModelError("outside the model's folder", remedy="do not use this file")
    if not Path(path).parts or ":" in path:
        raise MalformedModelError("which names no file", remedy="do not use this file")
    return Path(path).parts


def _descend(folder: Path, parts: tuple[str, ...]) -> int:
    """Open a file below a folder without following a link on the way."""
    if not _STEP_BY_STEP:
        steps = [folder.joinpath(*parts[: i + 1]) for i in range(len(parts))]
        if any(step.is_symlink() for step in steps):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.open(steps[-1], _READ)
    with contextlib.ExitStack() as opened:
        step = os.open(folder, _READ | getattr(os, "O_DIRECTORY", 0))
        opened.callback(os.close, step)
        for name in parts[:-1]:
            if stat.S_ISLNK(os.lstat(name, dir_fd=step).st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            step = os.open(name, _READ | _FOLDER, dir_fd=step)
            opened.callback(os.close, step)
        return os.open(parts[-1], _READ | _NO_SURPRISES, dir_fd=step)


def _refusal(error: Exception) -> UnsafeModelError | MalformedModelError:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return UnsafeModelError("a symbolic link", remedy="replace the link with the file itself")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return MalformedModelError(
        f"which cannot be read ({reason})", remedy="check the name and its permissions"
    )


def _checked(status: os.stat_result) -> os.stat_result:
    """Return the status of an open file that is regular and has only one name."""
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeModelError("not a regular file", remedy="do not use this file")
    if status.st_nlink > 1:
        raise UnsafeModelError("a hard link", remedy="copy the data file, so that it has one name")
    return status


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
