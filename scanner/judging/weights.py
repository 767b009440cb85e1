"""How the weights of two networks of one graph are related.

The measure is a row's distance d from its partner: relative to the partner's length, and for
rounding the root mean square of d over the largest weight of its tensor. Thresholds were chosen on
networks of the development recipes (benchmarks/diff.py says which and what they gave).
"""

import array
import base64
import collections
import dataclasses
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from scanner.judging.arithmetic import median
from scanner.results import GROWN, CanonicalNode, LayerChange, Relation, WeightRows
from scanner.results.graphs import DIGEST

# Of the largest weight: half a step of 8 bits is 1/254, spread evenly 0.58 of that; a bit more
# where ranges are rounded up to 7 bits.
_ROUNDING = 0.006
_FLOAT, _LAST_BITS = 3e-6, 5e-7  # of a row: what folding rounds in 32 bits, and always may
_REST = 0.1  # of how far a row was scaled: what may be left when the scale is taken out
_SEVERAL = 3  # rows that differ: folding a normalisation rounds many, and an edit may touch one
_FINE_TUNED = 0.55  # a cosine of 0.85, as in `references`
_NEAR, _FAR = 0.2, 0.6  # what a row of a network that was left alone differs by, and a replaced one
_TIMES = 4.0  # how many times as far as other rows of its layer a replaced one is
_MOST = 0.75  # share of the rows that were left alone, for the others to stand out
_HALF = 0.5
_FLOOR = 0.3  # of a layer's typical length: a shorter row is compared as if it had this one
_BIAS_FLOOR = 0.01  # of the layer's largest weight: a smaller bias counts as zero
_SMALL = 0.1  # of a part that was trained anew: what reads it and was not is an adaptor
_SHOWN = 1024
_WHOLE = 0.9  # of a layer's rows: then the layer was retrained, and no row stands out


@dataclasses.dataclass(slots=True)
class _Tensor:
    """One tensor beside its partner.

    Attributes:
        node: The suspect's node.
        role: Which of its weights.
        columns: Numbers in a row.
        rows: How many rows are not zero in both.
        numbers: Which of these differ in any bit.
        apart: How far each of these is from its partner, relative to that.
        rounding: The same over the largest weight, as a root mean square.
        residue: The same after the best scale for the row was taken out.
        place: The place of its pair of nodes.
        retrained: Whether it belongs to a part of the network that was trained anew as a whole, or
            is a vector where all matrices were trained.
        folded: Whether only some of its rows differ, and by rounding, as others' do.
    """

    node: CanonicalNode
    role: str
    columns: int
    rows: int
    numbers: list[int]
    apart: list[float]
    rounding: list[float]
    residue: list[float]
    place: int = 0
    retrained: bool = False
    folded: bool = False

    @property
    def rounded(self) -> bool:
        """Whether all rows that differ do by rounding, and most differ."""
        return self.folded or (
            len(self.numbers) >= _HALF * self.rows and max(self.rounding) <= _ROUNDING
        )

    @property
    def scaled(self) -> bool:
        """Whether all rows that differ are multiples of their partners, and most differ."""
        left = max(self.residue)
        small = left <= min(_ROUNDING, _REST * max(self.rounding))
        return len(self.numbers) >= _HALF * self.rows and small


