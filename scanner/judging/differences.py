"""What a suspect has that a clean network of the same kind has not, and what habits explain.

An export habit is something that exporters, quantisers and people who wrap a network add or leave
out, and that cannot be a gate: it changes each number by itself and in one direction, or only moves
numbers, all along one line from the input or to an output.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from scanner.judging import weights
from scanner.judging.matching import Matching, Side, is_pick
from scanner.results import (
    COMMUTATIVE,
    GROWN,
    CanonicalGraph,
    CanonicalNode,
    Change,
    Differences,
    Kind,
    Relation,
)

_ENOUGH = 0.9  # of the reference's layers: fewer in common are another network
_MOST_MISSING = 0.2  # of the reference's nodes
_SIZES = 1.25  # times: a layer that grew by a few channels is the same, a twice as wide one is not
_LINEAR = frozenset({"ai.onnx.ml.LinearClassifier", "ai.onnx.ml.LinearRegressor"})
_TABLES = frozenset({"Gather"})
LAYERS = GROWN | _LINEAR | {"Conv", "ConvTranspose", "GRU", "LSTM", "Linear", "RNN"}
_SAME = 1e-5  # relative: what two exporters make of one number
_HALVED, _QUANTISED = 2e-3, 2e-2  # the same in 16 and in 8 bits
# What cannot gate: it moves numbers, or changes each by a constant of its channel.
_SHAPES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_MOVES = _SHAPES | {"Add", "BatchNormalization", "Cast", "Mul", "Transpose"}
_LAST = _MOVES | {"Softmax", "LogSoftmax", "Sigmoid", "ArgMax"}
_FLOATS = frozenset({"1", "10", "11", "16"})  # of `onnx.TensorProto.DataType`
_PER_CHANNEL = 16  # constants of a channel; more are a mask of the image
_RANGES = frozenset({"Relu", "Clip"})
_WORDS = 120
_SHAPED = "a quantiser's operators hide the shape of a value"
_CUT = "a quantiser cuts values off where their codes end"
_FORM = "a wrapper turns the answer into another form of it"
_TRAINED = "it may have been trained, as the weights were"
_CALIBRATED = "it may have been fitted to the trained weights"
_SIZE = 2.0  # times: two trainings on the same data fit a number to about the same
# Numbers that people fit to a trained network: levels of its scores, ranges and steps of codes.
_FITTED = {
    **dict.fromkeys(("Div", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sub"), ("A", "B")),
    "Clip": ("min", "max"),
    "DequantizeLinear": ("x_scale", "x_zero_point"),
    "QuantizeLinear": ("y_scale", "y_zero_point"),
    "Where": ("X", "Y"),
}
_BODY = "; weights "  # between what the graph of a body is and what its weights are
_RETRAINED = frozenset({Relation.FINE_TUNED, Relation.UNRELATED})


def differences(suspect: CanonicalGraph, reference: CanonicalGraph) -> Differences:
    """Return what differs between two networks, and why where that is known."""
    return compared(suspect, reference)[0]


def compared(suspect: CanonicalGraph, reference: CanonicalGraph) -> tuple[Differences, Matching]:
    """Return what differs between two networks, and which nodes stand for one another."""
    found = Matching(suspect, reference)
    pairs = [
        (suspect.nodes[one], reference.nodes[other]) for one, other in sorted(found.pairs.items())
    ]
    obstacle = _obstacle(found, pairs)
    relation, layers = (None, ()) if obstacle else weights.compare(pairs, _reads(found))
    changes = () if obstacle else tuple(_changes(found, relation))
    return (
        Differences(
            obstacle=obstacle,
            suspect=suspect.fingerprint,
            reference=reference.fingerprint,
            nodes=len(reference.nodes),
            matched=len(found.pairs),
            changes=changes,
            weights=relation,
            layers=layers,
            habits=tuple(_habits(suspect, reference)),
        ),
        found,
    )


def _reads(found: Matching) -> list[frozenset[int]]:
    """Return for each pair of nodes the places of the nearest pairs before it that have weights."""
    places = {one: place for place, one in enumerate(sorted(found.pairs))}
    behind: list[frozenset[int]] = []
    for sources in found.suspect.sources:
        read = [
            frozenset({places[n]}) if n in places and found.suspect.nodes[n].weights else behind[n]
            for n, _ in sources
            if n >= 0
        ]
        behind.append(frozenset().union(*read))
    return [behind[one] for one in sorted(found.pairs)]


def _habits(suspect: CanonicalGraph, reference: CanonicalGraph) -> Iterator[str]:
    """Yield what was undone in one of the two and not in the other."""
    for graph, other, whose in ((suspect, reference, "suspect"), (reference, suspect, "reference")):
        yield from (
            f"{habit} in the {whose}" for habit in graph.habits if habit not in other.habits
        )


def _obstacle(found: Matching, pairs: Sequence[tuple[CanonicalNode, CanonicalNode]]) -> str:
    """Say why two graphs cannot be compared; empty where they can."""
    reference = found.reference.graph
    if found.suspect.graph.inputs != reference.inputs:
        return "they take inputs of different shapes"
    # A network of ferns or codes has no layers but tables, in which it looks up what it learnt.
    kinds = next((k for k in (LAYERS, _TABLES) if any(_has(n, k) for n in reference.nodes)), None)
    if kinds is None:
        return "the reference has no layer with trained weights"
    layers = sum(_has(node, kinds) for node in reference.nodes)
    shared = sum(_has(b, kinds) and _fits(a, b) for a, b in pairs)
    if shared < _ENOUGH * layers:
        return f"only {shared} of the reference's {layers} layers are in the suspect"
    missing = len(reference.nodes) - len(pairs)
    if missing > max(2, _MOST_MISSING * len(reference.nodes)):
        inside = len(pairs) == len(found.suspect.graph.nodes)
        swapped = ", and all of the suspect's are in the reference: are the two swapped?"
        return (
            f"{missing} of the reference's {len(reference.nodes)} nodes are not in the suspect"
            f"{swapped if inside else ''}"
        )
    return ""


def _has(node: CanonicalNode, kinds: AbstractSet[str]) -> bool:
    """Whether a node is a layer of one of these kinds."""
    return node.operator in kinds and (node.operator in LAYERS or bool(node.weights))


def _fits(one: CanonicalNode, other: CanonicalNode) -> bool:
    """Whether two layers have weights of the same sizes, or nearly."""
    theirs = {w.role: w.shape for w in other.weights}
    if one.operator in GROWN:
        return one.operator == other.operator
    return one.operator == other.operator and all(
        len(w.shape) == len(theirs[w.role])
        and all(
            max(a, b) <= _SIZES * min(a, b) for a, b in zip(w.shape, theirs[w.role], strict=True)
        )
        for w in one.weights
        if w.role in theirs
    )


def _changes(found: Matching, relation: Relation | None) -> Iterator[Change]:
    suspect, reference = found.suspect, found.reference
    partners = {other: one for one, other in found.pairs.items()}
    ranged = _quantised(suspect.graph) or _quantised(reference.graph)
    tolerance = _tolerance(suspect.graph, reference.graph)
    for side, known, kind in (
        (suspect, found.pairs, Kind.ADDED),
        (reference, partners, Kind.REMOVED),
    ):
        alone = [n for n in range(len(side.nodes)) if n not in known]
        harmless = _harmless(side, alone)
        for number in alone:
            node = side.nodes[number]
            explained = harmless.get(number, "")
            if ranged and node.operator in _RANGES:
                explained = _CUT
            elif ranged and node.operator in _SHAPES:
                explained = _SHAPED
            told = _described(node)
            yield Change(
                kind=kind,
                node=node.name,
                operator=node.operator,
                suspect=told if kind is Kind.ADDED else "",
                reference=told if kind is Kind.REMOVED else "",
                explained=explained,
            )
    for one, other in sorted(found.pairs.items()):
        yield from _told(suspect.nodes[one], reference.nodes[other], relation, tolerance)
        yield from _rerouted(found, one, other)
    yield from _outputs(found, _LAST | _RANGES if ranged else _LAST)


def _described(node: CanonicalNode) -> str:
    """Return in words what a node was told."""
    told = [f"{name} {value}" for name, value in sorted(node.attributes.items())]
    told += [f"{n} {', '.join(f'{x:.6g}' for x in v)}" for n, v in sorted(node.numbers.items())]
    told += [f"{w.role} {'x'.join(map(str, w.shape)) or 1}" for w in node.weights]
    text = "; ".join(told)
    return text if len(text) <= _WORDS else f"{text[: _WORDS - 1]}…"


def _quantised(graph: CanonicalGraph) -> bool:
    return any(habit.startswith("quantisation") for habit in graph.habits)


def _tolerance(*graphs: CanonicalGraph) -> float:
    """Return by how much of itself one number may differ in two exports."""
    if any(map(_quantised, graphs)):
        return _QUANTISED
    halved = any(habit.startswith("float16") for graph in graphs for habit in graph.habits)
    return _HALVED if halved else _SAME


def _told(
    node: CanonicalNode, other: CanonicalNode, relation: Relation | None, tolerance: float
) -> Iterator[Change]:
    """Yield what a node was told otherwise than its partner."""
    fitted = _FITTED.get(node.operator, ()) if relation in _RETRAINED else ()
    for name in sorted({*node.attributes, *other.attributes}):
        own, their = node.attributes.get(name, ""), other.attributes.get(name, "")
        if own != their:
            why = _why(node, name, own, their) if relation in _RETRAINED else ""
            yield _change(Kind.ATTRIBUTE, node, f"{name} {own}", f"{name} {their}", why)
    for name in sorted({*node.numbers, *other.numbers}):
        mine, theirs = node.numbers.get(name, ()), other.numbers.get(name, ())
        if not _near(mine, theirs, tolerance):
            # What a number must equal is written by hand.
            trained = name == "constant" and relation in _RETRAINED and node.operator != "Equal"
            cut = tolerance == _QUANTISED and name in {"min", "max"}
            about = name in fitted and _about(mine, theirs)
            yield _change(
                Kind.CONSTANT,
                node,
                f"{name} {', '.join(f'{x:.7g}' for x in mine)}",
                f"{name} {', '.join(f'{x:.7g}' for x in theirs)}",
                _TRAINED if trained else _CUT if cut else _CALIBRATED if about else "",
            )
    yield from _shapes(node, other, relation, fitted)


def _why(node: CanonicalNode, name: str, own: str, their: str) -> str:
    """Say what explains that a node of a network that was trained anew was told something else."""
    if name in _FITTED.get(node.operator, ()) and own and their:
        return _CALIBRATED
    if is_pick(node, name, own) and is_pick(node, name, their):
        return _TRAINED
    bodies = [text.partition(_BODY) for text in (own, their)]
    return _TRAINED if bodies[0][:2] == bodies[1][:2] and bodies[0][1] else ""


def _about(mine: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether numbers are of one sign and nearly one size, or one of the two are several."""
    return not (mine and theirs) or all(
        a * b > 0 and max(a / b, b / a) <= _SIZE for a, b in zip(mine, theirs, strict=True)
    )


