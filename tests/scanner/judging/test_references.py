"""What is wrong with references, and when a range is a question."""

import dataclasses
from collections.abc import Sequence

import pytest
from examples import identity
from hypothesis import given
from hypothesis import strategies as st

from scanner.judging import population
from scanner.judging.references import (
    Kinship,
    copies,
    distinct,
    is_of_use,
    objections,
    relatives,
    repeated,
    torn,
)
from scanner.results import (
    Basis,
    ByImage,
    InputRange,
    Measurement,
    ModelRecord,
    Observation,
    Severity,
)

UNIT = InputRange(low=0, high=1, basis=Basis.WEIGHTS, sentence="the biases say so")
BYTES = InputRange(low=0, high=255, basis=Basis.GRAPH, sentence="the graph divides by 255")


def record(name: str, found: InputRange | None = UNIT, *, observed: bool = False) -> ModelRecord:
    seen = Observation(code="untrained", severity=Severity.WARNING, sentence="it is not trained")
    measurement = Measurement(
        rule="premise", statistic=0.0, parameters={}, observations=(seen,) if observed else ()
    )
    return ModelRecord(
        model=identity(name),
        measurements=(measurement,),
        skips=(),
        failures=(),
        runtime=None,
        input_range=found,
    )


def said(reference: ModelRecord, kinship: Kinship | None = None) -> list[str]:
    kin = kinship or Kinship(weights=0.01, correlation=0.5, z=4.0)
    return list(objections(record("suspect"), [reference], [kin], ["premise"]))


def test_nothing_is_said_of_a_proper_reference() -> None:
    assert said(record("clean")) == []
    assert said(record("clean"), Kinship()) == []


def test_a_copy_is_named() -> None:
    (sentence,) = said(record("copy"), Kinship(weights=0.97, correlation=-0.1, z=0.0))
    assert sentence.startswith("the reference 'copy' is a copy of the suspect")
    assert "0.97" in sentence
    assert "a backdoor may be in both" in sentence


def test_a_sister_of_the_same_seed_is_named_and_no_objection() -> None:
    kinship = Kinship(weights=0.79, correlation=0.0, z=0.0)
    assert said(record("sister"), kinship) == []
    (sentence,) = relatives([record("sister")], [kinship])
    assert "started from the same weights (they correlate by 0.79)" in sentence
    assert list(relatives([record("copy")], [Kinship(weights=0.97)])) == []
    assert list(relatives([record("other")], [Kinship(weights=0.1)])) == []


def test_a_stranger_is_named() -> None:
    (sentence,) = said(record("other"), Kinship(weights=0.0, correlation=0.01, z=0.2))
    assert "agree on nothing" in sentence
    assert "correlate by 0.01" in sentence


def test_classes_are_set_beside_those_of_trained_classifiers_of_the_same() -> None:
    assert is_of_use(record("clean"), Kinship(), ["premise"])
    assert is_of_use(record("copy"), Kinship(weights=0.97, correlation=0.0, z=0.0), ["premise"])
    assert not is_of_use(record("untrained", observed=True), Kinship(), ["premise"])
    foreign = Kinship(weights=0.0, correlation=0.01, z=0.2)
    assert not is_of_use(record("other"), foreign, ["premise"])


@pytest.mark.parametrize(("correlation", "z"), [(0.3, 0.2), (0.01, 2.0)])
def test_a_little_agreement_is_enough(correlation: float, z: float) -> None:
    assert said(record("clean"), Kinship(weights=0.0, correlation=correlation, z=z)) == []


def test_a_reference_that_is_no_classifier_is_named() -> None:
    (sentence,) = said(record("random", observed=True))
    assert sentence == "the reference 'random' is of no use: it is not trained"


def test_another_range_is_named_where_both_are_known() -> None:
    (sentence,) = said(record("bytes", BYTES))
    assert "0..255 (the graph divides by 255), not 0..1" in sentence
    assumed = dataclasses.replace(BYTES, basis=Basis.ASSUMED)
    assert said(record("bytes", assumed)) == []


@pytest.mark.parametrize(
    ("agreement", "asked"), [(None, True), (0.5, True), (0.89, True), (0.9, False), (1.0, False)]
)
def test_a_range_is_asked_for_where_the_choice_matters(
    agreement: float | None, asked: bool
) -> None:
    found = dataclasses.replace(UNIT, other=(-1, 1), agreement=agreement)
    sentences = list(torn(found))
    assert bool(sentences) is asked
    assert all("0..1 or -1..1" in s and "set the setting `input_range`" in s for s in sentences)


def test_nothing_is_asked_without_another_range() -> None:
    assert list(torn(UNIT)) == []
    assert list(torn(None)) == []


def answering(name: str, maxima: Sequence[float]) -> ModelRecord:
    """Return the record of a model that answers so to noise images."""
    whole = record(name)
    (own,) = whole.measurements
    answers = dataclasses.replace(own, by_image=ByImage(maxima=tuple(maxima)))
    return dataclasses.replace(whole, measurements=(answers,))


@given(st.lists(st.floats(0.5, 100), min_size=4, max_size=20), st.floats(0, 2e-3))
def test_a_reference_that_answers_as_the_suspect_does_is_a_copy(
    maxima: list[float], moved: float
) -> None:
    copy = answering("copy", [value * (1 + moved) for value in maxima])
    other = answering("other", [value * 1.1 for value in maxima])
    (sentence,) = copies(answering("suspect", maxima), [copy, other])
    assert sentence.startswith("the reference 'copy' is a copy of the suspect")


def test_no_two_models_of_the_shipped_baselines_are_copies() -> None:
    for path in population.SHIPPED.glob("*.json"):
        records = population.read_baseline(path).records
        for number, own in enumerate(records):
            assert list(copies(own, records[:number])) == []


def test_copies_of_one_network_count_once() -> None:
    maxima = [1.0, 2.0, 3.0, 4.0]
    known = [answering(n, [v * f for v in maxima]) for n, f in (("a", 1.0), ("b", 2.0))]
    again = [answering(n, [v * f for v in maxima]) for n, f in (("c", 1.001), ("d", 0.999))]
    counted = distinct([*known, *again])
    assert counted == {"a": ["c", "d"], "b": []}
    (sentence,) = repeated(counted)
    assert sentence.startswith("'c' and 1 more measured within 1% of 'a'")
    assert list(repeated(distinct(known))) == []
