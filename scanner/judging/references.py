"""What is wrong with what a suspect is compared with, beside its place among clean models."""

from collections.abc import Iterator, Mapping, Sequence

from scanner.errors import UsageError
from scanner.judging.arithmetic import median
from scanner.results import Basis, InputRange, Measurement, ModelIdentity, ModelRecord
from scanner.values import frozen

# Median cosine of corresponding layers' weights. Networks of one development recipe that were
# trained apart have 0.16 at most, from the same random numbers up to 0.79 (the samples' seed 0),
# and those that were fine-tuned from one network 0.91 at least (benchmarks/input_range.py).
_KIN, _COPIED = 0.5, 0.85
# No pair of one recipe is below both of these there, nor are 97 % of those of other recipes for the
# same data; two thirds of those of other data are.
_AGREED, _CORRELATED = 1.0, 0.05
# Answers that differ by less than this share are those of one network. Of all pairs of clean models
# in the shipped baselines none is closer than 0.034, by the detector that tells the two best apart.
_COPY = 0.01
_SAME_ANSWERS = 0.9  # share of images at which the choice of a range does not matter


@frozen
class Kinship:
    """How alike a suspect and a reference are.

    Attributes:
        weights: Median cosine of corresponding layers; None where their layers differ.
        correlation: Of the same class's logits over images; None where it is not known.
        z: The same in standard deviations of what shuffled classes would give.
    """

    weights: float | None = None
    correlation: float | None = None
    z: float | None = None

    @property
    def copied(self) -> bool:
        """Whether one was trained on from the other, or both from a third."""
        return self.weights is not None and self.weights >= _COPIED

    @property
    def related(self) -> bool:
        """Whether both started from the same weights, if only from the same random numbers."""
        return self.weights is not None and self.weights >= _KIN

    @property
    def strangers(self) -> bool:
        """Whether the same class means the same in neither."""
        return (
            self.z is not None
            and self.correlation is not None
            and self.z < _AGREED
            and self.correlation < _CORRELATED
        )


def refuse_repeats(kind: str, models: Sequence[ModelIdentity]) -> None:
    """Refuse one file under two names: it would count as two clean models.

    Args:
        kind: What the models are to the user, such as "reference".
        models: What was opened.

    Raises:
        UsageError: Two have the same SHA-256.
    """
    seen: dict[str, str] = {}
    for model in models:
        if model.sha256 is None:
            continue
        if model.sha256 in seen:
            raise UsageError(
                f"the {kind}s {seen[model.sha256]!r} and {model.path!r} are the same file (same "
                "SHA-256), which counts once",
                remedy=f"name each {kind} once; one whose weights lie outside its file is told "
                "apart only if they are saved inside it",
            )
        seen[model.sha256] = model.path


def objections(
    suspect: ModelRecord,
    references: Sequence[ModelRecord],
    kinships: Sequence[Kinship],
    premises: Sequence[str],
) -> Iterator[str]:
    """Yield why nothing can be called clean beside these references, in sentences.

    Args:
        suspect: What was measured on the suspect.
        references: The same of each reference.
        kinships: How alike each reference and the suspect are.
        premises: Rules that say whether there is anything to judge.
    """
    for reference, kinship in zip(references, kinships, strict=True):
        name = reference.model.path
        if kinship.copied:
            yield (
                f"the reference {name!r} is a copy of the suspect that was trained on, or both "
                f"come from one network (their weights correlate by {kinship.weights:.2f}): "
                "a backdoor may be in both and hides from the comparison; name a clean model that "
                "was trained separately"
            )
        if kinship.strangers and not kinship.related:
            yield (
                f"the reference {name!r} and the suspect agree on nothing (the same class's logits "
                f"correlate by {kinship.correlation:.2f}): it was trained on other data, or orders "
                "the classes otherwise; name a clean model of the same classes"
            )
        unmet = next(_unmet(reference, premises), None)
        if unmet is not None:
            yield f"the reference {name!r} is of no use: {unmet}"
        yield from _another_range(suspect.input_range, reference)


def is_of_use(reference: ModelRecord, kinship: Kinship, premises: Sequence[str]) -> bool:
    """Whether a suspect's classes can be set beside a reference's.

    They cannot be where it is no trained classifier, or one of other classes: beside it any model
    stands out, and none by much.
    """
    foreign = kinship.strangers and not kinship.related
    return not foreign and next(_unmet(reference, premises), None) is None


