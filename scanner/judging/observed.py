"""What the differences of canonical graphs say about a suspect, in sentences."""

import dataclasses
from collections.abc import Iterator, Sequence

from scanner.judging.differences import differences
from scanner.results import (
    CanonicalGraph,
    Change,
    Comparison,
    Differences,
    Kind,
    LayerChange,
    Observation,
    Relation,
    Severity,
)

CANNOT_COMPARE = "cannot-compare"
_NAMED = 8  # more nodes are counted
_ROWS = 8
_DRAWN = 100  # differences, and layers
_RELATED = {
    Relation.EQUAL: "its weights are equal bit for bit",
    Relation.ROUNDED: "its weights are the same up to rounding",
    Relation.SCALED: "its weights are the same up to a scale of each channel",
    Relation.FINE_TUNED: "its weights differ a little everywhere, as after fine-tuning",
    Relation.UNRELATED: "its weights were trained apart, and are not compared",
    Relation.EDITED: "most of its weights are equal, and a few channels are not",
    Relation.REPLACED: "most of its weights are nearly equal, and a few channels were replaced",
}


def against(graph: CanonicalGraph, references: Sequence[CanonicalGraph]) -> tuple[Differences, ...]:
    """Return how a suspect differs from each of the references."""
    return tuple(differences(graph, other) for other in references)


def beside(found: Sequence[Differences]) -> tuple[Observation, ...]:
    """Return what is seen of a suspect beside references, the gravest reference's view first.

    What one reference has not is a finding whatever the others have: who chose one of several
    would else choose the verdict.
    """
    shown = gravest(found)
    if shown is None:
        return tuple(_obstacles(found))
    grave = sum(d.grave for d in found)
    count = f"{grave} of {len(found)} references" if len(found) > 1 else "the reference"
    return tuple(_seen(shown, count))


def gravest(found: Sequence[Differences]) -> Differences | None:
    """Return the differences from the reference that differs most; None where none compares."""
    comparable = [d for d in found if not d.obstacle]
    grave = [d for d in comparable if d.grave]
    return max(grave or comparable, key=_gravity, default=None)


def drawn(found: Differences) -> Differences:
    """Return the differences that a person looks at: of very many the gravest."""
    explained = (change for change in found.changes if change.explained)
    # In the order of the graph, so that a chart reads from input to output.
    ranked = sorted(range(len(found.layers)), key=lambda n: not found.layers[n].standing_out)
    layers = tuple(found.layers[number] for number in sorted(ranked[:_DRAWN]))
    return dataclasses.replace(
        found,
        changes=(*found.unexplained, *explained)[:_DRAWN],
        layers=layers,
    )


def of(found: Differences) -> tuple[Observation, ...]:
    """Return what the differences of a suspect and one reference say."""
    return tuple(_obstacles([found]) if found.obstacle else _seen(found, "the reference"))


def _gravity(found: Differences) -> int:
    return len(found.unexplained) + len(found.standing_out)


def _obstacles(found: Sequence[Differences]) -> Iterator[Observation]:
    for each in found[:1]:
        yield Observation(
            code=CANNOT_COMPARE,
            severity=Severity.NOTE,
            sentence=f"The graph cannot be compared with the reference's: {each.obstacle}",
            details={"suspect": each.suspect, "reference": each.reference},
        )


def _seen(found: Differences, whose: str) -> Iterator[Observation]:
    """Yield what the differences of two graphs say."""
    if found.unexplained:
        yield _nodes(found, whose)
    if found.standing_out:
        yield _channels(found, whose)
    if not found.grave:
        yield _same(found)


def _nodes(found: Differences, whose: str) -> Observation:
    added = [change for change in found.unexplained if change.kind is Kind.ADDED]
    return Observation(
        code="nodes-without-counterpart" if added else "graph-differs",
        severity=Severity.SUSPICIOUS,
        sentence=f"{told(found.unexplained)}; {whose} {_differ(whose)} in this, and no habit of "
        "exporters explains it",
        nodes=tuple(dict.fromkeys(change.node for change in found.unexplained)),
        details=_details(found),
    )


def _differ(whose: str) -> str:
    return "differ" if whose[0].isdigit() and not whose.startswith("1 ") else "differs"


