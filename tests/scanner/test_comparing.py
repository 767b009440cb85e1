"""What one detector does wrong never takes what the others found."""

from typing import ClassVar

import pytest
from examples import identity

from scanner import comparing
from scanner.errors import UsageError
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.judging.population import CleanModels
from scanner.limits import Limits
from scanner.results import (
    ByClass,
    ClassRow,
    Comparison,
    Contest,
    Contribution,
    Description,
    Grant,
    Measurement,
    ModelRecord,
    Part,
    Rule,
)


class Steady(Detector):
    """A detector that describes anything."""

    rule: ClassVar[Rule] = Rule(id="steady", name="S", summary="s", source="p")
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Not asked for here."""
        raise NotImplementedError


class Broken(Steady):
    """A detector with a bug."""

    rule: ClassVar[Rule] = Rule(id="broken", name="B", summary="s", source="p")

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Divide by nothing."""
        del measurement, comparison
        raise ZeroDivisionError


class Decisive(Steady):
    """A search whose silence may be called clean."""

    contribution: ClassVar[Contribution] = Contribution(part=Part.COMBINED, decisive=True)


def shown(path: str, *ranges: tuple[float, float] | None) -> ModelRecord:
    """A model that each detector showed images in a range, or none."""
    measurements = tuple(
        Measurement(
            rule=f"r{number}",
            statistic=1.0,
            parameters={} if values is None else {"input_range": values},
        )
        for number, values in enumerate(ranges)
    )
    return ModelRecord(
        model=identity(path), measurements=measurements, skips=(), failures=(), runtime=None
    )


def test_what_was_shown_nothing_was_not_shown_other_values() -> None:
    suspect = shown("m", (0, 1), None, (0, 1))
    comparing.check_same_values(suspect, shown("r", (0, 1), (0, 1), None))
    with pytest.raises(UsageError, match="measured on other values"):
        comparing.check_same_values(suspect, shown("r", (0, 1), None, (0, 255)))


def test_a_comparison_that_fails_is_a_failure_of_its_own() -> None:
    measurements = tuple(
        Measurement(rule=rule, statistic=1.0, parameters={}) for rule in ("broken", "steady")
    )
    suspect = ModelRecord(
        model=identity("m"), measurements=measurements, skips=(), failures=(), runtime=None
    )
    clean = CleanModels(references=(), population=(), source="")
    pairs, failures = comparing._compare(clean, clean, (Broken(), Steady()), suspect, Limits())
    assert [comparison.rule for comparison, _ in pairs] == ["steady"]
    assert [failure.rule for failure in failures] == ["broken"]


def test_a_class_that_a_decisive_search_never_reached_is_a_doubt() -> None:
    """Scores a hundred million times smaller, and no class but the one of all noise was reached."""
    found = Measurement(
        rule="steady",
        statistic=1.0,
        parameters={},
        by_class=ByClass(
            classes=3,
            rows=tuple(
                ClassRow(class_id=number, figure=figure, course=(figure,))
                for number, figure in enumerate((None, 14.4, None))
            ),
            unreached=64.0,
            contest=Contest(
                planned=100,
                round=25,
                finalists=3,
                granted=tuple(Grant(class_id=number, steps=100) for number in range(3)),
            ),
        ),
    )
    suspect = ModelRecord(
        model=identity("m"), measurements=(found,), skips=(), failures=(), runtime=None
    )
    (doubt,) = comparing._not_reached(suspect, (Decisive(),))
    assert "2 of 3 classes (0, 2)" in doubt
    assert not list(comparing._not_reached(suspect, (Steady(),)))
