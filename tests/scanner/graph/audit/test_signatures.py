"""Formats are recognised by structure: not by first bytes alone, and never in random bytes."""

import io
import pickle
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.audit import content
from scanner.graph.audit.signatures import FORMATS

PICKLES = [pickle.dumps({"a": list(range(20))}, version) for version in range(2, 6)]


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40)
PE = b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + bytes(40)
ROWS = [
    (ELF, "an ELF program"),
    (PE, "a Windows program"),
    (b"\xcf\xfa\xed\xfe\x07\0\0\1" + bytes(24), "a Mach-O program"),
    (b"\0asm\1\0\0\0", "a WebAssembly program"),
    *((each, "a pickle") for each in PICKLES),
    (pickle.dumps(print, 0), "a pickle"),
    (_zip(), "a ZIP archive"),
    (_tar(), "a tar archive"),
    (b"\xfd7zXZ\0" + bytes(8), "data compressed by xz"),
    (b"BZh91AY&SY" + bytes(8), "data compressed by bzip2"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(8), "a 7z archive"),
    (b"%PDF-1.7\n", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n" + bytes(8), "a PNG picture"),
    (b"#!/bin/sh\necho hello\n", "a script"),
    (zlib.compress(bytes(range(256))), "data compressed by zlib"),
]


@pytest.mark.parametrize(("data", "kind"), ROWS, ids=[kind for _, kind in ROWS])
def test_it_is_recognised_at_the_start(data: bytes, kind: str) -> None:
    found = content.at_start(data)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize("magic", sorted({each.magic for each in FORMATS if len(each.magic) < 4}))
def test_first_bytes_alone_are_no_proof(magic: bytes) -> None:
    assert content.of_bytes(magic + b"\xff" * 600) is None


@pytest.mark.parametrize(
    "operations",
    [
        b"\x94" + b"0" + b"\x828" + b".",
        b"K\1" + b"e" + b"\x94" * 9 + b".",
        b"K\1" + b"s" + b"." * 9,
    ],
    ids=["from an empty stack", "without a mark", "more than there is"],
)
def test_what_takes_more_than_lies_on_the_stack_is_no_pickle(operations: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, IndexError, KeyError)):
        pickle.loads(b"\x80\3" + operations)  # noqa: S301 - bytes of our own
    assert content.of_bytes(b"\x80\3" + operations + bytes(64)) is None


@given(st.binary(max_size=3000))
def test_no_bytes_end_in_an_error(data: bytes) -> None:
    content.of_bytes(data)


@given(st.sampled_from([each.magic for each in FORMATS]), st.binary(max_size=1000))
def test_nothing_behind_first_bytes_ends_in_an_error(magic: bytes, data: bytes) -> None:
    content.of_bytes(magic + data)


def test_random_bytes_hold_nothing() -> None:
    data = np.random.default_rng(0).bytes(8 << 20)
    assert list(content.all_within(data, 5)) == []
    assert [at for at in range(0, 1 << 20, 512) if content.at_start(data[at : at + 4096])] == []
