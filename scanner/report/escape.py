"""Strings that come from a model, made safe to print."""

import re
import unicodedata

LONGEST = 80
_TWO_DIGITS, _FOUR_DIGITS = 0x100, 0x10000  # code points below fit into as many digits
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, longest: int = LONGEST) -> str:
    r"""Return a string that a terminal neither obeys nor hides, shortened in its middle.

    Control characters, bidirectional overrides and the like become escapes such as `\x1b`.

    Args:
        text: Any string, hostile ones included.
        longest: Most characters of the result.
    """
    if len(text) > longest:
        head = (longest - 1) // 2
        start, end = printable(text[:head], longest), printable(text[-head:], longest)
        return f"{start[:head]}…{end[-head:]}"
    shown = "".join(_shown(character) for character in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    if code < _TWO_DIGITS:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _FOUR_DIGITS else f"\\U{code:08x}"


def file_name(name: str) -> str:
    """Return a name that is safe as a file's: it may come from a model."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:60] or "unnamed"