def compare(
    pairs: Sequence[tuple[CanonicalNode, CanonicalNode]], reads: Sequence[frozenset[int]]
) -> tuple[Relation | None, tuple[LayerChange, ...]]:
    """Return how the weights of pairs of nodes are related, and the tensors that differ.

    None where no weights are known on both sides.

    Args:
        pairs: Nodes of the suspect in their order, each with its partner.
        reads: For each of them, the places of the pairs from which its values come, those with
            weights, and not what comes before these.
    """
    tensors = [
        dataclasses.replace(tensor, place=place)
        for place, (own, other) in enumerate(pairs)
        for tensor in _tensors(own, other)
    ]
    if any(_is_grown_anew(own, other) for own, other in pairs):
        return Relation.UNRELATED, tuple(
            _layer(tensor, Relation.UNRELATED) for tensor in tensors if tensor.numbers
        )
    if not tensors:
        return None, ()
    changed = [tensor for tensor in tensors if tensor.numbers]
    _set_aside(tensors, changed)
    _let_retrained_parts_be(tensors, reads)
    _let_statistics_be(tensors)
    overall = _overall(tensors)
    layers = tuple(_layer(tensor, overall) for tensor in changed)
    if any(layer.standing_out for layer in layers):
        large = any(layer.relation is Relation.REPLACED for layer in layers)
        return (Relation.REPLACED if large else Relation.EDITED), layers
    return overall, layers


def _is_grown_anew(node: CanonicalNode, other: CanonicalNode) -> bool:
    """Whether a forest or a set of support vectors has another size, and not by additions alone.

    What was added to a forest leaves its trees as they are; a forest that was trained anew has
    others. Support vectors are images, which two trainings may share.
    """
    partners = {held.role: held for held in other.weights}
    unlike = [
        (held, partners[held.role])
        for held in node.weights
        if held.role in partners and held.shape != partners[held.role].shape
    ]
    forest = "Tree" in node.operator
    return node.operator in GROWN and any(
        not (forest and _share_rows(own, their)) for own, their in unlike
    )


def _share_rows(one: WeightRows, other: WeightRows) -> bool:
    """Whether half of the rows of the smaller of two tensors are in the other, wherever."""
    mine, theirs = (set(_each(held)) for held in (one, other))
    return len(mine & theirs) >= _HALF * min(len(mine), len(theirs))


def _each(weights: WeightRows) -> Iterator[tuple[float, ...]]:
    numbers, width = _floats(weights), weights.rows.shape[1]
    return (tuple(numbers[i : i + width]) for i in range(0, len(numbers), width))


def _set_aside(tensors: Sequence[_Tensor], changed: Sequence[_Tensor]) -> None:
    """Mark the tensors that rounding explains though most of their rows are equal.

    Folding a normalisation in 32 bits rounds some rows of each tensor; a change of precision leaves
    those that are whole numbers of its steps.
    """
    several = sum(len(tensor.numbers) for tensor in changed) >= _SEVERAL
    folded = _FLOAT if several else _LAST_BITS
    converted = sum(tensor.rounded for tensor in changed) >= _HALF * len(tensors)
    for tensor in changed:
        tensor.folded = max(tensor.apart) <= folded or (
            converted and max(tensor.rounding) <= _ROUNDING
        )


def _overall(tensors: Sequence[_Tensor]) -> Relation:
    """Return how two networks are related, whatever a few of their rows are."""
    changed = [tensor for tensor in tensors if tensor.numbers]
    if not changed:
        return Relation.EQUAL
    left = [tensor for tensor in changed if not _is_partial(tensor)]
    if all(tensor.rounded for tensor in left):
        return Relation.ROUNDED if left else Relation.EQUAL
    matrices = [tensor for tensor in left if tensor.columns > 1 and not tensor.rounded]
    if matrices and all(tensor.scaled for tensor in matrices):
        return Relation.SCALED
    if _copied(tensors) or _typical(tensors) <= _FINE_TUNED:
        return Relation.FINE_TUNED
    return Relation.UNRELATED


def _is_partial(tensor: _Tensor) -> bool:
    """Whether most of a tensor's rows are equal bit for bit, and some are not."""
    return not tensor.folded and 0 < len(tensor.numbers) < _HALF * tensor.rows


