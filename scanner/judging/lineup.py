"""The suspect beside clean models: how each of them compares with the same references."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from scanner.judging import calibration
from scanner.results import (
    Comparison,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Nulls,
    Rule,
    Severity,
)
from scanner.values import frozen


class Detector(Protocol):
    """What is asked of a detector here: arithmetic on measurements."""

    @property
    def rule(self) -> Rule:
        """Its identity."""
        ...

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Set the suspect's profile against those of the references (none, one or many)."""
        ...


@frozen
class Lineup:
    """Clean models to compare with.

    Attributes:
        references: Records of the models that the user called clean.
        population: Records of a baseline's clean models, of the suspect's recipe.
        source: Which models the population is, in words.
        repeated: Whether the references repeat what a contest of the suspect's chose, so that they
            cannot judge it.
    """

    references: tuple[ModelRecord, ...]
    population: tuple[ModelRecord, ...]
    source: str
    repeated: bool = False

    def compare(
        self, detector: Detector, suspect: ModelRecord
    ) -> tuple[Comparison, Nulls | None] | None:
        """Return the suspect's comparison and those of clean models in its place; None where it was not measured.

        With references and a population, each clean model of the population stands in the suspect's
        place before the same references. With only one of the two, each clean model is compared
        with all the others and the suspect, as the suspect is with all of them. In both cases a
        clean suspect is one of k + 1 exchangeable models. Where contests dropped classes,
        references may have been searched for the suspect's favourites or for none of a clean
        model's, and the population judges without them.
        """
        own = suspect.measurement(detector.rule.id)
        if own is None:
            return None
        references = _with(self.references, own.rule)
        alone = detector.compare(own, _measured(references, own.rule))
        if alone.structural:
            return alone, None
        population, reason = self._fitting(own, suspect)
        if self.population and not population:
            return alone, Nulls(
                rule=own.rule, values=(), source=self.source, reason=reason
            ) if reason else None
        measured = _measured(population, own.rule)
        if population and references and not any(map(dropped_some, (own, *measured))):
            beside = _measured(references, own.rule)
            return alone, _nulls(
                self.source, population, [detector.compare(m, beside) for m in measured]
            )
        crowd, source = (
            (population, self.source) if population else (references, calibration.REFERENCES)
        )
        if self.repeated:
            reason = "so few only repeat the suspect's search"
            return alone, Nulls(
                rule=own.rule, values=(), source="a rank among the references", reason=reason
            )
        return _crosswise(detector, own, crowd, source)

    def settled(
        self, detectors: Sequence[Detector], suspect: ModelRecord, alpha: float
    ) -> "Lineup":
        """Return a lineup in which the same models judge every detector of the combined verdict.

        A population that was measured otherwise than the suspect may fit some detectors and not
        others. The references then judge alone if they are enough for the level, or if it fits
        none; and not at all where they repeat what the suspect's contest chose.
        """
        combined = [d for d in detectors if d.rule.id in calibration.COMBINED] or detectors
        measured = [own for d in combined if (own := suspect.measurement(d.rule.id)) is not None]
        fits = [bool(self._fitting(own, suspect)[0]) for own in measured]
        few = not calibration.enough(len(self.references), alpha)
        if len(self.references) < 2 or all(fits) or (any(fits) and few):  # noqa: PLR2004 - one alone never judges
            return self
        repeated = any(
            _repeats(m, own) for own in measured for m in _measured(self.references, own.rule)
        )
        return Lineup(
            references=self.references, population=(), source=self.source, repeated=repeated
        )

    def _fitting(
        self, own: Measurement, suspect: ModelRecord
    ) -> tuple[list[ModelRecord], str | None]:
        """Return who in the population was measured as the suspect was, without those in the line; or why nobody."""
        reason = calibration.mismatch(self.population, suspect.model)
        if reason:
            return [], reason
        others = _with(_others(self.population, [suspect, *self.references]), own.rule)
        reason = calibration.difference(own, _measured(others, own.rule))
        return ([], reason) if reason else (others, None)

    def warnings(self, detectors: Sequence[Detector], suspect: ModelIdentity) -> Iterator[str]:
        """Yield what is wrong with the references: another architecture, or one that is itself unlike clean models."""
        apart = [reference.model.path for reference in self._apart(detectors)]
        for reference in self.references:
            name = reference.model.path
            if reference.model.architecture != suspect.architecture:
                yield f"the reference {name!r} has another architecture, and what differs may be no more than that"
            if name in apart:
                yield (
                    f"the reference {name!r} is itself far from the clean models of the "
                    f"{self.source}: "
                    "make sure that it is clean, since a backdoor in both models hides from the "
                    "comparison"
                )

    def doubts(self, detectors: Sequence[Detector]) -> Iterator[str]:
        """Yield why nothing can be called clean beside these references, in sentences.

        A backdoor that a reference shares hides from the comparison: whoever chose the reference
        would choose the verdict.
        """
        for reference in self._apart(detectors):
            yield (
                f"the reference {reference.model.path!r} is itself far from the clean models of "
                f"the {self.source}, and beside it no model can be called clean"
            )
        for reference in self.references:
            found = [o for m in reference.measurements for o in m.observations]
            worst = max(found, key=lambda o: o.severity, default=None)
            if worst is not None and worst.severity >= Severity.SUSPICIOUS:
                name = reference.model.path
                yield f"the reference {name!r} is itself suspicious: {worst.sentence}"

    def _apart(self, detectors: Sequence[Detector]) -> Iterator[ModelRecord]:
        """Yield the references that stand out among the clean models of the population."""
        others = Lineup(references=(), population=self.population, source=self.source)
        combined = [d for d in detectors if d.rule.id in calibration.COMBINED and self.population]
        for reference in self.references:
            pairs = [pair for d in combined if (pair := others.compare(d, reference)) is not None]
            if calibration.stands_apart(pairs):
                yield reference


