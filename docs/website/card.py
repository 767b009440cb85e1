"""A finding as one picture: its words, its images and its charts, one below the other, as SVG."""

import base64
import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

from scanner.report import charts
from scanner.report.markup import Child, Markup, tag
from scanner.report.pictures import picture
from scanner.results import Array, Finding, Observation, ScanResult

_WIDTH, _MARGIN = 760.0, 20.0
_LINE = 19.0  # the height of a line of text
_LETTERS = 98  # in a line: a wide font must fit too
_SIDE = 150.0  # of an image
_GAP = 12.0
_MOST = 2  # observations
_STYLE = """
.card{fill:#fff;stroke:#d4d8df}
text{font:13px sans-serif;fill:#1b1f26}
.title{font-size:16px;font-weight:bold}
.dim,.label{fill:#565e6c}.label{font-size:12px}
.suspicious{fill:#b3261e}.clean-word{fill:#1d6b35}.inconclusive{fill:#8a5a00}
.name{font:13px monospace}
.box{fill:#fff;stroke:#565e6c}.arrow{fill:#565e6c}
.test{stroke:#b3261e;stroke-width:3}.gate{stroke:#8a5a00;stroke-width:3}
.grid{stroke:#d4d8df}.axis{stroke:#565e6c}
.clean{fill:#35689c;fill-opacity:.45}.own{fill:#b3261e;fill-opacity:.6}
.target{fill-opacity:1;stroke:#1b1f26}.line{fill:none;stroke-width:2}
.line.clean{stroke:#35689c}.line.own{stroke:#b3261e}
image{image-rendering:pixelated}.frame{fill:none;stroke:#d4d8df}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image of a card.

    Attributes:
        data: The values.
        low: What is black.
        high: What is white.
        words: Below it.
    """

    data: Array
    low: float
    high: float
    words: str


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """What a picture shows.

    Attributes:
        title: The detector's name.
        shown: What it was shown.
        verdict: Its own, or "" where there is none.
        sentences: What it says.
        images: A trigger, or an input that shows what was found.
        charts: Those of the HTML report.
    """

    title: str
    shown: str
    verdict: str
    sentences: Sequence[str]
    images: Sequence[Image] = ()
    charts: Sequence[Markup] = ()


def of_finding(finding: Finding, shown: str) -> Card:
    """Return the card of a finding.

    Args:
        finding: Of one detector.
        shown: What it was shown.
    """
    seen = sorted(finding.observations, key=lambda one: -one.severity)[:_MOST]
    return Card(
        title=finding.rule.name,
        shown=shown,
        verdict=finding.verdict.value,
        sentences=[f"{one.sentence}." for one in seen] or [f"{finding.reason}."],
        images=[*_trigger(finding), *_inputs(seen)],
        charts=[*_ways(seen), *(chart for _, chart in charts.of(finding))],
    )


def of_result(result: ScanResult, rule: str, shown: str) -> Card:
    """Return the card of a whole scan, with the drawings of one detector.

    Args:
        result: Of the scan.
        rule: The detector.
        shown: What was scanned.
    """
    (finding,) = (one for one in result.findings if one.rule.id == rule)
    return dataclasses.replace(
        of_finding(finding, shown),
        title="Backdoor scan",
        verdict=result.verdict.value,
        sentences=[f"{result.reason}."],
    )


def _trigger(finding: Finding) -> Iterator[Image]:
    trigger = finding.evidence.trigger
    if trigger is None:
        return
    low, high = trigger.low, trigger.high
    yield Image(trigger.mask, 0.0, 1.0, f"mask of class {trigger.class_id}")
    yield Image(trigger.pattern, low, high, "pattern")
    yield Image(trigger.original, low, high, f"an image: class {trigger.class_before}")
    yield Image(trigger.stamped, low, high, f"stamped: class {trigger.class_after}")


def _inputs(seen: Sequence[Observation]) -> Iterator[Image]:
    for shown in (one.input for one in seen if one.input is not None):
        low, high = shown.low, shown.high
        after = "an input that shows it" if shown.original is None else "the same, changed"
        if shown.original is not None:
            yield Image(shown.original, low, high, _answered("an image", shown.class_before))
        yield Image(shown.image, low, high, _answered(after, shown.class_after))


def _answered(words: str, class_id: int | None) -> str:
    return words if class_id is None else f"{words}: class {class_id}"


def _ways(seen: Sequence[Observation]) -> Iterator[Markup]:
    """Yield the ways of the data past the nodes that were seen."""
    for one in seen:
        if len(one.nodes) > 1 and (drawing := charts.way(one)) is not None:
            yield drawing


def draw(card: Card) -> str:
    """Return a card as a file."""
    height, marks = _MARGIN, list[Child]()
    for high, mark in _parts(card):
        marks.append(tag("g", mark, transform=f"translate({_MARGIN:g} {height:g})"))
        height += high
    height += _MARGIN
    words = f"{card.title}, {card.shown}"
    frame = tag("rect", class_="card", x=1, y=1, width=_WIDTH - 2, height=height - 2, rx=8)
    drawn = tag(
        "svg", tag("title", words), tag("style", Markup(_STYLE)), frame, marks,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH:g} {height:g}",
        width=_WIDTH, height=height,
    )  # fmt: skip
    return f"{drawn}\n"


def _parts(card: Card) -> Iterator[tuple[float, Markup]]:
    """Yield each part with its height, from the top."""
    verdict = card.verdict
    kind = "clean-word" if verdict == "clean" else verdict
    said: list[Child] = [f"{card.title}: ", tag("tspan", verdict, class_=kind)]
    yield 24, tag("text", said if verdict else card.title, class_="title", y=14)
    yield 26, tag("text", card.shown, class_="dim", y=12)
    for sentence in card.sentences:
        lines = textwrap.wrap(sentence[0].upper() + sentence[1:], _LETTERS)
        spans = [tag("tspan", line, x=0, y=12 + n * _LINE) for n, line in enumerate(lines)]
        yield len(lines) * _LINE + _GAP, tag("text", spans)
    if card.images:
        drawn = [_image(one, n * (_SIDE + _GAP)) for n, one in enumerate(card.images)]
        yield _SIDE + _LINE + _GAP, tag("g", drawn)
    for chart in card.charts:
        yield _placed(chart)
    if any('class="clean"' in chart or "line clean" in chart for chart in card.charts):
        yield _LINE, _legend()


def _image(image: Image, left: float) -> Markup:
    """Return an image at twice its pixels, or more, with its words below."""
    png = base64.b64encode(picture(image.data, image.low, image.high).png()).decode()
    place = {"x": left, "y": 0.0, "width": _SIDE, "height": _SIDE}
    data = Markup(f"data:image/png;base64,{png}")
    return tag(
        "g",
        tag("image", href=data, **place),
        tag("rect", class_="frame", **place),
        tag("text", image.words, class_="label", x=left, y=_SIDE + 15),
    )


def _placed(chart: Markup) -> tuple[float, Markup]:
    """Return a chart's height, and the chart as a part of another drawing."""
    width, height = map(float, chart.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split())
    sized = chart.replace("<svg ", f'<svg width="{width:g}" height="{height:g}" ', 1)
    return height + _GAP, Markup(sized)


def _legend() -> Markup:
    return tag(
        "g",
        tag("circle", class_="own", cx=66, cy=8, r=5),
        tag("text", "the suspect", class_="label", x=78, y=12),
        tag("circle", class_="clean", cx=176, cy=8, r=5),
        tag("text", "clean models", class_="label", x=188, y=12),
    )