def _let_retrained_parts_be(tensors: Sequence[_Tensor], reads: Sequence[frozenset[int]]) -> None:
    """Mark the parts of a network that were trained anew as a whole.

    Such as its last layers, for other classes, or a member of an ensemble, from the input on: what
    reads it was written, not trained, or is a small layer.
    """
    matrices = [tensor for tensor in tensors if tensor.columns > 1]
    sizes = collections.Counter[int]()
    for tensor in matrices:
        sizes[tensor.place] += tensor.rows * tensor.columns
    kept = {t.place for t in matrices if _quantile(_usual(t), _HALF) <= _FINE_TUNED}
    before = {place: reads[place] & sizes.keys() for place in sizes}
    behind = {place: {p for p in sizes if place in before[p]} for place in sizes}
    from_input = _closed([*sizes], before, kept)
    to_output = _closed([*reversed(sizes)], behind, kept)
    whole = sum(sizes[place] for place in from_input)
    after = _reached(from_input, behind)
    if sum(sizes[place] for place in after - from_input - to_output) > _SMALL * whole:
        from_input = set()
    for tensor in matrices:
        tensor.retrained = tensor.place in from_input | to_output


def _let_statistics_be(tensors: Sequence[_Tensor]) -> None:
    """Mark the vectors of which a part is equal though all matrices were trained further.

    They are counted, not trained: of each column of a table the largest value, say.
    """
    matrices = [tensor for tensor in tensors if tensor.columns > 1]
    if matrices and all(len(t.numbers) >= _WHOLE * t.rows for t in matrices):
        for tensor in tensors:
            tensor.retrained |= tensor.columns == 1


def _closed(
    places: Sequence[int], beside: Mapping[int, AbstractSet[int]], kept: AbstractSet[int]
) -> set[int]:
    """Return the places that were not kept, nor any on the way to them."""
    found: set[int] = set()
    for place in places:
        if place not in kept and beside[place] <= found:
            found.add(place)
    return found


def _reached(places: AbstractSet[int], behind: Mapping[int, AbstractSet[int]]) -> set[int]:
    """Return what is reached from places, themselves included."""
    found, waiting = set(places), list(places)
    while waiting:
        fresh = behind[waiting.pop()] - found
        found |= fresh
        waiting += fresh
    return found


def _is_replaced(tensor: _Tensor) -> bool:
    """Whether nearly all rows of a tensor are others."""
    return _quantile(_usual(tensor), 1 - _WHOLE) >= _FAR


def _copied(tensors: Sequence[_Tensor]) -> bool:
    """Whether most of a matrix is equal bit for bit: of networks trained apart none is."""
    matrices = [tensor for tensor in tensors if tensor.columns > 1 and tensor.rows]
    return any(len(tensor.numbers) < _HALF * tensor.rows for tensor in matrices)


def _usual(tensor: _Tensor) -> list[float]:
    """Return how far each row is from its partner."""
    return [*tensor.apart, *[0.0] * (tensor.rows - len(tensor.apart))]


def _typical(tensors: Sequence[_Tensor]) -> float:
    return _quantile(list(_all_apart(tensors)), _HALF)


def _all_apart(tensors: Sequence[_Tensor]) -> Iterator[float]:
    """Yield how far each row of the matrices is from its partner; of vectors if there are none."""
    matrices = [tensor for tensor in tensors if tensor.columns > 1] or tensors
    for tensor in matrices:
        yield from _usual(tensor)


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _layer(tensor: _Tensor, overall: Relation) -> LayerChange:
    out = tuple(_standing_out(tensor, overall))
    return LayerChange(
        node=tensor.node.name,
        operator=tensor.node.operator,
        role=tensor.role,
        rows=tensor.rows,
        changed=len(tensor.numbers),
        apart=median(tensor.apart),
        relation=_relation(tensor, overall, bool(out)),
        standing_out=out[:_SHOWN],
    )