def _crosswise(
    detector: Detector, own: Measurement, crowd: Sequence[ModelRecord], source: str
) -> tuple[Comparison, Nulls | None]:
    """Compare the suspect with a crowd, and each of the crowd with the others and the suspect."""
    measured = _measured(crowd, own.rule)
    found = detector.compare(own, measured)
    if len(measured) < 2:  # noqa: PLR2004 - two clean models show how much clean models differ
        return found, None
    nulls = [
        detector.compare(m, [own, *measured[:i], *measured[i + 1 :]])
        for i, m in enumerate(measured)
    ]
    return found, _nulls(source, crowd, nulls)


def _nulls(source: str, models: Sequence[ModelRecord], comparisons: Sequence[Comparison]) -> Nulls:
    known = [
        (c.statistic, c.classes, r.model.sha256) for r, c in zip(models, comparisons, strict=True)
    ]
    rows = [row for row in known if row[0] is not None]
    values, classes, hashes = zip(*rows, strict=True) if rows else ((), (), ())
    return Nulls(
        rule=comparisons[0].rule, values=values, classes=classes, models=hashes, source=source
    )


def dropped_some(measurement: Measurement) -> bool:
    """Whether a contest of the model's own gave up some of its classes on the way."""
    return len(measurement.series.get("granted", ())) < len(measurement.series.get("classes", ()))


def _repeats(reference: Measurement, suspect: Measurement) -> bool:
    """Whether a reference was searched for just the classes that the suspect's contest kept."""
    searched = {str(row["class"]) for row in reference.series.get("classes", ()) if "class" in row}
    return dropped_some(suspect) and searched == suspect.series["granted"].keys()


def _with(records: Sequence[ModelRecord], rule: str) -> list[ModelRecord]:
    return [record for record in records if record.measurement(rule) is not None]


def _measured(records: Sequence[ModelRecord], rule: str) -> list[Measurement]:
    return [m for record in records if (m := record.measurement(rule)) is not None]


def _others(population: Sequence[ModelRecord], present: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the population without the models that are already in the line."""
    hashes = {record.model.sha256 for record in present}
    return [record for record in population if record.model.sha256 not in hashes]