def told(changes: Sequence[Change]) -> str:
    """Return in words what is unlike in two graphs, the added nodes first."""
    parts = []
    for kind, words in (
        (Kind.ADDED, "the suspect alone has"),
        (Kind.REMOVED, "the suspect lacks"),
    ):
        nodes = [change for change in changes if change.kind is kind]
        if nodes:
            parts.append(f"{words} {_list([f'{c.operator} {c.node!r}' for c in nodes])}")
    others = [change for change in changes if change.kind not in {Kind.ADDED, Kind.REMOVED}]
    parts += map(_unlike, others[:_NAMED])
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def _unlike(change: Change) -> str:
    """Return in words what one place of two graphs has otherwise."""
    own, other = change.suspect or "nothing", change.reference or "nothing"
    if change.kind is Kind.OUTPUT and change.suspect and change.reference:
        return f"{own}, in the reference {other.partition(' is ')[2]}"
    return f"{change.operator} {change.node!r}: {own}, not {other}".lstrip()


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more nodes"


def _channels(found: Differences, whose: str) -> Observation:
    layers = found.standing_out
    if _is_part(layers):
        return _retrained(found, whose)
    replaced = any(layer.relation is Relation.REPLACED for layer in layers)
    what = "were replaced" if replaced else "were changed"
    return Observation(
        code="channels-replaced" if replaced else "weights-edited",
        severity=Severity.SUSPICIOUS if replaced else Severity.WARNING,
        sentence=f"Some channels {what} in a network whose other weights are those of {whose}, or "
        f"nearly: {_list([channels(layer) for layer in layers])}",
        nodes=tuple(dict.fromkeys(layer.node for layer in layers)),
        details=_details(found),
    )


def _is_part(layers: Sequence[LayerChange]) -> bool:
    """Whether all that stands out are whole layers, several of them: a part was trained anew."""
    whole = all(len(layer.standing_out) == layer.rows for layer in layers)
    return whole and len({layer.node for layer in layers}) > 1


def _retrained(found: Differences, whose: str) -> Observation:
    layers = found.standing_out
    named = _list([_whole(layer) for layer in layers])
    return Observation(
        code="part-retrained",
        severity=Severity.WARNING,
        sentence=f"Whole layers are others in a network whose other weights are those of {whose}, "
        f"or nearly, as where a part was trained anew: {named}",
        nodes=tuple(dict.fromkeys(layer.node for layer in layers)),
        details=_details(found),
    )


def _whole(layer: LayerChange) -> str:
    return f"{layer.role} of {layer.operator} {layer.node!r}"


def channels(layer: LayerChange) -> str:
    """Return in words which channels of a layer stand out."""
    rows = layer.standing_out
    shown = ", ".join(map(str, rows[:_ROWS]))
    more = f" and {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
    count = f"{len(rows)} of {layer.rows}"
    return f"{layer.role} of {layer.operator} {layer.node!r}, {count}: {shown}{more}"


def _same(found: Differences) -> Observation:
    habits = [*found.habits, *dict.fromkeys(c.explained for c in found.changes)]
    explained = f" ({'; '.join(habits)})" if habits else ""
    related = f", and {_RELATED[found.weights]}" if found.weights else ""
    return Observation(
        code="same-network",
        severity=Severity.NOTE,
        sentence=f"The graph is that of the reference{explained}{related}",
        details=_details(found),
    )


def _details(found: Differences) -> dict[str, object]:
    return {
        "suspect": found.suspect,
        "reference": found.reference,
        "weights": found.weights.value if found.weights else None,
    }


def softened(found: Comparison, source: str) -> Comparison:
    """Return a comparison with the graphs of a baseline, whose observations do not accuse."""
    seen = tuple(
        dataclasses.replace(
            o,
            severity=min(o.severity, Severity.WARNING),
            sentence=o.sentence.replace("the reference's", f"that of the {source}")
            .replace("the reference", f"the {source}")
            .replace(", and its weights were trained apart, and are not compared", ""),
        )
        for o in found.observations
    )
    worst = max(seen, key=lambda o: o.severity, default=None)
    return dataclasses.replace(
        found,
        observations=seen,
        statistic=None if found.statistic is None or worst is None else float(worst.severity),
        sentence=worst.sentence if worst else "",
    )


def foreign(graph: CanonicalGraph, known: Sequence[CanonicalGraph], source: str) -> Iterator[str]:
    """Yield why models of other graphs do not judge a suspect, in a sentence."""
    if any(graph.fingerprint == other.fingerprint for other in known):
        return
    found = [differences(graph, other) for other in known]
    if any(not d.obstacle and not d.unexplained for d in found):
        return
    nearest = min(found, key=lambda d: (bool(d.obstacle), _gravity(d)))
    why = nearest.obstacle or told(nearest.unexplained)
    yield (
        f"the {source} speaks of another graph, so that nothing is clean by it: "
        f"{why[:1].lower()}{why[1:]}"
    )
