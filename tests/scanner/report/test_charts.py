"""Every mark lies within its chart, and says its number."""

import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from examples import neural_cleanse, overactivation
from hypothesis import example, given
from hypothesis import strategies as st

from scanner.report import charts
from scanner.report.markup import Markup
from scanner.results import (
    ClassDifference,
    LayerChange,
    LayerDifference,
    Observation,
    Relation,
    Severity,
)

FIGURES = st.floats(-1e6, 1e6, allow_nan=False)
MASKS = st.floats(1e-3, 1e5)


def read(chart: Markup) -> ET.Element:
    return ET.fromstring(chart)  # noqa: S314 - we have just written it


def marks(chart: Markup) -> Iterator[tuple[float, float]]:
    """Yield every point of a chart, after a check that it is well-formed."""
    for element in read(chart).iter():
        at = element.attrib
        for x, y in (("cx", "cy"), ("x", "y"), ("x1", "y1"), ("x2", "y2")):
            if x in at and y in at:
                yield float(at[x]), float(at[y])
        if "height" in at:
            yield float(at["x"]) + float(at["width"]), float(at["y"]) + float(at["height"])
        for point in at.get("points", "").split():
            left, top = point.split(",")
            yield float(left), float(top)


def lies_within(chart: Markup) -> bool:
    width, height = map(float, read(chart).attrib["viewBox"].split()[2:])
    return all(0 <= x <= width and -1 <= y <= height + 2 for x, y in marks(chart))


def row(number: int, own: float | None, *others: float) -> ClassDifference:
    mean = sum(others) / len(others) if others else None
    return ClassDifference(class_id=number, suspect=own, reference=mean, references=others)


@given(st.lists(st.tuples(st.none() | MASKS | FIGURES, st.lists(FIGURES, max_size=4)), min_size=1))
def test_classes(figures: list[tuple[float | None, list[float]]]) -> None:
    rows = [row(number, own, *others) for number, (own, others) in enumerate(figures)]
    assert lies_within(charts.by_class(rows, 0))


@given(st.lists(MASKS, min_size=1, max_size=8))
@example([2.7, 80.0])
def test_no_two_numbers_of_an_axis_touch(figures: list[float]) -> None:
    chart = read(charts.by_class([row(0, own) for own in figures], 0))
    numbers = [text for text in chart.iter("text") if text.get("text-anchor") == "end"]
    heights = sorted(float(text.attrib["y"]) for text in numbers)
    assert numbers
    # Letters are up to 22 units high (`page.css`).
    assert all(below - above >= 22 for above, below in itertools.pairwise(heights))


def test_figures_that_hardly_differ() -> None:
    assert lies_within(charts.by_class([row(0, 1e6, 1e6 + 1e-9), row(1, 5e-324, 0.0)], 0))
    assert lies_within(charts.by_class([row(0, 1e6, 1e6 + 1e-9)], 0))


def test_a_class_says_its_figure_and_the_clean_models() -> None:
    chart = charts.by_class([row(3, 4.1, 25.0, 186.0), row(7, None, 30.0)], 3, " px")
    assert chart.count("class 3: 4.1 px; clean models 25 to 186 px") == 4  # chart, band, point
    assert "class 7: not found; clean models 30 to 30 px" in chart
    assert 'class="own target"' in chart


def test_of_many_classes_those_that_stand_out_are_drawn() -> None:
    rows = [
        ClassDifference(class_id=number, suspect=1.0, above=float(number)) for number in range(1000)
    ]
    chart = charts.by_class(rows, 5)
    drawn = {number for number in range(1000) if f"<title>class {number}:" in chart}
    assert drawn == {5, *range(881, 1000)}
    assert "880 classes that stand out less are not drawn" in chart


@given(own=st.lists(FIGURES, min_size=1), others=st.lists(FIGURES))
def test_histograms(own: list[float], others: list[float]) -> None:
    chart = charts.histograms(own, others)
    assert lies_within(chart)
    counts = [int(t.text.split()[0]) for t in titles(chart) if t.text and " in " in t.text]
    assert sum(counts) == len(own) + len(others)


def titles(chart: Markup) -> list[ET.Element]:
    return [e for e in read(chart).iter() if e.tag == "title"]


