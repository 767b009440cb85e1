"""Nodes in any order are the same graph."""

import tempfile
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from hostile import attacks
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detectors.graph_logic import GraphLogic
from scanner.detectors.integrity import Integrity
from scanner.errors import MalformedModelError
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.modelfile.order import check_order, sort_nodes
from scanner.settings import Settings
from trainers.graph_backdoor import plant
from trainers.graph_backdoor.comparisons import KINDS

SAMPLES = sorted((Path(__file__).parents[3] / "samples").glob("*.onnx"))
SEEDS = st.integers(0, 2**32 - 1)


def shuffled(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    nodes = list(proto.graph.node)
    order = np.random.default_rng(seed).permutation(len(nodes))
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    del made.graph.node[:]
    made.graph.node.extend(nodes[place] for place in order)
    return made


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_a_shuffled_sample_is_the_sample(path: Path, seed: int) -> None:
    proto = onnx.load(path)
    assert not sort_nodes(proto)
    mixed = shuffled(proto, seed)
    sort_nodes(mixed)
    assert list(mixed.graph.node) == list(proto.graph.node)


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_a_shuffled_gate_is_found_and_confirmed_as_before(kind: str, seed: int) -> None:
    planted = plant(models.plain(), kind, target=1).model
    expected = found(planted)
    assert expected
    assert found(shuffled(planted, seed)) == expected


def found(proto: onnx.ModelProto) -> list[tuple[str, int, list[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        opened = open_model(models.save(proto, Path(folder, "model.onnx")))
    measured = GraphLogic().measure(Subject(model=opened, settings=Settings()))
    return sorted((o.code, int(o.severity), sorted(o.nodes)) for o in measured.observations)


@pytest.mark.parametrize("name", list(models.MEASURABLE))
def test_two_orders_become_one(name: str) -> None:
    proto = models.MEASURABLE[name](False)
    first, second = shuffled(proto, 1), shuffled(proto, 2)
    orders = [
        tuple(node.SerializeToString() for node in mixed.graph.node)
        for mixed in (first, second)
        if sort_nodes(mixed)
    ]
    assert len(set(orders)) <= 1


def test_what_a_branch_reads_comes_before_it() -> None:
    proto = models.branch_relu()
    mixed = shuffled(proto, 0)
    mixed.graph.node.sort(key=lambda node: node.op_type != "If")
    assert sort_nodes(mixed)
    kinds = [node.op_type for node in mixed.graph.node]
    assert kinds.index("Conv") < kinds.index("If")


def test_the_report_notes_it(tmp_path: Path) -> None:
    path = models.save(shuffled(models.plain(), 3), tmp_path / "model.onnx")
    found = Integrity().measure(Subject(model=open_model(path), settings=Settings()))
    assert [o.code for o in found.observations] == ["nodes-out-of-order"]


def test_nodes_out_of_order_are_no_cycle() -> None:
    model = models.plain()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    check_order(model.graph)


@pytest.mark.parametrize("name", ["cycle", "produced_twice", "input_twice"])
def test_what_cannot_be_ordered_is_malformed(name: str) -> None:
    with pytest.raises(MalformedModelError, match=r"depends on its own output|twice"):
        check_order(attacks.MALFORMED[name]().graph)