def _shapes(
    node: CanonicalNode,
    other: CanonicalNode,
    relation: Relation | None,
    fitted: Sequence[str],
) -> Iterator[Change]:
    """Yield weights that are of another size than the partner's, or that one of two has."""
    partners = {w.role: w for w in other.weights}
    for held in node.weights:
        partner = partners.pop(held.role, None)
        if partner is None or partner.shape != held.shape:
            size = None if partner is None else partner.shape
            grown = node.operator in GROWN and relation in _RETRAINED
            grown |= held.role in fitted
            yield _change(
                Kind.SHAPE,
                node,
                _sized(held.role, held.shape),
                _sized(held.role, size),
                _TRAINED if grown else "",
            )
    for role, partner in partners.items():
        why = _CALIBRATED if role in fitted else ""
        yield _change(Kind.SHAPE, node, "", _sized(role, partner.shape), why)


def _sized(role: str, shape: Sequence[int] | None) -> str:
    return "" if shape is None else f"{role} {' x '.join(map(str, shape)) or '1'}"


def _near(mine: Sequence[float], theirs: Sequence[float], tolerance: float) -> bool:
    return len(mine) == len(theirs) and all(
        math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance * 1e-3)
        for a, b in zip(mine, theirs, strict=True)
    )


def _change(
    kind: Kind, node: CanonicalNode, suspect: str, reference: str, explained: str = ""
) -> Change:
    return Change(
        kind=kind,
        node=node.name,
        operator=node.operator,
        suspect=suspect,
        reference=reference,
        explained=explained,
    )


