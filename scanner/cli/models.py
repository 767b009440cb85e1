"""Which model files the words on the command line mean: files, folders, patterns, a list."""
# ruff: noqa: PTH110, PTH112, PTH113, PTH114 - Path's methods may raise, as for a closed folder

import fnmatch
import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner.cli.output import note
from scanner.errors import UsageError

SUFFIX = ".onnx"
_MAGIC = frozenset("*?[")
_LISTED = "-"  # the names stand on stdin, one per line


def models(
    named: Sequence[str], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[str]:
    """Return the files that are meant, each once, in order.

    A folder stands for the .onnx files in it and below, a pattern for the files that it matches. A
    file that is named is taken whatever it is called, so that a missing one is noticed.

    Args:
        named: Files, folders, patterns as of a shell (`**` for any depth), or "-" for names on
            stdin.
        include: Patterns; of what folders and patterns stand for, only what matches one is taken.
            None takes all.
        exclude: Patterns; what matches one is left out.

    Raises:
        UsageError: A name is empty or none that a file can have, a folder or a pattern stands for
            nothing, or nothing is left.
    """
    words = [name for word in named for name in _listed(word)]
    if "" in words:  # which Path takes for the working folder
        raise UsageError("the name of a model is empty", remedy="name a file or a folder")
    if any("\0" in word for word in words):
        raise UsageError(
            "a name on stdin holds a NUL", remedy="write each on a line of its own, as find -print"
        )
    found = list(dict.fromkeys(file for word in words for file in _meant(word)))
    explicit = set(words)
    chosen = [
        file
        for file in found
        if (not include or file in explicit or _matches(file, include))
        and not _matches(file, exclude)
    ]
    if not chosen:
        raise UsageError(
            "no model is left to scan",
            remedy="check the patterns of --include and --exclude"
            if found
            else "name a model on each line of stdin",
        )
    return chosen


def _listed(word: str) -> Iterator[str]:
    """Yield the names that stand on stdin for "-", or else the word itself."""
    if word != _LISTED:
        yield word
        return
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A file's name is any bytes, as on the command line.
        sys.stdin.reconfigure(errors="surrogateescape")
    yield from (name for line in sys.stdin or () if (name := line.strip()))


def _meant(word: str) -> Iterator[str]:
    if os.path.isdir(word):
        inside = _inside(Path(word))
        if not inside:
            raise UsageError(
                f"the folder {word!r} holds no {SUFFIX} file", remedy="name a folder of models"
            )
        yield from inside
    elif _MAGIC & set(word) and not os.path.exists(word):
        import glob  # noqa: PLC0415 - few words are patterns

        matched = sorted(f for f in glob.iglob(word, recursive=True) if is_taken(f))  # noqa: PTH207 - a pattern may be absolute
        if not matched:
            raise UsageError(f"no file matches {word!r}", remedy="check the pattern")
        yield from matched
    else:
        yield word


def _inside(folder: Path) -> list[str]:
    """Return the models in a folder and below, in order, and say what could be one and is not."""
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=_unread):
        for path in (Path(place, name) for name in folders):
            if os.path.islink(path):
                note(f"left out: {path} is a link to a folder; name it to scan what is in it")
        paths = (str(Path(place, name)) for name in names if name.endswith(SUFFIX))
        found += filter(is_taken, paths)
    return sorted(found)


def is_taken(path: str) -> bool:
    """Whether a path is a file; of what is neither that nor a folder, say on stderr what it is."""
    if os.path.isfile(path):
        return True
    if not os.path.isdir(path):
        note(f"left out: {path} {_fault(path)}")
    return False


def _fault(path: str) -> str:
    """Return why a path is no file to read."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return "is a link to nothing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is a pipe or a device"


def _unread(error: OSError) -> None:
    note(f"left out: {error.filename} cannot be read ({error.strerror})")


def _matches(file: str, patterns: Sequence[str]) -> bool:
    """Whether a file's path, or its name alone, matches a pattern."""
    return any(
        fnmatch.fnmatch(Path(file).as_posix(), pattern) or fnmatch.fnmatch(Path(file).name, pattern)
        for pattern in patterns
    )
