"""Content counts, whatever it is wrapped in; noise is told from prose, numbers and weights."""

import base64
import gzip
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.audit import content
from scanner.graph.audit.signatures import Family

ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(600)
RANDOM = np.random.default_rng(1).bytes(6000)


def test_wrappings_are_opened_and_told() -> None:
    text = base64.b64encode(gzip.compress(ELF)).decode()
    found = content.of_text(f'{{"stride": 32, "blob": "{text}"}}')
    assert found is not None
    assert str(found) == "an ELF program in gzip in base64"
    assert found.family is Family.PROGRAM


@pytest.mark.parametrize("gap", [0, 4, 8, 1000])
def test_it_may_lie_behind_other_bytes(gap: int) -> None:
    found = content.of_bytes(RANDOM[:gap] + ELF)
    assert found is not None
    assert (found.kind, found.start) == ("an ELF program", gap)


@pytest.mark.parametrize("start", range(0, 40, 7))
def test_a_text_of_one_byte_per_character_is_bytes(start: int) -> None:
    data = pickle.dumps({"key": list(range(start, start + 200))})
    found = content.of_text(data.decode("latin-1"))
    assert found is not None
    assert found.family is Family.PICKLE


@given(st.text(max_size=2000))
def test_no_text_ends_in_an_error(text: str) -> None:
    content.of_text(text)
    content.noisy_text(text)
    content.encoded(text)


def test_noise_is_what_is_compressed_or_encrypted() -> None:
    weights = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    assert content.noise(RANDOM) is not None
    assert content.noise(weights.tobytes()) is None
    assert content.noise(b"The quick brown fox " * 200) is None
    assert content.noise(RANDOM[:500]) is None


@pytest.mark.parametrize(
    "encode", [base64.b64encode, base64.b85encode, base64.b32encode, lambda raw: raw.hex().encode()]
)
def test_encoded_noise_is_noise(encode: Callable[[bytes], bytes]) -> None:
    assert content.noisy_text(f"key: {encode(RANDOM).decode()}")


@pytest.mark.parametrize(
    "text",
    [
        "MIT License. Permission is hereby granted, free of charge, to any person. " * 40,
        str({number: f"class {number}" for number in range(300)}),
        "/model/encoder/layer.1/attention/self/query/MatMul_output_0 " * 60,
        "\n".join(chr(0x4E00 + number) for number in range(3000)),
        "3b1f5c0e9d2a47f8" * 4,
    ],
    ids=["licence", "classes", "names", "characters", "digest"],
)
def test_what_exporters_write_is_no_noise(text: str) -> None:
    assert content.of_text(text) is None
    assert content.noisy_text(text) == 0
    assert content.encoded(text) == 0


def test_text_has_more_than_a_few_letters() -> None:
    assert content.is_text(b"import numpy as np\nprint(np.pi)\n" * 8)
    assert not content.is_text(b"@" * 500)
    assert not content.is_text(RANDOM)


def test_a_file_is_a_polyglot_as_a_whole_only() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    assert content.polyglot(RANDOM + file.getvalue()) == "a ZIP archive"
    assert content.polyglot(RANDOM[:300] + b"%PDF-1.4" + RANDOM) == "a PDF document"
    assert content.polyglot(RANDOM[:300] + b"<script>" + RANDOM) == "a web page"
    assert content.polyglot(RANDOM + b"PK\5\6" + RANDOM) is None
    assert content.polyglot(RANDOM) is None


@pytest.mark.parametrize("decoy", [b"PK\3\4", b"MZ", b"\x80\2" + b"K\1" * 30, b"\x1f\x8b\x08\0"])
def test_decoys_neither_hide_something_in_silence_nor_take_long(decoy: bytes) -> None:
    found = list(content.all_within(decoy * (200_000 // len(decoy)), 3))
    assert [each.family for each in found] == [Family.UNKNOWN]
    assert "beginnings" in found[0].kind


def test_small_halves_are_no_beginnings_of_pickles() -> None:
    """The least negative halves look like the first two bytes of a pickle."""
    halves = np.full(40_000, 0x0280, ">u2").tobytes()
    halves = b"\x80\x02" * 40_000 + halves
    assert list(content.all_within(halves, 1)) == []


def test_a_stream_that_is_damaged_further_on_is_opened_up_to_there() -> None:
    numbers = np.random.default_rng(2).integers(0, 1 << 30, 8000)
    whole = zlib.compress(ELF + b",".join(b"%d" % number for number in numbers), 9)
    damaged = whole[:9000] + b"\xff" * 200 + whole[9000:]
    found = content.of_bytes(damaged)
    assert found is not None
    assert str(found) == "an ELF program in zlib"
