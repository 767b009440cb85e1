"""How a text is written."""

import random
import string

import numpy as np
import pytest
from models import plain

from scanner.graph.audit.places import Place, places
from scanner.graph.audit.writing import Writing, _of_digits, even_bytes
from scanner.modelfile.nested import Contents

GENERATOR = random.Random(13)  # noqa: S311 - no secret
PROSE = (
    "The model was trained on photographs of road signs, and it knows forty-three classes. "
    "It was not tested at night, nor in rain, and should not steer anything by itself. "
) * 6
BITS = [GENERATOR.random() < 0.5 for _ in range(2000)]


def told(text: str) -> list[str]:
    model = plain()
    model.doc_string = text
    writing = Writing()
    for place in places(Contents(model)):
        if isinstance(place.held, str):
            writing.look(place, place.held)
    return [o.sentence for o in writing.told()]


def twisted(words: list[str], way: str) -> str:
    if way == "spaces":
        pairs = zip(words, BITS, strict=False)
        return "".join(word + ("  " if bit else " ") for word, bit in pairs)
    if way == "line ends":
        return "\n".join(
            word + (" " if bit else "\t") for word, bit in zip(words, BITS, strict=False)
        )
    if way == "kinds":
        pairs = zip(words, BITS, strict=False)
        return "".join(word + ("\u2009" if bit else "\u00a0") for word, bit in pairs)
    if way == "alphabets":
        return " ".join(words).replace("e", "\u0435")
    letters = "".join(f"{word} " for word in words)
    return "".join(c.upper() if b else c for c, b in zip(letters, BITS, strict=False))


@pytest.mark.parametrize("way", ["spaces", "line ends", "kinds", "alphabets", "capitals"])
def test_what_carries_bits_beside_its_words(way: str) -> None:
    assert len(told(twisted(PROSE.split(), way))) == 1


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        PROSE.replace(". ", ".  "),
        "\n".join(f"{name:<20} {number:>8}" for number, name in enumerate(PROSE.split())),
        "\u041c\u043e\u0434\u0435\u043b\u044c \u0437\u043d\u0430\u043a\u043e\u0432 " * 40,
        "BatchNormalization GlobalAveragePool torchVision resNet50 " * 40,
        "\u8fd9\u4e2a\u6a21\u578b\u8bc6\u522b\u4ea4\u901a\u6807\u5fd7" * 20,
        "\n".join(f"package-{n}=={n % 7}.{n % 11}.{n % 5}" for n in range(200)),
        ",".join(f"{0.9 ** (n / 7):.6f}" for n in range(200)),
        ",".join(f"{n % 40 / 40:.3f}" for n in range(400)),
        " ".join(map(str, range(256))),
    ],
    ids=[
        "prose", "typist", "table", "russian", "camels", "chinese", "requirements", "losses",
        "shares", "counted",
    ],
)  # fmt: skip
def test_what_people_and_programs_write_is_none(text: str) -> None:
    assert told(text) == []


def test_characters_that_are_data() -> None:
    rare = "".join(chr(0x4E00 + GENERATOR.randrange(20000)) for _ in range(120))
    braille = "".join(chr(0x2800 + GENERATOR.randrange(256)) for _ in range(120))
    assert "hardly used" in told(rare)[0]
    assert "no description is written in" in told(braille)[0]
    # A table of characters has them one by one.
    assert told("\n".join(rare)) == []


def test_numbers_that_are_bytes() -> None:
    octets = [GENERATOR.randrange(256) for _ in range(300)]
    versions = [f"p=={a}.{b}.{c}" for a, b, c in zip(*[iter(octets)] * 3, strict=True)]
    assert "as even as bytes" in told("\n".join(versions))[0]
    losses = ",".join(f"{octet / 512:.6f}" for octet in octets)
    assert "multiples of one step" in told(losses)[0]
    assert even_bytes([str(octet) for octet in octets]) == 300
    assert even_bytes([str(octet % 40) for octet in octets]) == 0


def test_names_of_operators_are_passed_over() -> None:
    model = plain()
    place = Place(model.graph.node[0], model.graph.node[0].DESCRIPTOR.fields_by_name["op_type"], "")
    writing = Writing()
    writing.look(place, twisted(list(string.ascii_lowercase) * 40, "spaces"))
    assert list(writing.told()) == []


def test_digits_of_bytes_behind_measured_ones() -> None:
    draw = np.random.default_rng(4)
    loss = [f"{value:.4f}" for value in draw.uniform(0.1, 2, 200)]
    load = [f"{number:08d}" for number in draw.integers(0, 1 << 24, 200)]
    plain = [f"{number:08d}" for number in draw.integers(0, 10**8, 200)]
    assert _of_digits(" ".join(map("".join, zip(loss, load, strict=True)))) == 200
    assert _of_digits(" ".join(map("".join, zip(loss, plain, strict=True)))) == 0


@pytest.mark.parametrize("count", [7, 768, 10_000, 60_000])
def test_digits_of_ratios_and_of_rounded_numbers(count: int) -> None:
    numbers = np.random.default_rng(5).integers(0, count, 300) / count
    assert _of_digits(" ".join(f"{number:.12f}" for number in numbers)) == 0
    narrow = np.round(numbers, 4).astype(np.float32).astype(float)
    assert _of_digits(" ".join(f"{number:.16f}" for number in narrow)) == 0
