"""Charts as inline SVG: figures by class, histograms, a profile of layers, a place among models.

Colours are classes of the page's style sheet, which knows light and dark. The number that a mark
stands for is its title, which a browser shows under the pointer; its label says the whole chart in
a sentence.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from scanner.report.markup import Child, Markup, tag
from scanner.results import (
    ClassDifference,
    Finding,
    LayerChange,
    LayerDifference,
    Observation,
    Relation,
)

_WIDTH, _HEIGHT = 720.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 10.0, 10.0, 46.0
_BINS = 24
_MOST = 120  # classes or layers in one chart
_WIDE = 20.0  # figures that differ by more than this factor get a logarithmic axis
_WIDEST = 1e12  # beyond which rounding would be drawn
_LABELS = 12  # along an axis
_APART = 30.0  # of two labels
_LINE = 22.0  # of two numbers one above the other, as high as on a narrow page
_NAMED, _LETTER = 8, 13.0  # layers whose names stand below them, and the width of a letter
_STRIP = 84.0  # the height of a strip
_ALONE = """
svg{background:#fff}text{font:12px sans-serif;fill:#565e6c}
.grid{stroke:#d4d8df}.axis{stroke:#565e6c}
.clean{fill:#35689c;fill-opacity:.45}.own{fill:#b3261e;fill-opacity:.6}
.target{fill-opacity:1;stroke:#1b1f26}.line{fill:none;stroke-width:2}
.line.clean{stroke:#35689c}.line.own{stroke:#b3261e}
.box{fill:#fff;stroke:#565e6c}.test,.gate{stroke-width:3}.test{stroke:#b3261e}
.gate{stroke:#8a5a00}.arrow{fill:#565e6c}.name{fill:#1b1f26;font:13px monospace}
"""
# Of a path: its width, a node's box, how far one lies below the next, and what lies beside it.
_PATH, _BOX, _TALL, _ROW, _SIDE = 480.0, 300.0, 40.0, 58.0, 324.0
_TILE, _LOW = 120.0, 40.0  # width and height of a small chart
_UNITS = 4.0  # from the bottom of a small chart to its top
_BARS = 60  # of a small chart


def of(finding: Finding) -> Iterator[tuple[str, Markup]]:
    """Yield the charts of what a person can check of a finding, each with a name."""
    evidence = finding.evidence
    unit = evidence.standing.unit if evidence.standing else ""
    if any(row.suspect is not None for row in evidence.classes):
        yield "classes", by_class(evidence.classes, evidence.target_class, unit)
    if evidence.images is not None and evidence.images.suspect:
        yield "images", histograms(evidence.images.suspect, evidence.images.reference)
    if evidence.layers:
        yield "layers", profile(evidence.layers, evidence.layer)
    told = evidence.differences
    if told is not None and told.layers and told.weights is not Relation.UNRELATED:
        yield "differences", changed(told.layers)
    if finding.clean and finding.statistic is not None:
        p = "" if finding.p_value is None else f", p = {finding.p_value:.3g}"
        words = f"The suspect among {len(finding.clean)} clean models{p}"
        yield "place", strip(finding.clean, finding.statistic, words)


def alone(chart: Markup) -> str:
    """Return a chart as a file of its own, with its colours."""
    opened = Markup('<svg xmlns="http://www.w3.org/2000/svg" ')
    return chart.replace("<svg ", opened, 1).replace(
        "><title>", f"><style>{_ALONE}</style><title>", 1
    )


def by_class(rows: Sequence[ClassDifference], target: int | None, unit: str = "") -> Markup:
    """Draw the figure of each class: the suspect's over the range of the clean models'."""
    shown = _foremost(rows, target)
    axis = _Axis([v for row in shown for v in (row.suspect, *_band(row)) if v is not None])
    step = (_WIDTH - _LEFT - _RIGHT) / len(shown)
    wide = min(0.7 * step, 14.0)
    there = next((n for n, row in enumerate(shown) if row.class_id == target), None)
    marks: list[Child] = [axis.drawn()]
    for number, row in enumerate(shown):
        x = _LEFT + (number + 0.5) * step
        title = tag("title", _in_words(row, unit))
        if band := _band(row):
            ends = axis.at(max(band)), axis.at(min(band))
            marks.append(_column("clean", x - wide / 2, wide, ends, title))
        if row.suspect is not None:
            kind = "own target" if row.class_id == target else "own"
            y = axis.at(row.suspect)
            marks.append(tag("circle", title, class_=kind, cx=x, cy=y, r=min(0.45 * step, 5.0)))
        far = there is None or abs(number - there) * step > _APART
        if number == there or (far and number % -(-len(shown) // _LABELS) == 0):
            marks.append(_text(str(row.class_id), x, _HEIGHT - 28, "middle"))
    marks.append(_text("class", _WIDTH / 2, _HEIGHT - 6, "middle"))
    marks.append(_text(f"in {unit.strip()}", 4, _HEIGHT - 6, "start") if unit else None)
    found = next((row for row in rows if row.class_id == target), None)
    said = "" if found is None else f"; {_in_words(found, unit)}"
    left = len(rows) - len(shown)
    more = f"; {left} classes that stand out less are not drawn" if left else ""
    return _chart(f"Figures of {len(shown)} classes beside clean models{said}{more}", marks)


def histograms(own: Sequence[float], others: Sequence[float]) -> Markup:
    """Draw how often each value occurs in the suspect, and in the references."""
    low, high = min((*own, *others)), max((*own, *others))
    width = (high - low) / _BINS or 1.0
    counted = [_counts(values, low, width) for values in (others, own) if values]
    most = max(map(max, counted))
    axis = _Axis([0.0, float(most)])
    step = (_WIDTH - _LEFT - _RIGHT) / _BINS
    marks: list[Child] = [axis.drawn()]
    for counts, kind in zip(counted, ("clean", "own") if others else ("own",), strict=True):
        for number, count in enumerate(counts):
            start = low + number * width
            title = tag("title", f"{count} in {start:.4g} to {start + width:.4g}")
            ends = axis.at(count), axis.at(0)
            marks.append(_column(kind, _LEFT + number * step, step, ends, title))
    for number in range(0, _BINS + 1, _BINS // 4):
        value = low + number * width
        marks.append(_text(f"{value:.4g}", _LEFT + number * step, _HEIGHT - 28, "middle"))
    said = f"{_mean(own):.4g} on average"
    beside = f", the references' {_mean(others):.4g}" if others else ""
    return _chart(f"Histogram of the suspect's values, {said}{beside}", marks)


def profile(layers: Sequence[LayerDifference], marked: str | None) -> Markup:
    """Draw the figure of each layer from input to output: the suspect's and the references'."""
    shown = layers[:_MOST]
    axis = _Axis([v for one in shown for v in (one.suspect, one.reference) if v is not None])
    step = (_WIDTH - _LEFT - _RIGHT) / len(shown)
    places = [_LEFT + (number + 0.5) * step for number in range(len(shown))]
    marks: list[Child] = [axis.drawn()]
    for kind, figures in (
        ("clean", [one.reference for one in shown]),
        ("own", [one.suspect for one in shown]),
    ):
        points = [(x, axis.at(v)) for x, v in zip(places, figures, strict=True) if v is not None]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        marks.append(tag("polyline", class_=f"line {kind}", points=line))
    for x, one in zip(places, shown, strict=True):
        beside = "" if one.reference is None else f", references {one.reference:.4g}"
        title = tag("title", f"{one.layer} ({one.operator}): {one.suspect:.4g}{beside}")
        kind = "own target" if one.layer == marked else "own"
        marks.append(tag("circle", title, class_=kind, cx=x, cy=axis.at(one.suspect), r=4))
    marks.append(_text("layers, from input to output", _WIDTH / 2, _HEIGHT - 6, "middle"))
    more = "" if len(shown) == len(layers) else f"; {len(layers) - len(shown)} more are not drawn"
    return _chart(f"Figures of {len(shown)} layers beside the references{more}", marks)


def changed(layers: Sequence[LayerChange]) -> Markup:
    """Draw how far the changed channels of each layer lie from those of the reference."""
    shown = layers[:_MOST]
    axis = _Axis([0.0, *(one.apart for one in shown)])
    step = (_WIDTH - _LEFT - _RIGHT) / len(shown)
    wide = min(0.7 * step, 30.0)
    marks: list[Child] = [axis.drawn()]
    for number, one in enumerate(shown):
        rows = f"{one.changed} of {one.rows} channels"
        far = f"{rows} changed, by {one.apart:.3g} of themselves: {one.relation.value}"
        title = tag("title", f"{one.role} of {one.operator} {one.node}: {far}")
        kind = "own target" if one.standing_out else "own"
        x = _LEFT + (number + 0.5) * step
        marks.append(_column(kind, x - wide / 2, wide, (axis.at(one.apart), axis.at(0)), title))
        if len(shown) <= _NAMED:
            name = _short(one.node, int(step / _LETTER))
            marks.append(_text(name, x, _HEIGHT - 28, "middle"))
    marks.append(_text("weights, from input to output", _WIDTH / 2, _HEIGHT - 6, "middle"))
    apart = sum(bool(one.standing_out) for one in layers)
    said = f"{apart} of {len(layers)} changed weights have channels that stand out"
    return _chart(f"How far the weights were changed: {said}", marks)


def strip(clean: Sequence[float], own: float, words: str) -> Markup:
    """Draw where a statistic lies among those of clean models, on one line.

    Args:
        clean: Theirs.
        own: The suspect's.
        words: The same in a sentence.
    """
    low, high = min((*clean, own)), max((*clean, own))
    span = (high - low) or 1.0
    middle = 26.0

    def place(value: float) -> float:
        return _LEFT + (value - low) / span * (_WIDTH - _LEFT - 40)

    marks: list[Child] = [
        tag("line", class_="axis", x1=_LEFT - 12, x2=_WIDTH - 20, y1=middle, y2=middle)
    ]
    for value in clean:
        title = tag("title", f"a clean model: {value:.3g}")
        marks.append(tag("circle", title, class_="clean", cx=place(value), cy=middle, r=5))
    marks.append(_diamond(place(own), middle, f"the suspect: {own:.3g}"))
    marks += [
        _text(f"{low:.3g}", place(low), _STRIP - 28, "middle"),
        _text(f"{high:.3g}", place(high), _STRIP - 28, "middle"),
        _text("further out", _WIDTH - 20, _STRIP - 6, "end"),
    ]
    return _chart(words, marks, _STRIP)


def reach(own: float, words: str) -> Markup:
    """Draw how far out a model lies on a scale on which clean models reach 1.

    Args:
        own: The suspect's figure; below 0 it lies on the other side of the middle.
        words: The same in a sentence.
    """
    low, high = min(own, 0.0), max(own, 2.0)
    middle = 26.0

    def place(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - 40)

    band = tag("title", "as far as clean models reach")
    marks: list[Child] = [
        tag("line", class_="axis", x1=_LEFT - 12, x2=_WIDTH - 20, y1=middle, y2=middle),
        tag(
            *("rect", band),
            class_="clean", x=place(low), y=middle - 9, width=place(1) - place(low), height=18,
        ),
        _diamond(place(own), middle, f"the suspect: {own:.3g}"),
        _text("0", place(0), _STRIP - 28, "middle"),
        _text("1", place(1), _STRIP - 28, "middle"),
        _text("further out", _WIDTH - 20, _STRIP - 6, "end"),
    ]  # fmt: skip
    far = abs(place(own) - place(1)) > 3 * 12 and abs(place(own) - place(0)) > 3 * 12
    marks.append(_text(f"{own:.3g}", place(own), _STRIP - 28, "middle") if far else None)
    return _chart(words, marks, _STRIP)


def tile(sizes: Mapping[int, float], words: str) -> Markup:
    """Draw how far each class of a model stands out, small, on the scale of all models.

    Args:
        sizes: By class, in units of the furthest clean model; of many classes neighbours share a
            bar, as high as the highest of them.
        words: The same in a sentence.
    """
    classes = sorted(sizes)
    each = max(1, -(-len(classes) // _BARS))
    groups = [classes[start : start + each] for start in range(0, len(classes), each)]
    step = _TILE / max(len(groups), 1)
    drawn: dict[str, list[str]] = {"clean": [], "own": []}
    for number, group in enumerate(groups):
        size = max(sizes[class_id] for class_id in group)
        if size > 0:
            top = _LOW * (1 - min(size, _UNITS) / _UNITS)
            line = f"M{(number + 0.5) * step:.4g} {_LOW:g}V{top:.4g}"
            drawn["own" if size > 1 else "clean"].append(line)
    one = _LOW * (1 - 1 / _UNITS)
    marks = [
        *(
            tag("path", class_=f"bars {kind}", d="".join(lines), stroke_width=min(0.7 * step, 7))
            for kind, lines in drawn.items()
            if lines
        ),
        tag("path", class_="axis", d=f"M0 {one:g}H{_TILE:g}M0 {_LOW:g}H{_TILE:g}"),
    ]
    return _chart(words, marks, _LOW, _TILE)


def way(observation: Observation) -> Markup | None:
    """Draw the way of the data past the nodes of an observation.

    None where it names neither a test nor where the way joins the network: its nodes are then
    places, and no way.
    """
    details = observation.details
    joints, gates = _parts(details.get("joints")), _parts(details.get("gates"))
    decide = {str(part["node"]): str(part.get("operator", "")) for part in (*gates, *joints)}
    joined = {str(part["node"]): str(part["carrier"]) for part in joints if "carrier" in part}
    if len(gates) == 1 and "gated" in details:
        joined[str(gates[0]["node"])] = str(details["gated"])
    tests = {
        str(part["node"]): str(part.get("operator", "")) for part in _parts(details.get("tests"))
    }
    return path(observation.nodes, tests, decide, joined) if tests or decide else None


def _parts(parts: object) -> list[Mapping[str, object]]:
    """Return what describes nodes in a list, which came from a child and may be anything."""
    if not isinstance(parts, list | tuple):
        return []
    return [part for part in parts if isinstance(part, dict) and "node" in part]


def path(
    nodes: Sequence[str],
    tests: Mapping[str, str],
    gates: Mapping[str, str],
    joined: Mapping[str, str],
) -> Markup:
    """Draw the way from the input past tests to the output; of very many nodes the first and last.

    Args:
        nodes: Their names, from input to output.
        tests: The operators of those that test the input, by name.
        gates: The operators of those where the way joins the network, by name.
        joined: What the network hands to these, by name.
    """
    between = f"{len(nodes) - _MOST} more nodes"
    half = _MOST // 2
    shown = nodes if len(nodes) <= _MOST else [*nodes[:half], between, *nodes[-half:]]
    marks: list[Child] = [_text("the input", _BOX / 2, 14, "middle")]
    for number, name in enumerate(shown):
        y = 38 + number * _ROW
        kind = "test" if name in tests else "gate" if name in gates else "node"
        said = {"test": f"{tests.get(name)} tests the input", "gate": f"{gates.get(name)} decides"}
        marks.append(_down(y - _ROW + _TALL if number else 20, y))
        marks.append(
            tag("rect", class_=f"box {kind}", x=4, y=y, width=_BOX - 8, height=_TALL, rx=5)
        )
        middle = y + (18 if kind in said else 25)
        marks.append(_text(_short(name), _BOX / 2, middle, "middle", "name"))
        if kind in said:
            marks.append(_text(said[kind], _BOX / 2, y + 33, "middle"))
        if name in joined:
            marks += _joining(joined[name], y + _TALL / 2)
    end = 38 + len(shown) * _ROW
    marks += [_down(end - _ROW + _TALL, end), _text("the output", _BOX / 2, end + 14, "middle")]
    words = " to ".join((shown[0], shown[-1])) if len(shown) > 1 else "".join(shown)
    said_all = f"The way of the data: {words}, {len(nodes)} nodes"
    return _chart(said_all, marks, end + 20, _PATH, "path")


def _down(top: float, bottom: float) -> Markup:
    """Draw an arrow from one node of a path to the next."""
    x = _BOX / 2
    head = f"{x - 5},{bottom - 7} {x + 5},{bottom - 7} {x},{bottom}"
    line = tag("line", class_="axis", x1=x, x2=x, y1=top, y2=bottom - 5)
    return tag("g", line, tag("polygon", class_="arrow", points=head))


def _joining(name: str, y: float) -> Iterator[Markup]:
    """Draw what the network itself hands to a node of a path."""
    left, end = _SIDE, _BOX - 4
    yield tag("line", class_="axis", x1=end + 5, x2=left, y1=y, y2=y)
    yield tag("polygon", class_="arrow", points=f"{end + 7},{y - 5} {end + 7},{y + 5} {end},{y}")
    yield _text("the trained network:", left + 4, y - 4, "start")
    yield _text(_short(name, 18), left + 4, y + 14, "start", "name")


class _Axis:
    """The vertical axis: linear, or logarithmic where figures differ by far."""

    def __init__(self, values: Sequence[float]) -> None:
        least, most = min(values, default=0.0), max(values, default=1.0)
        self._log = least > 0 and _WIDE * least < most < _WIDEST * least
        low, high = (math.log10(least), math.log10(most)) if self._log else (least, most)
        margin = max(0.05 * (high - low), 1e-6 * max(abs(low), abs(high))) or 0.5
        bottom = low if not self._log and low == 0 else low - margin
        self._low, self._high = bottom, high + margin

    def at(self, value: float) -> float:
        """Return the height of a value in the chart."""
        number = math.log10(value) if self._log else value
        share = (number - self._low) / (self._high - self._low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def drawn(self) -> Iterator[Markup]:
        """Yield its lines, and their numbers where there is room."""
        below = math.inf
        for value in self._ticks():
            y = self.at(value)
            yield tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y)
            if below - y >= _LINE:
                yield _text(f"{value:.4g}", _LEFT - 6, y + 4, "end")
                below = y

    def _ticks(self) -> list[float]:
        if self._log:
            first, last = math.ceil(self._low), math.floor(self._high)
            tens = [10.0**power for power in range(first, last + 1)]
            if len(tens) > 1:
                return tens[:: -(-len(tens) // 6)]
        low, high = (10**self._low, 10**self._high) if self._log else (self._low, self._high)
        step = 10.0 ** math.floor(math.log10((high - low) / 2))
        step *= next(n for n in (1, 2, 5, 10) if (high - low) / (n * step) <= 6)  # noqa: PLR2004
        return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _foremost(rows: Sequence[ClassDifference], target: int | None) -> list[ClassDifference]:
    """Return the classes to draw, in their order: of many, those that stand out most."""

    def prominence(row: ClassDifference) -> float:
        return math.inf if row.class_id == target else row.above or -math.inf

    chosen = sorted(rows, key=prominence, reverse=True)[:_MOST]
    return sorted(chosen, key=lambda row: row.class_id)


def _band(row: ClassDifference) -> Sequence[float]:
    return row.references or (() if row.reference is None else (row.reference,))


def _in_words(row: ClassDifference, unit: str) -> str:
    own = "not found" if row.suspect is None else f"{row.suspect:.4g}{unit}"
    band = _band(row)
    beside = f"; clean models {min(band):.4g} to {max(band):.4g}{unit}" if band else ""
    return f"class {row.class_id}: {own}{beside}"


def _counts(values: Sequence[float], low: float, width: float) -> list[int]:
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int((value - low) / width))] += 1
    return counts


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _short(name: str, longest: int = 34) -> str:
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _column(
    kind: str, left: float, width: float, ends: tuple[float, float], title: Markup
) -> Markup:
    """Draw a column between two heights."""
    top, bottom = ends
    height = max(bottom - top, 1.5)
    return tag("rect", title, class_=kind, x=left, y=top, width=width, height=height)


def _text(words: str, x: float, y: float, anchor: str, kind: str = "label") -> Markup:
    return tag("text", words, class_=kind, x=x, y=y, text_anchor=anchor)


def _diamond(x: float, y: float, words: str) -> Markup:
    corners = f"{x},{y - 9} {x + 8},{y} {x},{y + 9} {x - 8},{y}"
    return tag("polygon", tag("title", words), class_="own target", points=corners)


def _chart(
    words: str,
    marks: Sequence[Child],
    height: float = _HEIGHT,
    width: float = _WIDTH,
    kind: str | None = None,
) -> Markup:
    box = f"0 0 {width:g} {height:g}"
    title = tag("title", words)
    return tag("svg", title, marks, viewBox=box, role="img", aria_label=words, class_=kind)