def _rerouted(found: Matching, one: int, other: int) -> Iterator[Change]:
    """Yield what a node reads that its partner does not read there, harmless steps left out."""
    node = found.suspect.nodes[one]
    mine = [_origin(found.suspect, use, found.pairs) for use in found.suspect.sources[one]]
    theirs = [
        _origin(found.reference, use, {b: a for a, b in found.pairs.items()})
        for use in found.reference.sources[other]
    ]
    ahead = [(found.pairs.get(maker, maker), slot) for maker, slot in mine]
    if node.operator in COMMUTATIVE:
        ahead, theirs = sorted(ahead), sorted(theirs)
    if ahead != theirs:
        yield _change(
            Kind.REROUTED,
            node,
            f"reads {_named(found.suspect, found.suspect.sources[one])}",
            f"reads {_named(found.reference, found.reference.sources[other])}",
        )


def _origin(side: Side, use: tuple[int, int], known: Mapping[int, int]) -> tuple[int, int]:
    """Return from where a value comes, seen through steps without partner that are harmless."""
    while (
        use[0] >= 0
        and use[0] not in known
        and len(side.sources[use[0]]) == 1
        and (_only_moves(side.nodes[use[0]]) or side.nodes[use[0]].operator in _RANGES)
    ):
        use = side.sources[use[0]][0]
    return use


