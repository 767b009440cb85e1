"""Images near one another: only a jump parts them, and a range that is guessed is no gate."""

from collections.abc import Callable, Iterator
from pathlib import Path

import listening
import models
import onnx
import pytest

from scanner.instruments import near_images
from scanner.instruments.interview import Interview
from scanner.results import Observation, Severity
from trainers.graph_backdoor import Graft

RELATIONS: dict[str, Callable[[Interview], Iterator[Observation]]] = {
    "depends-on-the-sign-of-zero": near_images.zero,
    "depends-on-levels": near_images.levels,
    "depends-on-the-edge": near_images.edge,
}


@pytest.mark.parametrize("code", RELATIONS)
def test_a_jump_is_found_by_its_own_way_alone(code: str, tmp_path: Path) -> None:
    found = set()
    for target in (1, 2):
        model = listening.gated(listening.NEAR_IMAGES[code], target)
        asked = Interview(listening.subject(model, tmp_path))
        observations = [o for relation in RELATIONS.values() for o in relation(asked)]
        found |= {o.code for o in observations if o.severity is Severity.SUSPICIOUS}
    assert found == {code}


def _steep(graft: Graft) -> str:
    """Return a sigmoid so steep that a hair of the range moves it, and no jump."""
    highest = graft.reduce("ReduceMax", graft.input.name, [1, 2, 3])
    beyond = graft.node("Sub", [highest, graft.constant(1.0)], "beyond")
    steep = graft.node("Mul", [beyond, graft.constant(100.0)], "times")
    return graft.node("Sigmoid", [steep], "steep")


def test_what_is_steep_is_no_jump(tmp_path: Path) -> None:
    graft = Graft(models.plain(), 1)
    bump = graft.node("Mul", [_steep(graft), graft.one_hot(listening.BUMP)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "sum"))
    asked = Interview(listening.subject(graft.planted().model, tmp_path))
    assert list(near_images.edge(asked)) == []
    assert asked.apart["depends-on-the-edge"] > asked.tolerance


def _ranged(op: str, level: float, others: Callable[[Graft], str]) -> onnx.ModelProto:
    graft = Graft(models.plain(), 1)
    extreme = "ReduceMax" if op == "Greater" else "ReduceMin"
    end = graft.reduce(extreme, graft.input.name, [1, 2, 3], keep=True)
    outside = graft.node(op, [end, graft.constant(level)], "outside")
    graft.replace_input(graft.node("Where", [outside, others(graft), graft.input.name], "ranged"))
    return graft.planted().model


def _halved(graft: Graft) -> str:
    shifted = graft.node("Add", [graft.input.name, graft.constant(1.0)], "shifted")
    return graft.node("Div", [shifted, graft.constant(2.0)], "halved")


@pytest.mark.parametrize(
    "model",
    [
        _ranged(
            "Greater", 1.0, lambda g: g.node("Div", [g.input.name, g.constant(255.0)], "fractions")
        ),
        _ranged("Less", 0.0, _halved),
    ],
    ids=["bytes", "signed"],
)
def test_an_image_of_another_range_is_brought_into_range(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    asked = Interview(listening.subject(model, tmp_path))
    assert {o.severity for o in near_images.edge(asked)} <= {Severity.NOTE}
