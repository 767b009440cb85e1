"""Files that are written into a folder, and never through a link that lies in it."""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Windows has no descriptors of folders; there each step is looked at before it is taken.
_STEP_BY_STEP = os.open in os.supports_dir_fd and os.mkdir in os.supports_dir_fd
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)


def make(folder: Path) -> None:
    """Make a folder where it is missing, and see that it can be written into.

    Raises:
        OSError: It cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_file(folder: Path, steps: Sequence[str], name: str, data: bytes) -> None:
    """Write a new file below a folder, whole or not at all, without following a link on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        here: int | Path = folder
        if _STEP_BY_STEP:
            here = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
            opened.callback(os.close, here)
        for step in steps:
            here = _enter(here, step)
            if isinstance(here, int):
                opened.callback(os.close, here)
        try:
            with os.fdopen(_create(here, name), "wb") as file:
                file.write(data)
        except OSError:
            with contextlib.suppress(OSError):
                _remove(here, name)
            raise


def _enter(parent: int | Path, name: str) -> int | Path:
    """Return a folder inside another, made if it is not there.

    Raises:
        OSError: A link or a file has its name.
    """
    if isinstance(parent, Path):
        (parent / name).mkdir(exist_ok=True)
        if (parent / name).is_symlink() or parent.joinpath(
            name
        ).resolve().parent != parent.resolve():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return parent / name
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os.open(name, os.O_RDONLY | _FOLDER, dir_fd=parent)


def _create(parent: int | Path, name: str) -> int:
    """Return the descriptor of a new file, whatever had its name before."""
    with contextlib.suppress(FileNotFoundError):
        _remove(parent, name)
    if isinstance(parent, Path):
        return os.open(parent / name, _NEW, 0o666)
    return os.open(name, _NEW, 0o666, dir_fd=parent)


def _remove(parent: int | Path, name: str) -> None:
    if isinstance(parent, Path):
        (parent / name).unlink()
    else:
        os.unlink(name, dir_fd=parent)
