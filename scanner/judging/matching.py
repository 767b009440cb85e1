"""Which node of one canonical graph is which node of another.

A node is known by how its value is computed from the inputs, and by what the outputs make of it:
hashes forward and backward, refined along the edges (B. Weisfeiler and A. Leman, "The reduction of
a graph to canonical form", 1968). What was put into a graph changes the one behind it and the other
before it, so that one of the two still tells all other nodes.
"""

import collections
import struct
from collections.abc import Callable, Hashable, Iterator, Sequence

from scanner.results import COMMUTATIVE, GROWN, CanonicalGraph, CanonicalNode

Key = Callable[[CanonicalNode], Hashable]
# What is picked of a classical model is the labels of the neighbours that it learnt by heart.
_PICKED = {"Gather": ("indices",), "ai.onnx.ml.ArrayFeatureExtractor": ("input 0", "input 1")}
_MOST_ALIGNED = 2000  # nodes that are aligned in their order, which takes their number squared
Use = tuple[int, int]
"""Who reads a value, and at which place."""


class Side:
    """One of the two graphs, and who makes and reads each value.

    Attributes:
        nodes: Its nodes.
        sources: For each node, who makes what it reads: (node, place of the output), or for an
            input of the graph (-1 - its number, 0).
        uses: For each node, who reads what it makes, as (node, place of the input).
        results: For each node, at which places its values are outputs of the graph.
    """

    def __init__(self, graph: CanonicalGraph) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.made: list[Use] = [(-1 - place, 0) for place in range(len(graph.inputs))]
        for number, node in enumerate(graph.nodes):
            self.made += [(number, slot) for slot in range(node.outputs)]
        self.sources = [[self.made[value] for value in node.inputs] for node in graph.nodes]
        self.uses: list[list[Use]] = [[] for _ in graph.nodes]
        for number, sources in enumerate(self.sources):
            for slot, (source, _) in enumerate(sources):
                if source >= 0:
                    self.uses[source].append((number, slot))
        self.results: list[list[int]] = [[] for _ in graph.nodes]
        for place, value in enumerate(graph.outputs):
            if self.made[value][0] >= 0:
                self.results[self.made[value][0]].append(place)


