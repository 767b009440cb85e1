"""The suspect beside clean models: how each of them compares with the same references."""

from collections.abc import Iterator, Sequence

from scanner import calibration
from scanner.detectors.base import Detector
from scanner.results import Comparison, Measurement, ModelIdentity, ModelRecord, Nulls
from scanner.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineup:
    """Clean models to compare with.

    Attributes:
        references: Records of the models that the user called clean.
        population: Records of a baseline's clean models, of the suspect's recipe.
        source: Which models the population is, in words.
    """

    references: tuple[ModelRecord, ...]
    population: tuple[ModelRecord, ...]
    source: str

    def compare(self, detector: Detector, suspect: ModelRecord) -> tuple[Comparison, Nulls | None] | None:
        """Return the suspect's comparison and those of clean models in its place; None where it was not measured.

        With references and a population, each clean model of the population stands in the suspect's place before the
        same references. With only one of the two, each clean model is compared with all the others and the suspect, as
        the suspect is with all of them. In both cases a clean suspect is one of k + 1 exchangeable models.
        """
        own = suspect.measurement(detector.rule.id)
        if own is None:
            return None
        references = _measured(self.references, own.rule)
        alone = detector.compare(own, references)
        if alone.structural:
            return alone, None
        reason = calibration.mismatch(self.population, suspect.model)
        fitting = () if reason else _others(self.population, [suspect, *self.references])
        population, other = calibration.comparable(own, fitting)
        reason = reason or other
        if population and references:
            return alone, _nulls(self.source, [detector.compare(m, references) for m in population])
        crowd, source = (population, self.source) if population else (references, calibration.REFERENCES)
        if len(crowd) < 2:  # noqa: PLR2004 - two clean models show how much clean models differ
            unfit = Nulls(rule=own.rule, values=(), source=self.source, reason=reason)
            return detector.compare(own, crowd), unfit if self.population and reason else None
        nulls = [detector.compare(m, [own, *crowd[:i], *crowd[i + 1 :]]) for i, m in enumerate(crowd)]
        return detector.compare(own, crowd), _nulls(source, nulls)

    def warnings(self, detectors: Sequence[Detector], suspect: ModelIdentity) -> Iterator[str]:
        """Yield what is wrong with the references: another architecture, or one that is itself unlike clean models."""
        others = Lineup(references=(), population=self.population, source=self.source)
        for reference in self.references:
            name = reference.model.path
            if reference.model.architecture != suspect.architecture:
                yield f"the reference {name!r} has another architecture, and what differs may be no more than that"
            pairs = [pair for d in detectors if (pair := others.compare(d, reference)) is not None]
            if calibration.stands_apart(pairs):
                yield (
                    f"the reference {name!r} is itself far from the clean models of the {self.source}: "
                    "make sure that it is clean, since a backdoor in both models hides from the comparison"
                )


def _nulls(source: str, comparisons: Sequence[Comparison]) -> Nulls:
    values = tuple(c.statistic for c in comparisons if c.statistic is not None)
    return Nulls(rule=comparisons[0].rule, values=values, source=source)


def _measured(records: Sequence[ModelRecord], rule: str) -> list[Measurement]:
    return [m for record in records if (m := record.measurement(rule)) is not None]


def _others(population: Sequence[ModelRecord], present: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the population without the models that are already in the line."""
    hashes = {record.model.sha256 for record in present}
    return [record for record in population if record.model.sha256 not in hashes]
