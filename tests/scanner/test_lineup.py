"""Who is compared with whom."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pytest
from examples import identity

from scanner.detectors.base import Needs, Subject
from scanner.lineup import Lineup
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
        path="m", sha256=name or str(value), producer="", opset=17, inputs=identity("m").inputs, outputs=()
    )
    measurement = Measurement(rule="difference", statistic=value, parameters={"seed": seed})
    return ModelRecord(model=model, measurements=(measurement,), skips=(), failures=(), runtime=None)


def compared(
    suspect: ModelRecord, references: Sequence[ModelRecord] = (), population: Sequence[ModelRecord] = ()
) -> tuple[float | None, tuple[float, ...] | None]:
    lineup = Lineup(references=tuple(references), population=tuple(population), source="here")
    pair = lineup.compare(Difference(), suspect)
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
