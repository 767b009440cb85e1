"""A result in a notebook: a small table of HTML in which nothing of the model's is obeyed."""

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scanner.results.findings import ScanResult


def html(result: "ScanResult") -> str:
    """Return a result's verdict, reason, findings and failures as HTML."""
    rows = [
        (f.rule.id, f.verdict.value, _figure(f.p_value), _figure(f.size), f.reason)
        for f in result.findings
    ]
    rows += [(skip.rule, "skipped", "", "", skip.reason) for skip in result.skips]
    rows += [(failure.rule, "failed", "", "", failure.sentence) for failure in result.failures]
    head = "".join(f"<th>{name}</th>" for name in ("detector", "verdict", "p", "size", "why"))
    body = "".join(
        f"<tr>{''.join(f'<td>{_shown(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f"<p><code>{_shown(result.model.path)}</code>: <b>{result.verdict.value}</b>. "
        f"{_shown(result.reason)}</p><table><tr>{head}</tr>{body}</table>"
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _shown(text: str) -> str:
    """Return a text in which no control or bidirectional character and no markup has an effect."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return escape(plain)