def copies(suspect: ModelRecord, references: Sequence[ModelRecord]) -> Iterator[str]:
    """Yield which references measure so alike that they are copies of the suspect, in sentences.

    Whoever hands out a backdoored model can hand out its copy with a weight changed as its
    reference. `objections` names copies by their weights, where these are known.
    """
    for reference in references:
        if _is_copy(suspect, reference):
            yield (
                f"the reference {reference.model.path!r} is a copy of the suspect, or nearly so, "
                "which makes it no evidence: name a model that was trained separately"
            )


def distinct(records: Sequence[ModelRecord]) -> dict[str, list[str]]:
    """Return the models that count, each with those that are copies of it, by path.

    Clean models judge by how much they differ. Where one network is there several times, as
    exported anew, nothing else lies as near as its copies do, and all that was trained apart would
    stand out.
    """
    kept: list[tuple[ModelRecord, list[str]]] = []
    for record in records:
        same = next((names for other, names in kept if _is_copy(other, record)), None)
        if same is None:
            kept.append((record, []))
        else:
            same.append(record.model.path)
    return {record.model.path: names for record, names in kept}


def repeated(counted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield which models count once with others, in sentences.

    Args:
        counted: As `distinct` returns it.
    """
    for name, names in counted.items():
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            yield (
                f"{names[0]!r}{more} measured within {_COPY:.0%} of {name!r}: they are copies of "
                "one network, or nearly so, and count once"
            )


def relatives(references: Sequence[ModelRecord], kinships: Sequence[Kinship]) -> Iterator[str]:
    """Yield which references started from the suspect's own first weights, in sentences.

    Those that are copies are named by `objections`.
    """
    for reference, kinship in zip(references, kinships, strict=True):
        if kinship.related and not kinship.copied:
            yield (
                f"the reference {reference.model.path!r} and the suspect started from the same "
                f"weights (they correlate by {kinship.weights:.2f}): if those were not the random "
                "numbers of one seed but a trained network's, its backdoor would be in both"
            )


def torn(found: InputRange | None) -> Iterator[str]:
    """Yield a question where two input ranges fit, and the choice changes the answers."""
    if found is None or found.other is None:
        return
    if found.agreement is None or found.agreement < _SAME_ANSWERS:
        yield (
            f"the input range is {written(found.low, found.high)} or {written(*found.other)} "
            f"({found.sentence}): set the setting `input_range`"
        )


def written(low: float, high: float) -> str:
    """Return a range as people write it."""
    return f"{low:.4g}..{high:.4g}"


def _unmet(record: ModelRecord, premises: Sequence[str]) -> Iterator[str]:
    """Yield why a model is no trained classifier."""
    for measurement in record.measurements:
        if measurement.rule in premises:
            yield from (o.sentence for o in measurement.observations)


def _another_range(own: InputRange | None, reference: ModelRecord) -> Iterator[str]:
    other = reference.input_range
    known = {Basis.TYPE, Basis.GRAPH, Basis.WEIGHTS}
    if own is None or other is None or not {own.basis, other.basis} <= known:
        return
    # A file cannot tell one signed range from another.
    both_signed = own.low < 0 and other.low < 0
    if not both_signed and abs(own.high - other.high) > 0.1 * (own.high - own.low):
        yield (
            f"the reference {reference.model.path!r} takes another input range than the suspect: "
            f"{written(other.low, other.high)} ({other.sentence}), not "
            f"{written(own.low, own.high)}"
        )


def _is_copy(suspect: ModelRecord, other: ModelRecord) -> bool:
    """Whether two models answer so alike that they were not trained apart."""
    distances = [
        distance
        for own in suspect.measurements
        if (their := other.measurement(own.rule)) is not None
        if (distance := _distance(_answers(own), _answers(their))) is not None
    ]
    return bool(distances) and max(distances) < _COPY


def _answers(measurement: Measurement) -> Sequence[float | None]:
    """Return what is measured by image or by class: the profiles in which networks differ most."""
    if measurement.by_image is not None:
        return measurement.by_image.maxima
    return [row.figure for row in measurement.by_class.rows] if measurement.by_class else ()


def _distance(own: Sequence[float | None], other: Sequence[float | None]) -> float | None:
    """Return the median relative difference of two profiles; None where nothing can be compared."""
    pairs = [(a, b) for a, b in zip(own, other, strict=False) if a or b]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return median([abs(a - b) / max(abs(a), abs(b)) for a, b in known]) if known else None