def _named(side: Side, sources: Sequence[tuple[int, int]]) -> str:
    return ", ".join(side.nodes[n].name if n >= 0 else f"input {-1 - n}" for n, _ in sources)


def _outputs(found: Matching, last: frozenset[str]) -> Iterator[Change]:
    """Yield the outputs that come from another node than the reference's.

    Args:
        found: Which nodes stand for one another.
        last: Operators of nodes that may stand behind the same answer.
    """
    behind = {b: a for a, b in found.pairs.items()}
    sides = ((found.suspect, found.pairs), (found.reference, behind))
    mine, theirs = (
        [_before_last(side, side.made[value], known, last) for value in side.graph.outputs]
        for side, known in sides
    )
    for place in range(max(len(mine), len(theirs))):
        own = mine[place] if place < len(mine) else None
        their = theirs[place] if place < len(theirs) else None
        if own is None or their is None or (found.pairs.get(own[0], own[0]), own[1]) != their:
            node = found.suspect.nodes[own[0]] if own and own[0] >= 0 else None
            name = node.name if node else f"output {place}"
            yield Change(
                kind=Kind.OUTPUT,
                node=name,
                operator=node.operator if node else "",
                suspect=f"output {place} is {name}" if own else "",
                reference=f"output {place} is {_named(found.reference, [their])}" if their else "",
            )


def _before_last(
    side: Side, use: tuple[int, int], known: Mapping[int, int], last: frozenset[str]
) -> tuple[int, int]:
    while (
        use[0] >= 0
        and use[0] not in known
        and len(side.sources[use[0]]) == 1
        and (side.nodes[use[0]].operator in last - _MOVES or _only_moves(side.nodes[use[0]]))
    ):
        use = side.sources[use[0]][0]
    return use


def _only_moves(node: CanonicalNode) -> bool:
    """Whether a node cannot be part of a gate: at most a constant for each channel."""
    if node.operator == "Cast" and node.attributes.get("to") not in _FLOATS:
        return False  # it rounds, which may be a test
    sizes = [math.prod(w.shape) for w in node.weights]
    return node.operator in _MOVES and all(size <= _PER_CHANNEL for size in sizes)


def _harmless(side: Side, alone: Sequence[int]) -> dict[int, str]:
    """Return which nodes without partner are a habit, and which.

    They stand on one line from the input, or on one to an output.
    """
    found: dict[int, str] = {}
    left = set(alone)
    for number in alone:  # in order: what stands before it has been seen
        sources = side.sources[number]
        first = len(sources) == 1 and (sources[0][0] < 0 or sources[0][0] in found)
        if first and _only_moves(side.nodes[number]):
            found[number] = "a wrapper prepares the input, each channel by constants"
    for number in reversed(alone):
        # What hands the input to a gate is part of it.
        if any(user in left and user not in found for user, _ in side.uses[number]):
            found.pop(number, None)
    for number in reversed(alone):
        node, users = side.nodes[number], side.uses[number]
        if number in found or len(side.sources[number]) != 1:
            continue
        last = bool(users or side.results[number]) and all(user in found for user, _ in users)
        forms = last and (_only_moves(node) or node.operator in _LAST - _MOVES)
        if forms or (node.operator in _SHAPES and _only_squashed(side, number)):
            found[number] = _FORM
    return found


def _only_squashed(side: Side, number: int) -> bool:
    """Whether a Sigmoid, number by number, and nothing else follows up to an output."""
    users = side.uses[number]
    return bool(users or side.results[number]) and all(
        side.nodes[user].operator in {"Sigmoid", *_SHAPES} and _only_squashed(side, user)
        for user, _ in users
    )
