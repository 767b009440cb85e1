"""Scripts, recognised by what no documentation, stack trace or name of a class says."""

import bisect
import re
from typing import NamedTuple

from scanner.graph.audit.signatures import Family


class Script(NamedTuple):
    """A script in a text: what it is, and where what gives it away starts."""

    kind: str
    family: Family
    start: int


def find(text: str) -> Script | None:
    """Return the first kind of script that a text holds.

    A script in the fences of Markdown is a recipe for people, and told as a quotation.
    """
    quoted = None
    fences = [fence.start() for fence in _FENCE.finditer(text)]
    for pattern, kind, family in _TOLD:
        for told in pattern.finditer(text):
            if family is Family.SCRIPT and bisect.bisect(fences, told.start()) % 2:
                quoted = quoted or Script(f"a quotation of {kind}", Family.DOCUMENT, told.start())
            else:
                return Script(kind, family, told.start())
    if quoted is not None:
        return quoted
    for first, second in _SOURCE:
        if (found := first.search(text)) and second.search(text):
            return Script("the source of a program", Family.DOCUMENT, found.start())
    return None


_PYTHON = (
    r"__import__\s*\(", r"\bos\.(system|popen|execv\w*)\s*\(", r"\bsubprocess\.\w+\s*\(",
    r"\bpty\.spawn\s*\(", r"\b(exec|eval)\s*\(\s*(compile|base64|bytes|__|zlib|marshal|codecs)",
    r"\b(marshal|pickle)\.loads\s*\(", r"\bimport\s+(socket|ctypes|subprocess|pty|marshal)\b",
)  # fmt: skip
_SHELL = (
    r"/dev/tcp/\d", r"\b(curl|wget)\b[^\n|]{0,300}\|\s*(ba|z|da)?sh\b", r"\b(ba)?sh\s+-[ic]\b",
    r"/bin/(ba|z)?sh\b", r"\bnc\s+-\w*e\b", r"\brm\s+-rf\s+[/~]", r"\bchmod\s+(\+x|0?7\d\d)\b",
    r"\bbase64\s+-{1,2}d(ecode)?\b",
)  # fmt: skip
_WINDOWS = (
    r"\bpowershell(\.exe)?\b[^\n]{0,40}\s-\w", r"\bInvoke-(Expression|WebRequest)\b", r"\bIEX\s*\(",
    r"\bcmd(\.exe)?\s+/c\b", r"\bCreateObject\s*\(", r"\bWScript\.Shell\b",
    r"\bDownloadString\s*\(", r"\A\s*@echo\s+off",
)  # fmt: skip
_JAVASCRIPT = (
    r"\brequire\s*\(\s*['\"]child_process", r"\bnew\s+Function\s*\(", r"\bprocess\.binding\s*\(",
)  # fmt: skip
_WEB = (r"<\?php\s|<script\b[^>]{0,200}>|<svg\b[^>]{0,200}\bon\w+=|javascript:\w",)
# Zero-width and tag characters, variation selectors, and blanks: a language needs a few in a row.
_INVISIBLE = (
    r"[\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef]{16}",
    r"(?<![ \t])(?= *\t)[ \t]{512}",
)
_TOLD = tuple(
    (re.compile("|".join(patterns), flags), kind, family)
    for patterns, kind, family, flags in (
        ((r"\A\s*#!\s*/\S",), "a script", Family.SCRIPT, 0),
        (_WEB, "a web script", Family.SCRIPT, re.IGNORECASE),
        ((r"\A\s*(<!doctype html|<html\b)",), "a web page", Family.DOCUMENT, re.IGNORECASE),
        ((r"\A\s*%PDF-[12]\.",), "a PDF document", Family.DOCUMENT, 0),
        ((r"\A\s*\{\\rtf1",), "an RTF document", Family.DOCUMENT, 0),
        ((r"-----BEGIN [A-Z ]*PRIVATE KEY",), "a private key", Family.KEY, 0),
        (_PYTHON, "a Python script", Family.SCRIPT, 0),
        (_SHELL, "a shell script", Family.SCRIPT, 0),
        (_WINDOWS, "a Windows script", Family.SCRIPT, re.IGNORECASE),
        (_INVISIBLE, "text in characters that nobody sees", Family.UNKNOWN, 0),
        (_JAVASCRIPT, "a JavaScript", Family.SCRIPT, 0),
    )
)

_FENCE = re.compile(r"^```", re.MULTILINE)
_SOURCE = (
    (
        re.compile(r"^(import|from)[ \t]+[A-Za-z_]", re.MULTILINE),
        re.compile(r"^[ \t]{0,32}(async )?def \w{1,80}\([^\n]{0,300}\)[^\n]{0,80}:", re.MULTILINE),
    ),
    (
        re.compile(r"^#[ \t]{0,8}include[ \t]{0,8}[<\"]\w", re.MULTILINE),
        re.compile(r";[ \t]{0,32}\n[^\n]{0,300}\}"),
    ),
)
"""What a program includes, and a function of it: stack traces quote single lines."""
