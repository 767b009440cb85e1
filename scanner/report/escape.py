"""Strings that come from a model, made safe to print."""

import unicodedata

LONGEST = 80
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Return a string without control characters and bidirectional overrides, shortened in its middle.

    What a terminal would obey or hide is written as an escape such as `\x1b`.

    Args:
        text: Any string, hostile ones included.
        longest: Most characters of the result.
    """
    if len(text) > longest:
        head = (longest - 1) // 2
        return (
            printable(text[:head], longest)[:head] + "…" + printable(text[-head:], longest)[-head:]
        )
    shown = "".join(_shown(character) for character in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )  # noqa: PLR2004 - widths of escapes
