"""Texts of one kind of place, looked at together."""

import base64
import gzip
import string

import numpy as np
import pytest
from models import plain

from scanner.graph.audit import carried, streams
from scanner.graph.audit.places import places
from scanner.modelfile.nested import Contents
from scanner.results import Severity

LOAD = gzip.compress(
    b"A load that is cut into the names of nodes, and means no harm. " * 4, mtime=0
)
NOISE = np.random.default_rng(3).bytes(700)


def cut(text: str, size: int = 24) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("hexadecimal", bytes.hex),
        ("base32", lambda load: base64.b32encode(load).decode()),
        ("base32", lambda load: base64.b32encode(load).decode().lower()),
        ("base64", lambda load: base64.b64encode(load).decode()),
    ],
)
@pytest.mark.parametrize(
    "named", ["{piece}", "n{at}_{piece}", "/layers.{piece}/Add", "{at:03d}.{piece}"]
)
def test_pieces_are_put_together_whatever_stands_around_them(
    encoding: str, encode: object, named: str
) -> None:
    assert callable(encode)
    texts = [named.format(at=at, piece=piece) for at, piece in enumerate(cut(encode(LOAD)))]
    seen = streams.held(texts)
    assert seen is not None
    assert seen.kind == "data compressed by gzip"
    assert seen.wrapping[0] == encoding


def test_pieces_that_are_encoded_one_by_one() -> None:
    load = b"import os, socket\nexec(compile(open('x').read(), 'x', 'exec'))\n# the end\n"
    texts = [base64.b64encode(load[at : at + 10]).decode() for at in range(0, len(load), 10)]
    seen = streams.held(texts)
    assert seen is not None
    assert (seen.kind, seen.wrapping) == ("a Python script", ("base64",))


def test_numbers_of_names_are_bytes() -> None:
    seen = streams.held([f"/node_{octet}/Add" for octet in LOAD])
    assert seen is not None
    assert seen.wrapping == ("decimal numbers",)
    assert streams.held([f"/node_{at}/Add" for at in range(200)]) is None


def test_random_letters_are_counted_and_names_are_not() -> None:
    honest = [f"/layers.{n}/attention/self/query/MatMul_output_{n}" for n in range(200)]
    honest += [f"onnx::Conv_{n}" for n in range(200)] + ["StatefulPartitionedCall/model/dense/Relu"]
    assert streams.random_characters(honest) == 0
    texts = cut(NOISE.hex(), 32)
    assert streams.random_characters([*honest, *texts]) > 0.8 * len(NOISE.hex())
    assert streams.random_characters(texts[:1] * 50) <= 32  # what repeats says nothing new


def test_short_pieces_look_random_together() -> None:
    texts = [f"n{at}_{piece}" for at, piece in enumerate(cut(base64.b32encode(NOISE).decode(), 5))]
    assert streams.random_characters(texts) > 500


def test_names_in_random_letters_are_a_note() -> None:
    model = plain()
    for at, piece in enumerate(cut(NOISE.hex(), 200)):
        model.graph.value_info.add(name=f"{at}_{piece}")
    (found,) = (o for o in carried.observe(model, b"") if o.code == "random-text")
    assert (found.severity, found.nodes) == (Severity.NOTE, ("ValueInfoProto.name",))


def test_a_field_that_exporters_leave_empty_is_told_when_it_is_full() -> None:
    model = plain()
    model.domain = "the quick brown fox " * 2
    assert "full-field" not in {o.code for o in carried.observe(model, b"")}
    model.domain *= 2
    (found,) = (o for o in carried.observe(model, b"") if o.code == "full-field")
    assert found.nodes == ("ModelProto.domain",)
    assert found.details["characters"] == 80


def test_punctuation_in_names_is_told() -> None:
    model = plain()
    model.graph.node[0].name = string.punctuation * 4
    (found,) = (o for o in carried.observe(model, b"") if o.code == "unusual-characters")
    assert found.nodes == ("NodeProto.name",)
    model.graph.node[0].name = "a@b" * 300  # of one kind, as some converters write them
    assert "unusual-characters" not in {o.code for o in carried.observe(model, b"")}


def named(numbers: list[int], form: str = "onnx::MatMul_{}") -> list[str]:
    model = plain()
    for number in numbers:
        model.graph.node.add(op_type="Relu", name=form.format(number))
    kept = streams.Streams()
    for place in places(Contents(model)):
        if isinstance(place.held, str):
            kept.look(place, place.held)
    return [o.sentence for o in kept.told()]


def test_numbers_in_names_that_are_no_counters() -> None:
    draw = np.random.default_rng(6)
    for digits in (7, 12, 25):
        numbers = [int("".join(map(str, draw.integers(1, 10, digits)))) for _ in range(48)]
        (found,) = named(numbers)
        assert "no counters" in found


@pytest.mark.parametrize(
    "numbers",
    [
        list(range(100_000, 100_400)),  # a counter of a large network
        [1_700_000_000_000_000_000 + n * 7919 for n in range(40)],  # times
        [(1 << 63) - 1, 12345678901234567] * 20,  # a limit and a digest
        [n * n * 40 for n in range(20, 200)],  # a counter that skips
    ],
)
def test_counters_and_times_are_none_of_these(numbers: list[int]) -> None:
    assert named(numbers) == []