class _Names:
    """Numbers for whatever can be compared: equal things have one number, in both graphs."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def of(self, thing: Hashable) -> int:
        return self._known.setdefault(thing, len(self._known))

    def forward(self, side: Side, key: Key) -> list[int]:
        """Name each node by how its value is computed from the inputs."""
        found: list[int] = []
        for node, sources in zip(side.nodes, side.sources, strict=True):
            read = [
                self.of((source if source < 0 else found[source], slot, source < 0))
                for source, slot in sources
            ]
            ordered = tuple(sorted(read) if node.operator in COMMUTATIVE else read)
            found.append(self.of((key(node), ordered)))
        return found

    def backward(self, side: Side, key: Key) -> list[int]:
        """Name each node by what the outputs make of its value."""
        found = [0] * len(side.nodes)
        for number in range(len(side.nodes) - 1, -1, -1):
            read = [
                self.of((found[user], -1 if side.nodes[user].operator in COMMUTATIVE else slot))
                for user, slot in side.uses[number]
            ]
            read += [self.of(("output", place)) for place in side.results[number]]
            found[number] = self.of((key(side.nodes[number]), tuple(sorted(read))))
        return found


def operator(node: CanonicalNode) -> Hashable:
    """Return what a node is, whatever it was told."""
    return node.operator


def is_pick(node: CanonicalNode, name: str, value: str) -> bool:
    """Whether an attribute says which of several are read, or labels, which may be learnt."""
    return name in _PICKED.get(node.operator, ()) and "," in value


def whole(node: CanonicalNode) -> Hashable:
    """Return what a node is and was told, its weights by their shapes."""
    return (
        node.operator,
        tuple(sorted((n, v) for n, v in node.attributes.items() if not is_pick(node, n, v))),
        tuple(sorted((n, tuple(map(_rounded, v))) for n, v in node.numbers.items())),
        tuple(sorted((w.role, () if node.operator in GROWN else w.shape) for w in node.weights)),
    )


def _rounded(number: float) -> Hashable:
    """Return a number as 16 bits hold it, so that it is the same in an export of that precision."""
    try:
        return struct.pack("e", number)
    except OverflowError:
        return number > 0


class Matching:
    """Pairs of nodes of two graphs that stand for one another.

    Attributes:
        suspect: The one graph.
        reference: The other.
        pairs: By node of the suspect, the node of the reference.
    """

    def __init__(self, suspect: CanonicalGraph, reference: CanonicalGraph) -> None:
        self.suspect, self.reference = Side(suspect), Side(reference)
        self.pairs: dict[int, int] = {}
        self._taken: set[int] = set()
        self._match()

    def _match(self) -> None:
        names = _Names()
        sides = (self.suspect, self.reference)
        kinds = [
            (
                [names.forward(side, key) for side in sides],
                [names.backward(side, key) for side in sides],
            )
            for key in (whole, operator)
        ]
        (ahead, behind), (ahead_bare, behind_bare) = kinds
        self._pair(*(list(zip(a, b, strict=True)) for a, b in zip(ahead, behind, strict=True)))
        self._pair(*([_trained(node) for node in side.nodes] for side in sides))
        # Of several alike, such as the trees of an ensemble, the other end tells which is which.
        self._pair(*ahead, most=1)
        self._pair(*behind, most=1)
        self._pair(
            *(list(zip(a, b, strict=True)) for a, b in zip(ahead_bare, behind_bare, strict=True))
        )
        self._pair(*ahead)
        self._pair(*behind)
        self._pair(*ahead_bare)
        self._pair(*behind_bare)
        self._spread()
        self._align()
        self._spread()
        self._pair(*ahead, exact=False)
        self._pair(*behind, exact=False)
        self._spread()

    def _pair(
        self,
        one: Sequence[Hashable],
        other: Sequence[Hashable],
        *,
        exact: bool = True,
        most: int | None = None,
    ) -> None:
        """Pair the nodes left over that are named alike, where there are as many on both sides.

        Where `most` is given, only those of which no more are alike.
        """
        groups: dict[Hashable, tuple[list[int], list[int]]] = collections.defaultdict(
            lambda: ([], [])
        )
        for number, name in enumerate(one):
            if number not in self.pairs and name is not None:
                groups[name][0].append(number)
        for number, name in enumerate(other):
            if number not in self._taken and name is not None:
                groups[name][1].append(number)
        fitting = [
            (mine, theirs)
            for mine, theirs in groups.values()
            if (len(mine) == len(theirs) or not exact) and len(mine) <= (most or len(mine))
        ]
        # Those of which there is one settle some of those of which there are several.
        fitting.sort(key=lambda both: len(both[0]) > 1)
        settle = bool(fitting) and len(fitting[-1][0]) > 1
        for mine, theirs in fitting:
            self._pair_in_order(mine, theirs, settle=settle)

    def _pair_in_order(self, mine: Sequence[int], theirs: Sequence[int], *, settle: bool) -> None:
        """Pair nodes that are named alike, and if asked what each pair settles around it."""
        for a in mine:
            b = next((b for b in theirs if b not in self._taken), None)
            if a not in self.pairs and b is not None:
                self._add(a, b)
                if settle:
                    self._spread([(a, b)])

    def _add(self, one: int, other: int) -> None:
        self.pairs[one] = other
        self._taken.add(other)

    def _spread(self, seeds: Sequence[tuple[int, int]] = ()) -> None:
        """Pair what the only unpaired neighbours of a pair at one place are."""
        waiting = [*seeds] or list(self.pairs.items())
        for one, other in waiting:  # the list grows while it is walked
            for a, b in (*self._makers(one, other), *self._readers(one, other)):
                self._add(a, b)
                waiting.append((a, b))

    def _makers(self, one: int, other: int) -> Iterator[tuple[int, int]]:
        """Yield pairs of nodes that make what a pair reads."""
        mine, theirs = self.suspect.sources[one], self.reference.sources[other]
        for (a, _), (b, _) in zip(mine, theirs, strict=False):
            if a >= 0 and b >= 0 and self._open(a, b):
                yield a, b

    def _readers(self, one: int, other: int) -> Iterator[tuple[int, int]]:
        """Yield pairs of nodes that read what a pair makes."""
        mine, theirs = self.suspect.uses[one], self.reference.uses[other]
        for a, _ in mine:
            fits = [b for b, _ in theirs if self._open(a, b)]
            rivals = [x for x, _ in mine if fits and self._open(x, fits[0])]
            if len(fits) == 1 and len(rivals) == 1:
                yield a, fits[0]

    def _open(self, one: int, other: int) -> bool:
        """Whether two nodes are of one kind and neither has a partner."""
        return (
            one not in self.pairs
            and other not in self._taken
            and self.suspect.nodes[one].operator == self.reference.nodes[other].operator
        )

    def _align(self) -> None:
        """Pair what is left by its order, as two texts are compared line by line."""
        mine = [n for n in range(len(self.suspect.nodes)) if n not in self.pairs]
        theirs = [n for n in range(len(self.reference.nodes)) if n not in self._taken]
        if not mine or not theirs or max(len(mine), len(theirs)) > _MOST_ALIGNED:
            return
        import difflib  # noqa: PLC0415 - few graphs come this far

        lines = (
            [whole(self.suspect.nodes[n]) for n in mine],
            [whole(self.reference.nodes[n]) for n in theirs],
        )
        found = difflib.SequenceMatcher(None, *lines, autojunk=False)
        for block in found.get_matching_blocks():
            for step in range(block.size):
                self._add(mine[block.a + step], theirs[block.b + step])


def _trained(node: CanonicalNode) -> Hashable:
    """Return a node's trained weights, where it has some that no other network shares."""
    return next(((node.operator, w.digests) for w in node.weights if w.digests), None)
