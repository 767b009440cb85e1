"""Who is compared with whom."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from examples import identity

from scanner.instruments.detector import Needs, Subject
from scanner.judging.lineup import Lineup
from scanner.results import Comparison, Measurement, ModelIdentity, ModelRecord, Rule


class Difference:
    """A detector whose comparison is the suspect's number less the references' mean."""

    rule: ClassVar[Rule] = Rule(id="difference", name="D", summary="s", reference="p")
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Not asked for here."""
        raise NotImplementedError

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return own number less the mean of the others."""
        own = float(suspect.statistic or 0)
        others = [float(m.statistic or 0) for m in references]
        statistic = own - sum(others) / len(others) if others else None
        return Comparison(rule=self.rule.id, statistic=statistic, values={})


def record(value: float, name: str | None = None, seed: int = 0) -> ModelRecord:
    model = ModelIdentity(
        path="m",
        sha256=name or str(value),
        producer="",
        opset=17,
        inputs=identity("m").inputs,
        outputs=(),
    )
    measurement = Measurement(rule="difference", statistic=value, parameters={"seed": seed})
    return ModelRecord(
        model=model, measurements=(measurement,), skips=(), failures=(), runtime=None
    )


def compared(
    suspect: ModelRecord,
    references: Sequence[ModelRecord] = (),
    population: Sequence[ModelRecord] = (),
) -> tuple[float | None, tuple[float, ...] | None]:
    lineup = Lineup(references=tuple(references), population=tuple(population), source="here")
    pair = lineup.settled([Difference()], suspect, 0.05).compare(Difference(), suspect)
    assert pair is not None
    comparison, nulls = pair
    return comparison.statistic, None if nulls is None else nulls.values


def test_a_population_stands_before_the_users_references() -> None:
    assert compared(record(9), [record(1)], [record(2), record(3)]) == (8, (1, 2))


def test_a_population_alone_is_compared_crosswise() -> None:
    assert compared(record(9), [], [record(2), record(4)]) == (6, (2 - 6.5, 4 - 5.5))


def test_several_references_calibrate_one_another() -> None:
    assert compared(record(9), [record(2), record(4)]) == (6, (2 - 6.5, 4 - 5.5))


def test_one_reference_calibrates_nothing() -> None:
    assert compared(record(9), [record(2)]) == (7, None)


def test_no_model_is_its_own_judge() -> None:
    assert compared(record(9, "same"), [record(1)], [record(9, "same"), record(3)]) == (8, (2,))


def test_a_population_of_other_parameters_is_left_out_with_a_reason() -> None:
    lineup = Lineup(references=(record(1),), population=(record(2, seed=7),), source="here")
    pair = lineup.compare(Difference(), record(9))
    assert pair is not None
    assert pair[1] is not None
    assert pair[1].reason == "it was measured with seed 7, not 0"


def warned(reference: ModelRecord, population: Sequence[ModelRecord]) -> list[str]:
    class Decisive(Difference):
        rule: ClassVar[Rule] = dataclasses.replace(Difference.rule, id="head")

    def renamed(record: ModelRecord) -> ModelRecord:
        measurements = tuple(dataclasses.replace(m, rule="head") for m in record.measurements)
        return dataclasses.replace(record, measurements=measurements)

    crowd = tuple(map(renamed, population))
    lineup = Lineup(references=(renamed(reference),), population=crowd, source="baseline 'b'")
    return list(lineup.warnings([Decisive()], record(0).model))


def test_a_reference_that_is_unlike_clean_models_is_named() -> None:
    crowd = [record(float(value)) for value in range(1, 21)]
    (warning,) = warned(record(50.0), crowd)
    assert warning.startswith(
        "the reference 'm' is itself far from the clean models of the baseline 'b'"
    )
    assert warned(record(20.5), crowd) == []
    assert warned(record(50.0), []) == []
    assert warned(record(50.0), crowd[:18]) == [], (
        "few models say little of what clean models reach"
    )


def test_a_reference_of_another_architecture_is_named() -> None:
    other = record(1.0)
    other = dataclasses.replace(
        other, model=dataclasses.replace(other.model, architecture="another")
    )
    (warning,) = warned(other, [])
    assert warning.startswith("the reference 'm' has another architecture")


class Other(Difference):
    """A detector that a population may not speak of."""

    rule: ClassVar[Rule] = dataclasses.replace(Difference.rule, id="other")


def both(value: float, name: str, *, fits: bool = True) -> ModelRecord:
    """Return a record of two detectors; the second one was measured with another seed where it does not fit."""
    first = record(value, name)
    (measurement,) = first.measurements
    second = dataclasses.replace(measurement, rule="other", parameters={"seed": 0 if fits else 7})
    return dataclasses.replace(first, measurements=(measurement, second))


@pytest.mark.parametrize(("references", "fits", "judges"), [
    (19, False, (19, 19)),  # enough of them to judge alone
    (3, False, (30, 0)),  # the population judges what it can, and nobody the rest
    (19, True, (30, 30)),
])  # fmt: skip
def test_the_same_models_judge_every_detector(
    references: int, fits: bool, judges: tuple[int, int]
) -> None:
    lineup = Lineup(
        references=tuple(both(float(i), f"reference {i}") for i in range(references)),
        population=tuple(both(float(i), f"clean {i}", fits=fits) for i in range(30)),
        source="a baseline",
    )
    suspect, detectors = both(9.0, "suspect"), (Difference(), Other())
    settled = lineup.settled(detectors, suspect, 0.05)
    pairs = [settled.compare(detector, suspect) for detector in detectors]
    nulls = [pair[1] for pair in pairs if pair is not None]
    assert tuple(len(n.values) for n in nulls if n is not None) == judges
    sources = {n.source for n in nulls if n is not None and n.values}
    assert sources == {"the references" if judges == (19, 19) else "a baseline"}


def contested(value: float, name: str, searched: int = 43) -> ModelRecord:
    """Return the record of a contest in which of so many classes one went through to the end."""
    whole = record(value, name)
    series = {"classes": [{"class": 3 + t} for t in range(searched)], "granted": {"3": 100}}
    measurements = tuple(dataclasses.replace(m, series=series) for m in whole.measurements)
    return dataclasses.replace(whole, measurements=measurements)


def test_a_contest_that_dropped_classes_is_judged_without_the_references() -> None:
    crowd = [contested(2, "a"), contested(4, "b")]
    assert compared(contested(9, "s"), [contested(1, "r", searched=1)], crowd) == (
        6,
        (2 - 6.5, 4 - 5.5),
    )


def test_references_that_repeat_the_suspects_search_do_not_judge() -> None:
    """Searched for the suspect's favourites only, they would let it stand out; with their own contests they judge."""
    assert compared(contested(9, "s"), [contested(v, str(v), searched=1) for v in (2, 4)]) == (
        6,
        (),
    )
    assert compared(contested(9, "s"), [contested(v, str(v)) for v in (2, 4)]) == (
        6,
        (2 - 6.5, 4 - 5.5),
    )


@pytest.mark.parametrize("with_references", [True, False])
def test_a_clean_suspect_ranks_uniformly(with_references: bool) -> None:
    generator = np.random.default_rng(0)
    ranks = []
    for _ in range(1000):
        values = generator.standard_normal(11)
        references = [record(float(generator.standard_normal()), "ref")] if with_references else []
        own, nulls = compared(record(values[0]), references, [record(v) for v in values[1:]])
        assert own is not None
        assert nulls is not None
        ranks.append(sum(null >= own for null in nulls))
    counts = np.bincount(ranks, minlength=11)
    assert counts.min() > 1000 / 11 - 4 * np.sqrt(1000 / 11)
    assert counts.max() < 1000 / 11 + 4 * np.sqrt(1000 / 11)
