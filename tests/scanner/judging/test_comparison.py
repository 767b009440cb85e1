"""One suspect beside references, whatever kind of profile was measured."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.judging.comparison import compare, match_layers, statistic_of
from scanner.results import (
    ByChannel,
    ByClass,
    ByImage,
    ByLayer,
    ChannelRow,
    ClassRow,
    Contribution,
    LayerRow,
    Measurement,
    Part,
    Rule,
    Scale,
    Wording,
)
from scanner.values import frozen


@frozen
class Declared:
    """What a detector declares, and no detector."""

    rule: Rule = Rule(id="r", name="R", summary="s", source="2024")
    contribution: Contribution = Contribution()
    scale: Scale = Scale()
    wording: Wording = Wording()


def measured(statistic: float | None = 1.0, **profile: Any) -> Measurement:
    return Measurement(
        rule="r", statistic=statistic, parameters={}, figures={"own": 0.5}, **profile
    )


def classes(*figures: float | None) -> ByClass:
    rows = tuple(
        ClassRow(class_id=index, figure=figure, course=(figure,), figures={"own": figure})
        for index, figure in enumerate(figures)
    )
    return ByClass(classes=len(figures), rows=rows)


def layer(name: str, peak: float, z: float = 1.0) -> LayerRow:
    return LayerRow(
        layer=name, operator="Relu", channels=2, peak_mean=peak, peak_max=peak, mean=peak,
        quantiles=(), channel=1, channel_peak=peak, channel_z=z,
    )  # fmt: skip


def channel(name: str, z: float, size: int = 4) -> ChannelRow:
    return ChannelRow(
        layer=name, operator="Conv", channels=size, channel=3, norm=2.0, median=1.0, z=z
    )


PROFILES: dict[str, dict[str, Any]] = {
    "by class": {"by_class": classes(1.0, 2.0, 5.0)},
    "by layer": {"by_layer": ByLayer(rows=(layer("a", 2.0), layer("b", 3.0)))},
    "by channel": {"by_channel": ByChannel(rows=(channel("a", 2.0), channel("b", 3.0)))},
    "by number": {},
}


@pytest.mark.parametrize("kind", PROFILES)
@pytest.mark.parametrize("count", [1, 3])
def test_beside_itself_nothing_stands_out(kind: str, count: int) -> None:
    own = measured(**PROFILES[kind])
    assert compare(Declared(), own, [own] * count).statistic == pytest.approx(0.0)


@pytest.mark.parametrize("kind", PROFILES)
def test_without_a_reference_there_is_no_statistic_but_evidence(kind: str) -> None:
    found = compare(Declared(), measured(**PROFILES[kind]), [])
    assert found.statistic is None
    assert found.evidence.standing is not None or found.evidence.layers
    assert found.scores == ()


def test_beside_itself_a_ratio_of_images_is_one() -> None:
    own = measured(by_image=ByImage(maxima=(1.0, 2.0, 4.0)))
    found = compare(Declared(wording=Wording(one="{wins} of {images}")), own, [own])
    assert found.statistic == 1.0
    assert found.evidence.images is not None
    assert found.evidence.images.ties == 3
    assert found.sentence == "0 of 3"


def test_a_structural_detector_is_judged_by_its_own_number() -> None:
    structural = Declared(contribution=Contribution(part=Part.STRUCTURAL))
    found = compare(structural, measured(4.0), [measured(1.0)])
    assert (found.statistic, found.evidence.figures) == (4.0, {"own": 0.5})


def test_one_number_less_the_references_mean() -> None:
    found = compare(Declared(), measured(4.0), [measured(1.0), measured(2.0), measured(None)])
    standing = found.evidence.standing
    assert found.statistic == 2.5
    assert standing is not None
    assert (standing.reference, standing.low, standing.high) == (1.5, 1.0, 2.0)
    assert compare(Declared(), measured(None), [measured(1.0)]).statistic is None


WORDING = Wording(
    one="one: class {target}, {suspect:.0f} against {reference:.0f}, own {own:.0f}",
    many="many: class {target}, {count} from {low:.0f} to {high:.0f}",
    alone="alone: class {target} has {suspect:.0f}",
    leading="leading: class {target} by {lead:.0f}",
)


@pytest.mark.parametrize(
    ("suspect", "references", "sentence"),
    [
        (classes(1, 2, 9), [classes(1, 2, 3)], "one: class 2, 9 against 3, own 9"),
        (classes(1, 2, 9), [classes(1, 2, 3), classes(1, 2, 5)], "many: class 2, 2 from 3 to 5"),
        (classes(1, 2, 9), [], "leading: class 2 by 7"),
        (classes(1, 9), [], "alone: class 1 has 9"),
        (classes(None, None, None), [], ""),
        (classes(1, 2, 9), [classes(1, 2)], "no reference has as many classes"),
    ],
    ids=["one", "many", "leading", "alone", "nothing reached", "other classes"],
)
def test_the_sentence_is_the_template_that_fits(
    suspect: ByClass, references: list[ByClass], sentence: str
) -> None:
    others = [measured(by_class=other) for other in references]
    found = compare(Declared(wording=WORDING), measured(by_class=suspect), others)
    assert found.sentence == sentence


def test_many_references_are_told_as_one_where_there_is_no_other_template() -> None:
    own, other = measured(by_class=classes(1, 2, 9)), measured(by_class=classes(1, 2, 3))
    detector = Declared(wording=Wording(one="class {target}"))
    assert compare(detector, own, [other, other]).sentence == "class 2"


def test_a_reference_of_other_classes_does_not_keep_others_from_being_compared() -> None:
    own, fitting, other = classes(1, 2, 9), classes(1, 2, 3), classes(1, 2)
    references = [measured(by_class=p) for p in (other, fitting)]
    found = compare(Declared(), measured(by_class=own), references)
    assert found.statistic == 6.0
    assert found.scores == ((0, 0.0), (1, 0.0), (2, 6.0))
    assert found.evidence.classes_compared == 3


def test_a_silent_layer_is_not_compared() -> None:
    own = measured(by_layer=ByLayer(rows=(layer("silent", 0.0), layer("b", 3.0))))
    other = measured(by_layer=ByLayer(rows=(layer("silent", 5.0), layer("b", 1.0))))
    detector = Declared(wording=Wording(one="{layer}: {times:.1f} times, {matched}"))
    found = compare(detector, own, [other])
    assert found.statistic == pytest.approx(math.log(3))
    assert [row.layer for row in found.evidence.layers] == ["b"]
    assert found.sentence == "b: 3.0 times, by name"


def test_alone_the_layer_with_the_strangest_channel_is_named() -> None:
    rows = (layer("a", 9.0, z=1.0), layer("b", 1.0, z=4.0))
    found = compare(Declared(), measured(by_layer=ByLayer(rows=rows)), [])
    assert found.evidence.layer == "b"


def test_channels_are_compared_with_references_of_the_same_sizes_alone() -> None:
    own = measured(by_channel=ByChannel(rows=(channel("a", 2.0), channel("b", 6.0))))
    fitting = measured(by_channel=ByChannel(rows=(channel("x", 1.0), channel("y", 3.0))))
    larger = measured(by_channel=ByChannel(rows=(channel("a", 9.0, 8), channel("b", 9.0))))
    detector = Declared(wording=Wording(one="{layer}: {suspect:.0f} against {reference:.0f}"))
    found = compare(detector, own, [larger, fitting])
    assert (found.statistic, found.evidence.references_compared) == (3.0, 1)
    assert found.sentence == "b: 6 against 3"


def test_layers_have_namesakes_or_the_same_place() -> None:
    a, b, c = layer("a", 1), layer("b", 1), layer("c", 1)
    assert match_layers([a, b], [b, c, a]) == [a, b]
    assert match_layers([a, b, c], [b, a]) == [b, a, None]


MAXIMA = st.lists(st.floats(0.1, 10), min_size=3, max_size=3)


@given(MAXIMA, st.lists(MAXIMA, min_size=1, max_size=4))
def test_a_clean_model_gets_the_statistic_of_a_suspect(
    own: list[float], others: list[list[float]]
) -> None:
    made = [
        Measurement(rule="r", statistic=1.0, parameters={}, by_image=ByImage(maxima=tuple(maxima)))
        for maxima in (own, *others)
    ]
    expected = compare(Declared(), made[0], made[1:])
    statistic, scores = statistic_of(Declared(), made[0], made[1:])
    assert statistic == pytest.approx(expected.statistic, rel=1e-12)
    assert scores == expected.scores
