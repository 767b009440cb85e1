"""Files of JSON that somebody else wrote: read within limits, or refused in a few words."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner import jsonfile
from scanner.jsonfile import UnreadableError, parse, read


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    path.touch()
    os.truncate(path, jsonfile.LARGEST + 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, "cannot be read"),
        (Path.mkdir, "a folder, a pipe or a device"),
        (os.mkfifo, "a folder, a pipe or a device"),
        (endless, "a folder, a pipe or a device"),
        (large, "more than 64 MiB"),
    ],
    ids=["missing", "folder", "pipe", "device", "large"],
)
def test_what_is_no_file_of_that_size_is_refused_at_once(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    make(tmp_path / "file")
    start = time.monotonic()
    with pytest.raises(UnreadableError, match=reason):
        read(tmp_path / "file")
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"[" + b"[]," * 2**21 + b"[]]", "more than 2,097,152 values"),
        (b"[NaN]", "not valid JSON"),
        (b"[-Infinity]", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"1" * 5000, "not valid JSON"),
        (b"", "not valid JSON"),
    ],
    ids=["lists", "objects", "many", "nan", "infinity", "bytes", "digits", "empty"],
)
def test_what_is_not_json_within_limits_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        parse(data)


def test_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"é": [1, 2.5, null]}', encoding="utf-8")
    assert parse(read(tmp_path / "file")) == {"é": [1, 2.5, None]}
