"""What a p-value and a size are, as a drawing: models on one line, by how far out they lie."""

import itertools
import statistics
from collections.abc import Sequence

from scanner.report.markup import Child, Markup, tag
from scanner.results import Finding

_WIDTH = 760.0
_LEFT, _RIGHT = 290.0, 20.0  # of the line; the words stand left of it
_LOW, _HIGH = -1.0, 2.6  # sizes at the ends
_CLEAN, _SUSPICIOUS = 1.3, 1.9  # up to and from which a model that ranks first is called so
_LINE = 92.0  # where the clean models lie
_ROW = 46.0
_STYLE = """
.card{fill:#fff;stroke:#d4d8df}text{font:13px sans-serif;fill:#1b1f26}
.label{font-size:12px;fill:#565e6c}.axis{stroke:#565e6c}.grid{stroke:#a9b0bb;stroke-dasharray:4 4}
.zone{fill:#1d6b35;fill-opacity:.09}.open{fill:#8a5a00;fill-opacity:.12}
.bad{fill:#b3261e;fill-opacity:.1}
.clean{fill:#35689c;fill-opacity:.5}.own{fill:#b3261e;stroke:#1b1f26}
"""


def places(suspects: Sequence[tuple[str, Finding]]) -> str:
    """Return a drawing of suspects among the same clean models.

    Args:
        suspects: What each is, and what one detector found of it.
    """
    clean = suspects[0][1].clean
    bottom = _LINE + _ROW * (len(suspects) + 0.5)
    height = bottom + 44
    rows = [_row(n, words, finding) for n, (words, finding) in enumerate(suspects)]
    words = "Four models among 24 clean ones: their p-values, their sizes and what they are called"
    return (
        tag(
            "svg", tag("title", words), tag("style", Markup(_STYLE)),
            tag("rect", class_="card", x=1, y=1, width=_WIDTH - 2, height=height - 2, rx=8),
            _zones(bottom), _scale(bottom), _dots(clean), rows,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:g} {height:g}",
            width=_WIDTH, height=height,
        ) + "\n"
    )  # fmt: skip


def _at(size: float) -> float:
    """Return where a size lies, from the left."""
    return _LEFT + (size - _LOW) / (_HIGH - _LOW) * (_WIDTH - _LEFT - _RIGHT)


def _zones(bottom: float) -> list[Child]:
    ends = (1.0, _CLEAN, _SUSPICIOUS, _HIGH)
    names = (("zone", "clean"), ("open", "inconclusive"), ("bad", "suspicious"))
    drawn: list[Child] = []
    for (kind, name), (left, right) in zip(names, itertools.pairwise(ends), strict=True):
        x, width = _at(left), _at(right) - _at(left)
        drawn.append(tag("rect", class_=kind, x=x, y=44, width=width, height=bottom - 44))
        drawn.append(tag("text", name, class_="label", x=x + width / 2, y=38, text_anchor="middle"))
    before = (_at(_LOW) + _at(1.0)) / 2
    said = "clean: a clean model lies further out"
    drawn.append(tag("text", said, class_="label", x=before, y=38, text_anchor="middle"))
    return drawn


def _scale(bottom: float) -> list[Child]:
    drawn: list[Child] = [tag("line", class_="axis", x1=_LEFT, x2=_WIDTH - 20, y1=_LINE, y2=_LINE)]
    words = {0.0: "0: the median", 1.0: "1: the furthest clean model", 2.0: "2"}
    for size, said in words.items():
        x = _at(size)
        drawn.append(tag("line", class_="grid", x1=x, x2=x, y1=50, y2=bottom))
        drawn.append(tag("text", said, class_="label", x=x, y=bottom + 16, text_anchor="middle"))
    drawn.append(tag("text", "24 clean networks", x=20, y=_LINE + 4))
    drawn.append(tag("text", "size", class_="label", x=20, y=bottom + 16))
    return drawn


def _dots(clean: Sequence[float]) -> list[Child]:
    middle, furthest = statistics.median(clean), max(clean)
    return [
        tag("circle", class_="clean", cx=_at((v - middle) / (furthest - middle)), cy=_LINE, r=5)
        for v in clean
    ]


def _row(number: int, words: str, finding: Finding) -> Markup:
    """Draw one suspect below the line, with what is said of it."""
    x, y = _at(finding.size or 0.0), _LINE + _ROW * (number + 0.9)
    further = sum(value >= (finding.statistic or 0.0) for value in finding.clean)
    p = f"p = (1 + {further}) / (1 + {len(finding.clean)}) = {finding.p_value:.2g}"
    corners = f"{x},{y - 9} {x + 8},{y} {x},{y + 9} {x - 8},{y}"
    return tag(
        "g",
        tag("text", words, x=20, y=y - 4),
        tag("text", f"{p}, size {finding.size:.2g}", class_="label", x=20, y=y + 13),
        tag("line", class_="grid", x1=_LEFT - 20, x2=x - 12, y1=y, y2=y),
        tag("polygon", class_="own", points=corners),
    )