def _relation(tensor: _Tensor, overall: Relation, stands_out: bool) -> Relation:
    if stands_out:
        return Relation.REPLACED if max(tensor.apart) >= _FAR else Relation.EDITED
    if tensor.rounded:
        return Relation.ROUNDED
    if tensor.scaled and tensor.columns > 1:
        return Relation.SCALED
    if overall is Relation.UNRELATED or median(tensor.apart) > _FINE_TUNED:
        return Relation.UNRELATED
    return Relation.FINE_TUNED


def _standing_out(tensor: _Tensor, overall: Relation) -> Iterator[int]:
    """Yield the rows that changed while others of their tensor did not, or much more than these."""
    if overall is Relation.UNRELATED:
        return
    if _is_partial(tensor) and not (tensor.retrained and tensor.columns == 1):
        yield from tensor.numbers
        return
    if tensor.columns == 1 or overall is Relation.SCALED:
        return
    usual = _usual(tensor)
    if _quantile(usual, _MOST) > _NEAR:
        if not tensor.retrained and _is_replaced(tensor):
            yield from tensor.numbers  # a whole layer, in a network that was left alone
        return
    bound = max(_FAR, _TIMES * _quantile(usual, _HALF))
    yield from (n for n, apart in zip(tensor.numbers, tensor.apart, strict=True) if apart >= bound)


def _tensors(own: CanonicalNode, other: CanonicalNode) -> Iterator[_Tensor]:
    partners = {weights.role: weights for weights in other.weights}
    least = _BIAS_FLOOR * max((w.largest for w in own.weights), default=0.0)
    for weights in own.weights:
        partner = partners.get(weights.role)
        if partner is not None and _alike(weights, partner):
            yield _beside(own, weights, partner, least)


def _alike(one: WeightRows, other: WeightRows) -> bool:
    return (one.shape, one.columns, one.rows.shape) == (
        other.shape,
        other.columns,
        other.rows.shape,
    )


def _beside(node: CanonicalNode, own: WeightRows, other: WeightRows, least: float) -> _Tensor:
    width = own.rows.shape[1]
    mine, theirs = _floats(own), _floats(other)
    same = _same_rows(own, other, mine, theirs)
    tensor = _Tensor(node, own.role, own.columns, 0, [], [], [], [])
    largest = max(other.largest, own.largest, least) or 1.0
    squares = [sum(x * x for x in theirs[i : i + width]) for i in range(0, len(theirs), width)]
    floor = _FLOOR**2 * (sum(squares) / len(squares))
    for number, square in enumerate(squares):
        a = mine[number * width : (number + 1) * width]
        if same[number]:
            tensor.rows += square > 0
            continue
        b = theirs[number * width : (number + 1) * width]
        tensor.rows += 1
        length, across = sum(x * x for x in a), sum(x * y for x, y in zip(a, b, strict=True))
        distance = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
        rest = max(0.0, length - across**2 / square) if square > 0 and across > 0 else length
        tensor.numbers.append(number)
        tensor.apart.append(_finite(math.sqrt(distance / (max(square, floor) or largest**2))))
        tensor.rounding.append(_finite(math.sqrt(distance / own.columns) / largest))
        tensor.residue.append(_finite(math.sqrt(rest / own.columns) / largest))
    return tensor


def _finite(number: float) -> float:
    """Return a number, or where it is none the furthest that there is."""
    return number if number < math.inf else sys.float_info.max**0.25


def _floats(weights: WeightRows) -> Sequence[float]:
    numbers = array.array("f", base64.b64decode(weights.rows.data))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _same_rows(
    own: WeightRows, other: WeightRows, mine: Sequence[float], theirs: Sequence[float]
) -> list[bool]:
    """Return for each row whether it is equal bit for bit."""
    count, width = own.rows.shape
    if own.digests and other.digests:
        one, two = base64.b64decode(own.digests), base64.b64decode(other.digests)
        places = range(0, DIGEST * count, DIGEST)
        return [one[i : i + DIGEST] == two[i : i + DIGEST] for i in places]
    return [mine[i : i + width] == theirs[i : i + width] for i in range(0, count * width, width)]
