"""What a suspect's measurement chose for the clean models beside it.

The same values must be shown to both; and where the suspect's search of triggers chose which
classes get how many steps, so must those of a few references: with fewer steps, their triggers
would look harder to find.
"""

from scanner.results import Measurement, ModelRecord
from scanner.values import frozen


@frozen
class Course:
    """What references repeat of a rule's search.

    Attributes:
        rule: The rule's id.
        shape: How the search came in stages (`shape`).
        steps: Those that it granted, by class, in the order of the classes; empty where a reference
            chooses for itself.
    """

    rule: str
    shape: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]


@frozen
class Choice:
    """What a suspect chose for its references.

    Attributes:
        input_range: Lowest and highest value that it takes; None where that is not known.
        courses: One per rule that searched.
    """

    input_range: tuple[float, float] | None
    courses: tuple[Course, ...]


def steps(measurement: Measurement) -> tuple[tuple[int, int], ...]:
    """Return the steps that a search granted, by class; none for what is no search."""
    contest = measurement.by_class.contest if measurement.by_class else None
    granted = contest.granted if contest else ()
    return tuple(sorted((grant.class_id, grant.steps) for grant in granted))


def repeated(suspect: Measurement | None, *, few: bool) -> bool:
    """Whether references repeat the steps that a suspect's search chose.

    Args:
        suspect: What the same detector measured on the suspect.
        few: Whether they are too few to judge. One of many chooses for itself where the suspect's
            search gave up classes on the way: among equals the suspect's choice would favour it.
            Not so where it began with a few classes: no class would be in the choice of all.
    """
    profile = suspect.by_class if suspect else None
    if few or profile is None or not profile.chose:
        return True
    return profile.stages is not None and bool(profile.stages.foremost)


def same_course(reference: Measurement, suspect: Measurement | None, *, few: bool) -> bool:
    """Whether a reference's search took the steps that it would take beside a suspect."""
    if suspect is None:
        return True
    if shape(reference) != shape(suspect):
        return False
    return not repeated(suspect, few=few) or steps(reference) == steps(suspect)


def shape(measurement: Measurement) -> tuple[int, ...]:
    """Return how a search came in stages, but for the classes that it chose; empty where not."""
    stages = measurement.by_class.stages if measurement.by_class else None
    if stages is None:
        return ()
    return stages.images, len(stages.foremost), len(stages.controls), int(stages.half_side)


def left_out(measurement: Measurement) -> int:
    """Return how many classes the time cut short (`Contest.left_out`)."""
    contest = measurement.by_class.contest if measurement.by_class else None
    return len(contest.left_out) if contest else 0


def choice(suspect: ModelRecord, *, few: bool) -> Choice:
    """Return what a suspect chose for its references."""
    taken = suspect.input_range
    return Choice(
        input_range=(taken.low, taken.high) if taken else None,
        courses=tuple(
            Course(
                rule=own.rule,
                shape=shape(own),
                steps=steps(own) if repeated(own, few=few) else (),
            )
            for own in suspect.measurements
            if steps(own)
        ),
    )


def agrees(reference: ModelRecord, suspect: ModelRecord, *, few: bool) -> bool:
    """Whether a reference that was measured alone is what it would be beside a suspect."""
    taken, own_range = suspect.input_range, reference.input_range
    if taken is not None and (
        own_range is None or (own_range.low, own_range.high) != (taken.low, taken.high)
    ):
        return False
    pairs = ((reference.measurement(own.rule), own) for own in suspect.measurements)
    return all(same_course(other, own, few=few) for other, own in pairs if other is not None)