@given(st.lists(st.tuples(MASKS | FIGURES, st.none() | FIGURES), min_size=1, max_size=200))
def test_layers(figures: list[tuple[float, float | None]]) -> None:
    layers = [
        LayerDifference(
            layer=f"l{n}", operator="Relu", channel=0, channel_figure=0.0, channel_z=0.0,
            suspect=own, reference=other,
        )
        for n, (own, other) in enumerate(figures)
    ]  # fmt: skip
    assert lies_within(charts.profile(layers, "l0"))


@given(st.lists(FIGURES, min_size=1), FIGURES)
def test_a_place_among_clean_models(clean: list[float], own: float) -> None:
    chart = charts.strip(clean, own, "the suspect among clean models")
    assert lies_within(chart)
    assert chart.count("a clean model:") == len(clean)


@pytest.mark.parametrize("name", ["gate", "<script>", "a" * 500])
def test_a_path_names_its_nodes(name: str) -> None:
    nodes = ["conv", "less", name]
    chart = charts.path(nodes, {"less": "Less"}, {name: "Where"}, {name: "logits <b>"})
    assert lies_within(chart)
    assert chart.count("Less tests the input") == 1
    assert chart.count("Where decides") == 1
    assert "logits &lt;b&gt;" in chart
    assert "<script" not in chart


GATE = {
    "tests": [{"node": "less", "operator": "Less"}],
    "gates": [{"node": "gate", "operator": "Where"}],
    "gated": "logits",
}
JOINT = {"joints": [{"node": "gate", "operator": "Add", "carrier": "logits"}]}


@pytest.mark.parametrize("details", [GATE, JOINT])
def test_the_network_joins_the_way_at_the_gate(details: dict[str, Any]) -> None:
    seen = Observation(
        code="x", severity=Severity.CONFIRMED, sentence="x", nodes=("less", "gate"), details=details
    )
    chart = charts.way(seen)
    assert chart is not None
    assert lies_within(chart)
    for words in ("the input", "the trained network:", "logits", "the output"):
        assert f">{words}<" in chart


@pytest.mark.parametrize(
    "details", [{}, {"gates": 3}, {"gates": [{}], "tests": ["x"]}, {"joints": None}]
)
def test_nodes_that_no_test_or_gate_is_among_are_no_way(details: dict[str, Any]) -> None:
    seen = Observation(
        code="x", severity=Severity.WARNING, sentence="x", nodes=("a", "b"), details=details
    )
    assert charts.way(seen) is None


@given(st.floats(-100, 100))
def test_how_far_out_a_model_lies(own: float) -> None:
    chart = charts.reach(own, "the model lies far out")
    assert lies_within(chart)
    assert f"the suspect: {own:.3g}" in chart


@given(st.dictionaries(st.integers(0, 2000), st.floats(-50, 50), max_size=200))
def test_a_small_chart_holds_every_class_that_stands_out(sizes: dict[int, float]) -> None:
    chart = charts.tile(sizes, "all classes")
    moves = re.findall(r"M([\d.e+-]+) 40V([\d.e+-]+)", chart)
    assert all(0 <= float(x) <= 120 and 0 <= float(y) <= 40 for x, y in moves)
    assert bool(moves) == any(size > 0 for size in sizes.values())
    assert ('class="bars own"' in chart) == any(size > 1 for size in sizes.values())
    assert len(chart) < 2000


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_changed_layers(apart: list[float]) -> None:
    layers = [
        LayerChange(
            node=f"n{number}", operator="Conv", role="weight", rows=8, changed=2, apart=far,
            relation=Relation.REPLACED, standing_out=(1, 2) if number == 0 else (),
        )
        for number, far in enumerate(apart)
    ]  # fmt: skip
    chart = charts.changed(layers)
    assert lies_within(chart)
    assert chart.count("2 of 8 channels changed") == min(len(apart), 120)
    assert chart.count('class="own target"') == 1
    assert f"1 of {len(apart)} changed weights have channels that stand out" in chart


def test_a_long_path_keeps_both_of_its_ends() -> None:
    nodes = [f"n{number}" for number in range(500)]
    chart = charts.path(nodes, {}, {"n499": "Where"}, {})
    assert lies_within(chart)
    assert ">n0<" in chart
    assert ">n499<" in chart
    assert "380 more nodes" in chart


def test_charts_of_a_finding_stand_alone_in_their_colours() -> None:
    drawn = dict(charts.of(neural_cleanse())) | dict(charts.of(overactivation()))
    assert set(drawn) >= {"classes", "images"}
    for chart in drawn.values():
        root = ET.fromstring(charts.alone(chart))  # noqa: S314 - we have just written it
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root[0].tag.endswith("style")
