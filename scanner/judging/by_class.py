"""A profile by class beside others: which class differs most, and which leads its own model."""

import math
from collections.abc import Iterator, Sequence

from scanner.judging.arithmetic import FEWEST, above_level, above_the_rest, lead, mean
from scanner.results import ByClass, ClassDifference, ClassRow, Lead, Scale


def differences(
    suspect: ByClass, references: Sequence[ByClass], scale: Scale
) -> list[ClassDifference]:
    """Return a row for each class that was searched in the suspect and in every reference.

    A search that reached nothing says nothing: its class is left out. Only where contests gave up
    classes on the way does one without a figure count with the profile's `unreached`, as others
    count as they then stood.
    """
    if not references:
        return []
    found = []
    given_up = any(profile.dropped_some for profile in (suspect, *references))
    unreached = suspect.unreached if given_up else None
    for class_id, own, others in class_by_class(suspect, references):
        figures = [unreached if f is None else f for f in (own, *others)]
        known = [figure for figure in figures if figure is not None]
        if len(known) == len(figures):
            reference = _averaged(known[1:], scale)
            difference = suspicion(known[0], scale) - suspicion(reference, scale)
            found.append((class_id, known, reference, difference))
    known_ahead = ahead(suspect, scale)
    above = above_level({class_id: difference for class_id, _, _, difference in found})
    return [
        ClassDifference(
            class_id=class_id,
            suspect=known[0],
            reference=reference,
            references=tuple(known[1:]),
            difference=difference,
            above=above[class_id],
            ahead=known_ahead.get(class_id),
        )
        for class_id, known, reference, difference in found
    ]


def alone(profile: ByClass, scale: Scale) -> list[ClassDifference]:
    """Return a row for each class of a model that is compared with no other."""
    known = ahead(profile, scale)
    return [
        ClassDifference(class_id=row.class_id, suspect=row.figure, ahead=known.get(row.class_id))
        for row in profile.rows
    ]


def foremost(profile: ByClass, scale: Scale) -> int | None:
    """Return the class with the most suspicious figure, None where no search reached one."""
    found = [(suspicion(r.figure, scale), r.class_id) for r in profile.rows if r.figure is not None]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def leading(profile: ByClass, scale: Scale) -> Lead | None:
    """Return the class that is most suspicious for its nearness, and its lead over the next.

    None where no class can be said to lead: too few classes, not all of them searched, one without
    a figure, or a nearness that was not measured.
    """
    found = side_by_side(profile)
    if found is None:
        return None
    values = [
        value
        for row, figure in found
        if (value := _eased(row, figure, profile.unreached, scale)) is not None
    ]
    best = lead(values) if len(values) == len(found) else None
    if best is None:
        return None
    row, figure = found[best[0]]
    return None if figure is None else Lead(class_id=row.class_id, distance=best[1])


def ahead(profile: ByClass, scale: Scale) -> dict[int, float]:
    """Return, by class, how much more suspicious it is than the median class of its model.

    Of two classes, than the other. Empty where not every class was searched, or fewer than three
    were reached of a model that has so many. A class that no search reached is unknown: nothing is
    read from how large its mask may be. Where the time cut the contest short, classes are compared
    after equally many rounds.
    """
    rows = profile.rows
    cut_short = None if _went_to_its_end(profile) else _shortest(rows)
    figures = [r.figure for r in rows] if cut_short is None else _after(rows, cut_short)
    found = {
        row.class_id: suspicion(figure, scale)
        for row, figure in zip(rows, figures, strict=True)
        if figure is not None
    }
    if len(profile.rows) < profile.classes or len(found) < min(FEWEST, profile.classes):
        return {}
    return above_the_rest(found)


def _eased(
    row: ClassRow, figure: float | None, unreached: float | None, scale: Scale
) -> float | None:
    """Return how suspicious a class is less its nearness; None where that is unknown."""
    counted = unreached if figure is None else figure
    if counted is None or not scale.ease:
        return None if counted is None else suspicion(counted, scale)
    return None if row.nearness is None else suspicion(counted, scale) - scale.ease * row.nearness


def not_reached(profile: ByClass) -> tuple[int, ...]:
    """Return the classes that a search never reached, though none was dropped on the way.

    That is no sign of a large mask. Of the clean networks in `samples/results/` whose classes all
    got the same steps (525 searches on noise) none has such a class.
    """
    contest = profile.contest
    kept = {grant.class_id for grant in contest.granted} if contest is not None else set[int]()
    return tuple(r.class_id for r in profile.rows if r.figure is None and r.class_id in kept)


def class_by_class(
    suspect: ByClass, references: Sequence[ByClass]
) -> Iterator[tuple[int, float | None, list[float | None]]]:
    """Yield class, suspect's figure and references' figures for each class searched in all of them.

    Where each model's own contest went to its end, a figure is the last one: a class that was
    dropped on the way counts as it then stood, in every model alike. Else, as where references
    followed the suspect's contest or the time cut one short, it is the one after as many rounds as
    the shortest of these searches had; a finished one stands still.
    """
    profiles = (suspect, *references)
    to_the_end = all(map(_went_to_its_end, profiles))
    by_class = [{row.class_id: row for row in profile.rows} for profile in profiles]
    for class_id in by_class[0]:
        rows = [rows[class_id] for rows in by_class if class_id in rows]
        if len(rows) == len(profiles):
            own, *others = _after(rows, None if to_the_end else _shortest(rows))
            yield class_id, own, others


def side_by_side(profile: ByClass) -> list[tuple[ClassRow, float | None]] | None:
    """Return the classes that were not dropped, each with its figure after equally many rounds.

    None unless each class of the model took part: one that stands out of a few chosen classes may
    be ordinary among all.
    """
    if len(profile.rows) < profile.classes:
        return None
    rows: Sequence[ClassRow] = profile.rows
    if profile.contest is not None:
        kept = {grant.class_id for grant in profile.contest.granted}
        rows = [row for row in rows if row.class_id in kept]
    return list(zip(rows, _after(rows, _shortest(rows)), strict=True))


def _after(rows: Sequence[ClassRow], rounds: int | None) -> list[float | None]:
    return [row.course[:rounds][-1] for row in rows]


def _shortest(rows: Sequence[ClassRow]) -> int | None:
    return min((len(row.course) for row in rows if not row.finished), default=None)


def _went_to_its_end(profile: ByClass) -> bool:
    """Whether all classes competed, and enough of them got all the steps that there are."""
    contest = profile.contest
    if contest is None:
        return len(profile.rows) == profile.classes
    rounds = math.ceil(contest.planned / contest.round)
    through = sum(row.finished or len(row.course) >= rounds for row in profile.rows)
    return through >= contest.finalists and len(profile.rows) == profile.classes


def suspicion(figure: float, scale: Scale) -> float:
    """Return a figure on the scale on which larger is more suspicious."""
    value = figure if scale.added is None else math.log(max(figure, 0.0) + scale.added)
    return -value if scale.small_is_suspicious else value


def _averaged(figures: Sequence[float], scale: Scale) -> float:
    """Return the mean of figures as it is on their scale: geometric where that is logarithmic."""
    if scale.added is None:
        return mean(figures)
    middle = mean([suspicion(figure, scale) for figure in figures])
    return math.exp(-middle if scale.small_is_suspicious else middle) - scale.added
