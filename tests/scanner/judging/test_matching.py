"""Nodes find their partners whatever was put between them."""

from collections.abc import Sequence

import models
import numpy as np
import onnx
import planting
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from scanner.graph.canonical.drawing import draw
from scanner.judging.matching import Matching

GENERATOR = np.random.default_rng(0)


def between(model: onnx.ModelProto, place: int, count: int) -> onnx.ModelProto:
    """Put nodes behind the value that the node at a place makes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    made = copy.graph.node[place].output[0]
    names = [made, *(f"put{place}-{n}" for n in range(count))]
    for node in copy.graph.node:
        node.input[:] = [names[-1] if name == made else name for name in node.input]
    for number in range(count):
        copy.graph.node.insert(
            place + 1 + number,
            helper.make_node(
                "Sin", [names[number]], [names[number + 1]], name=f"sin{place}-{number}"
            ),
        )
    return copy


@given(st.sets(st.integers(0, 5), min_size=1, max_size=3), st.integers(1, 3))
def test_what_was_put_between_has_no_partner(places: set[int], count: int) -> None:
    model = planting.deep()
    suspect = model
    for place in sorted(places, reverse=True):
        suspect = between(suspect, place, count)
    found = Matching(draw(suspect), draw(model))
    alone = {node.name for n, node in enumerate(found.suspect.nodes) if n not in found.pairs}
    assert alone == {f"sin{place}-{n}" for place in places for n in range(count)}
    assert all(
        found.suspect.nodes[a].name == found.reference.nodes[b].name for a, b in found.pairs.items()
    )


def test_a_gate_has_no_partner_and_all_else_has() -> None:
    found = Matching(draw(planting.gated(1)), draw(models.plain()))
    alone = {node.name for n, node in enumerate(found.suspect.nodes) if n not in found.pairs}
    assert alone >= set(planting.PLANTED)
    assert all(name.startswith("planted") for name in alone)
    assert len(found.pairs) == len(found.reference.nodes)


def test_sides_know_who_reads_what() -> None:
    side = Matching(draw(models.plain()), draw(models.plain())).suspect
    assert side.sources[0] == [(-1, 0)]
    assert side.uses[0] == [(1, 0)]
    assert side.results[-1] == [0]


@given(st.permutations(range(4)), st.integers(0, 3))
def test_members_of_an_ensemble_find_their_partners(order: list[int], special: int) -> None:
    """Each has a number of its own, and one of them is also read by something else."""

    def ensemble(numbers: Sequence[float], special: int) -> onnx.ModelProto:
        nodes = [helper.make_node("Flatten", ["image"], ["flat"], name="flatten")]
        constants: dict[str, np.ndarray] = {}
        for place, number in enumerate(numbers):
            constants[f"w{place}"] = GENERATOR.normal(0, 1, (64, 4)).astype(np.float32)
            constants[f"c{place}"] = np.array(number, np.float32)
            nodes += [
                helper.make_node("MatMul", ["flat", f"w{place}"], [f"m{place}"]),
                helper.make_node("Softmax", [f"m{place}"], [f"s{place}"], axis=1),
                helper.make_node("Pow", [f"s{place}", f"c{place}"], [f"v{place}"]),
            ]
        nodes += [
            helper.make_node("Exp", [f"m{special}"], ["extra"]),
            helper.make_node("Sum", [*(f"v{n}" for n in range(len(numbers))), "extra"], ["logits"]),
        ]
        return models.build(nodes, constants)

    one = Matching(
        draw(ensemble([2, 3, 4, 5], special)),
        draw(ensemble([2.5 + n for n in order], order.index(special))),
    )
    for mine, theirs in one.pairs.items():
        read = [(one.pairs.get(n, n), slot) for n, slot in one.suspect.sources[mine]]
        assert sorted(read) == sorted(one.reference.sources[theirs])
    assert len(one.pairs) == len(one.suspect.nodes)
