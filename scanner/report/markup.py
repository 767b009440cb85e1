"""Elements of HTML and SVG, whose text is escaped where it is put in."""

import html
from collections.abc import Iterable
from typing import TypeAlias

from scanner.report.escape import printable

_LONGEST = 2000  # characters of one text
_VOID = frozenset({"br", "img", "input", "meta"})


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


Child: TypeAlias = "str | Markup | Iterable[Child] | None"


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        name: Of the element.
        children: Text, which is escaped; elements; several of them; None is nothing.
        attributes: Their values are escaped, and one that is None is left out. In their names a
            trailing underscore is dropped and others become hyphens: `class_`, `aria_label`.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    end = "" if name in _VOID else f"{join(children)}</{name}>"
    return Markup(f"<{name}{written}>{end}")


def join(children: Iterable[Child]) -> Markup:
    """Return children one after the other."""
    return Markup("".join(map(_written, children)))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return html.escape(printable(child, _LONGEST), quote=False)
    return join(child)


def _value(value: str | float) -> str:
    if isinstance(value, Markup):
        return value
    return html.escape(printable(value, _LONGEST) if isinstance(value, str) else f"{value:.6g}")
