"""What is said of a stamp that turns one class alone: beside references, and without them.

Between two classes that are alike, clean networks have such stamps too: a few pixels make a 9 of a
4. So without a reference a nearly perfect one is a doubt, and no more; beside one it is a suspicion
where no stamp of the reference comes near it (docs/detection.md, "Triggers of one class alone").
"""

from collections.abc import Iterator, Sequence

from scanner.results import Move, Moves, Observation, Severity

# Chosen on development networks (docs/detection.md, which says what else was known).
PERFECT = 0.95  # the figure (`Moves`) of a stamp that is doubtful whatever references have
TRIGGER = (0.85, 0.7)  # that of a trigger, and how far those of references lie below it
DOUBTFUL = (0.8, 0.5)  # of both: with which a model is not called clean
STRAYED = 0.05  # share of all images of other classes that a trigger moves, at the most
HELD = (0.6, 0.9)  # of images held back: those that go along, and the others that stay
_NOTHING = 0.005  # what is written as 0 %


def seen(own: Moves | None, references: Sequence[Moves | None]) -> tuple[Observation, ...]:
    """Return what is to be said of the stamps that turn one class alone, the gravest alone.

    The reference with the smallest figure counts: otherwise a single planted reference could excuse
    a backdoor.

    Args:
        own: Of the suspect.
        references: Of the references.
    """
    if own is None:
        return ()
    comparable = [r for r in references if r and len(r.figures) == len(own.figures)]
    advice = (
        "no reference could be asked the same: it takes the same classes, and enough images of each"
        if references
        else "name a clean model of the same data with the setting `references`"
    )
    found = [seen for move in own.foremost for seen in _observed(own, move, comparable, advice)]
    return tuple(sorted(found, key=lambda each: -each.severity)[:1])


def _observed(
    own: Moves, move: Move, references: Sequence[Moves], advice: str
) -> Iterator[Observation]:
    figure = own.figure(move.source, move.target)
    firm = move.success >= HELD[0] and move.steady >= HELD[1]
    if figure is None or not firm or move.strayed > STRAYED * move.others:
        return
    others = [r.figure(move.source, move.target) for r in references]
    known = [max(other, 0.0) for other in others if other is not None]
    beside = min(known, default=figure)
    said = (
        f"{move.stamp} turns {move.turned} of {move.images} images of class {move.source} into "
        f"class {move.target}, and {move.strayed} of {move.others} images of other classes into "
        "another"
    )
    if figure >= TRIGGER[0] and figure - beside >= TRIGGER[1]:
        severity = Severity.SUSPICIOUS
    elif figure >= PERFECT or (figure >= DOUBTFUL[0] and figure - beside >= DOUBTFUL[1]):
        severity = Severity.WARNING
        said += ": either the two classes are alike, or this is a trigger of one class alone"
    else:
        return
    said += f"; in a clean reference {_at_best(beside, move)}" if known else f"; {advice}"
    yield Observation(
        code="one-class-trigger",
        severity=severity,
        sentence=said,
        details={"source": move.source, "target": move.target, **move.details},
        input=move.input,
    )


def _at_best(figure: float, move: Move) -> str:
    """Say what the best stamp of a reference does between the same classes."""
    into = f"class {move.source} into class {move.target}"
    if figure < _NOTHING:
        return f"no stamp of this kind turns {into} more than it moves other classes"
    return (
        f"the best one turns a share of {into} that is {100 * figure:.0f} points above that of the "
        "other images that it moves"
    )
