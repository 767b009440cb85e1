"""The page of operators is what the tables say."""

from pathlib import Path

from scanner.graph.gradient.vjps import VJPS, ZERO
from scanner.graph.gradient.vjps.__main__ import page

PAGE = Path(__file__).parents[5] / "docs" / "operators.md"


def test_the_page_is_what_is_generated() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(), "run: python -m scanner.graph.gradient.vjps > docs/operators.md"


def test_every_operator_is_named() -> None:
    assert [name for name in {*VJPS, *ZERO} if f"`{name}`" not in page()] == []
