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
        the suspect is with all of them. In both cases a clean suspect is one of k + 1 exchangeable models. Where the
        suspect's own contest chose which classes the references were searched for, they speak against it: the
        population judges without them, and they do not judge by themselves.
        """
        own = suspect.measurement(detector.rule.id)
        if own is None:
            return None
        references = _measured(self.references, own.rule)
        alone = detector.compare(own, references)
        if alone.structural:
            return alone, None
        population, reason = self._fitting(own, suspect)
        if population and references and not _dropped_some(own):
            return alone, _nulls(self.source, [detector.compare(m, references) for m in population])
        if self.population and not population:
            return alone, Nulls(rule=own.rule, values=(), source=self.source, reason=reason) if reason else None
        crowd, source = (population, self.source) if population else (references, calibration.REFERENCES)
        if len(crowd) < 2:  # noqa: PLR2004 - two clean models show how much clean models differ
            return detector.compare(own, crowd), None
        if not population and _dropped_some(own) and not all(map(_dropped_some, crowd)):
            reason = "so few only repeat the suspect's search"
            return alone, Nulls(rule=own.rule, values=(), source="a rank among the references", reason=reason)
        nulls = [detector.compare(m, [own, *crowd[:i], *crowd[i + 1 :]]) for i, m in enumerate(crowd)]
        return detector.compare(own, crowd), _nulls(source, nulls)

    def settled(self, detectors: Sequence[Detector], suspect: ModelRecord, alpha: float) -> "Lineup":
        """Return a lineup in which the same models judge every detector of the combined verdict.

        A population that was measured otherwise than the suspect may fit some detectors and not others. The references
        then judge alone if they are enough for the level, or if it fits none.
        """
        combined = [d for d in detectors if d.rule.id in calibration.COMBINED] or detectors
        measured = [own for d in combined if (own := suspect.measurement(d.rule.id)) is not None]
        fits = [bool(self._fitting(own, suspect)[0]) for own in measured]
        few = not calibration.enough(len(self.references), alpha)
        if len(self.references) < 2 or all(fits) or (any(fits) and few):  # noqa: PLR2004 - as in `compare`
            return self
        return Lineup(references=self.references, population=(), source=self.source)

    def _fitting(self, own: Measurement, suspect: ModelRecord) -> tuple[list[Measurement], str | None]:
        """Return what the population shows of the suspect's rule, without the models in the line; or why nothing."""
        reason = calibration.mismatch(self.population, suspect.model)
        if reason:
            return [], reason
        return calibration.comparable(own, _others(self.population, [suspect, *self.references]))

    def warnings(self, detectors: Sequence[Detector], suspect: ModelIdentity) -> Iterator[str]:
        """Yield what is wrong with the references: another architecture, or one that is itself unlike clean models."""
        others = Lineup(references=(), population=self.population, source=self.source)
        combined = [d for d in detectors if d.rule.id in calibration.COMBINED and self.population]
        for reference in self.references:
            name = reference.model.path
            if reference.model.architecture != suspect.architecture:
                yield f"the reference {name!r} has another architecture, and what differs may be no more than that"
            pairs = [pair for d in combined if (pair := others.compare(d, reference)) is not None]
            if calibration.stands_apart(pairs):
                yield (
                    f"the reference {name!r} is itself far from the clean models of the {self.source}: "
                    "make sure that it is clean, since a backdoor in both models hides from the comparison"
                )


def _nulls(source: str, comparisons: Sequence[Comparison]) -> Nulls:
    known = [(c.statistic, c.classes) for c in comparisons if c.statistic is not None]
    values, classes = zip(*known, strict=True) if known else ((), ())
    return Nulls(rule=comparisons[0].rule, values=values, classes=classes, source=source)


def _dropped_some(measurement: Measurement) -> bool:
    """Whether the model's own contest chose which classes its references were searched for."""
    return len(measurement.series.get("granted", ())) < len(measurement.series.get("classes", ()))


def _measured(records: Sequence[ModelRecord], rule: str) -> list[Measurement]:
    return [m for record in records if (m := record.measurement(rule)) is not None]


def _others(population: Sequence[ModelRecord], present: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Return the population without the models that are already in the line."""
    hashes = {record.model.sha256 for record in present}
    return [record for record in population if record.model.sha256 not in hashes]
