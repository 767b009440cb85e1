"""What bits of weights show: three replaced bytes, text, a part that was not widened. No more."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from scanner.graph.audit.mantissas import EVEN, WINDOW, Oddness, evenness, look

GENERATOR = np.random.default_rng(4)
NOISE = GENERATOR.integers(0, 256, (3 * WINDOW, 3), np.uint8)


def weights(seed: int = 0, count: int = 3 * WINDOW) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def seen(array: np.ndarray) -> Oddness:
    return look(numpy_helper.from_array(array, "weights"))


def replaced(count: int, numbers: int = 3 * WINDOW) -> np.ndarray:
    rows = weights().view(np.uint8).reshape(-1, 4)
    rows[:numbers, :count] = NOISE[:numbers, :count]
    return rows.reshape(-1).view(np.float32)


@given(st.integers(0, 10_000), st.floats(-6, 3), st.sampled_from(["normal", "uniform", "laplace"]))
def test_weights_of_any_size_are_honest(seed: int, size: float, shape: str) -> None:
    drawn = getattr(np.random.default_rng(seed), shape)(size=WINDOW) - (shape == "uniform") / 2
    assert seen((drawn * 10.0**size).astype(np.float32)) == Oddness()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(WINDOW, np.float32),
        np.linspace(-1, 1, 3 * WINDOW, dtype=np.float32),
        weights().astype(np.float16).astype(np.float32),
        np.where(weights() > 0, weights(), 0),
        np.round(weights() * 127) / np.float32(127),
        weights().astype(np.float16),
        np.arange(WINDOW),
    ],
    ids=["zeros", "steps", "widened", "pruned", "quantised", "halves", "integers"],
)
def test_what_honest_tensors_hold_is_not_odd(array: np.ndarray) -> None:
    assert seen(array) == Oddness()


def test_three_replaced_bytes_show() -> None:
    assert seen(replaced(3)).even == 3 * WINDOW


def test_a_part_of_a_tensor_shows() -> None:
    assert seen(replaced(3, WINDOW)).even == WINDOW


@pytest.mark.parametrize("count", [1, 2])
def test_the_lowest_bytes_do_not_show(count: int) -> None:
    assert seen(replaced(count)) == Oddness()


def test_text_shows() -> None:
    rows = weights().view(np.uint8).reshape(-1, 4)
    text = np.frombuffer(b"Nothing is as it seems, said the sum. ", np.uint8)
    rows[:, 0] = np.resize(text, len(rows))
    assert seen(rows.reshape(-1).view(np.float32)).text == 3 * WINDOW


def test_text_in_whole_numbers_shows_wherever_it_stands() -> None:
    rows = weights().view(np.uint8).copy()
    text = b"Nothing is as it seems, said the sum. "
    rows[1024 : 1024 + 2 * 256] = np.resize(np.frombuffer(text, np.uint8), 2 * 256)
    assert seen(rows.view(np.float32)).text == 2 * 256 // 4


def test_low_bits_among_widened_numbers_show() -> None:
    words = weights().astype(np.float16).astype(np.float32).view(np.uint32)
    words[:WINDOW] |= GENERATOR.integers(1, 1 << 13, WINDOW, np.uint32)
    assert seen(words.view(np.float32)).mixed == WINDOW


def test_a_program_shows_wherever_it_starts() -> None:
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(40)
    rows = weights().view(np.uint8).reshape(-1, 4)
    rows[777 : 777 + len(program), 0] = np.frombuffer(program, np.uint8)
    found = seen(rows.reshape(-1).view(np.float32)).found
    assert found is not None
    assert str(found) == "an ELF program in the low 1 bytes of each number"


def test_other_widths_show_too() -> None:
    wide = weights().astype(np.float64).view(np.uint8).reshape(-1, 8)
    wide[:, :7] = GENERATOR.integers(0, 256, (len(wide), 7), np.uint8)
    assert seen(wide.reshape(-1).view(np.float64)).even == 3 * WINDOW
    brief = onnx.TensorProto(
        name="w", data_type=onnx.TensorProto.BFLOAT16, dims=[WINDOW],
        raw_data=(weights()[:WINDOW].view(np.uint32) >> 16).astype("<u2").tobytes(),
    )  # fmt: skip
    assert look(brief) == Oddness()


def test_the_statistic_of_even_bits_is_near_zero() -> None:
    words = np.random.default_rng(1).integers(1, 1 << 31, (200, WINDOW), np.uint32)
    spread = evenness(words, 23)
    assert abs(spread.mean()) < 0.3
    assert spread.max() < EVEN


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("what", ["text", "weights"])
def test_low_bits_of_text_or_of_other_weights_repeat(bits: int, what: str) -> None:
    words = weights().view(np.uint32).copy()
    if what == "text":
        text = b"Nothing is as it seems, said the sum. "
        load = np.resize(np.frombuffer(text, np.uint8), len(words))
    else:
        load = GENERATOR.normal(0, 0.05, len(words)).astype(np.float32).view(np.uint8)
    stream = np.unpackbits(load)[: bits * (len(words) // 2)].reshape(-1, bits)
    part = stream @ (1 << np.arange(bits - 1, -1, -1))
    start = 1111
    words[start : start + len(part)] &= np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)
    words[start : start + len(part)] |= part.astype(np.uint32)
    assert seen(words.view(np.float32)).periodic >= len(part) - 2 * 1024
    assert seen(weights()).periodic == 0


def test_zeros_and_lattices_do_not_repeat() -> None:
    masked = weights().reshape(-1, 32).copy()
    masked[:, 1::4] = 0
    assert seen(masked.reshape(-1)).periodic == 0
    assert seen(np.rint(weights() * 500).astype(np.float32) / np.float32(500)).periodic == 0


def test_a_part_of_another_precision_shows() -> None:
    numbers = weights().copy()
    whole = GENERATOR.integers(-(1 << 15), 1 << 15, 2 * WINDOW) * 2 + 1
    numbers[: 2 * WINDOW] = whole / np.float32(1 << 16)
    assert seen(numbers).mixed == WINDOW


def test_a_table_of_sines_has_no_odd_bits() -> None:
    place, rate = np.arange(160)[:, None], 1e-4 ** (np.arange(0, 32, 2) / 32)
    table = np.empty((160, 32), np.float32)
    table[:, ::2], table[:, 1::2] = np.sin(place * rate), np.cos(place * rate)
    assert seen(table).periodic == 0
