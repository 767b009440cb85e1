"""No string from a model moves the cursor, hides or drowns the text around it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.report.escape import file_name, printable


@given(st.text(max_size=300), st.integers(10, 200))
def test_the_result_is_visible_and_short(text: str, longest: int) -> None:
    shown = printable(text, longest)
    assert len(shown) <= longest
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in shown)


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=80))
def test_an_honest_name_is_left_alone(text: str) -> None:
    assert printable(text) == text


def test_a_long_name_keeps_both_ends() -> None:
    assert printable("a" * 100 + "b" * 100, 11) == "aaaaa…bbbbb"


@given(st.text())
def test_a_name_from_a_model_stays_in_its_folder(name: str) -> None:
    safe = file_name(name)
    assert 0 < len(safe) <= 60
    assert safe not in {".", ".."}
    assert set(safe) <= set(map(chr, range(128)))
    assert not {"/", "\\", ":", "\0"} & set(safe)


@pytest.mark.parametrize(
    ("name", "safe"),
    [("../../etc/passwd", "etc_passwd"), ("a b", "a_b"), ("...", "unnamed"), ("m-1.2", "m-1.2")],
)
def test_names_by_hand(name: str, safe: str) -> None:
    assert file_name(name) == safe
