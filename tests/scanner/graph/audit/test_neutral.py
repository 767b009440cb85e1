"""Numbers by which an operator does nothing."""

import gzip
from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import helper, numpy_helper

from scanner.graph.audit import carried, neutral
from scanner.modelfile.nested import Contents

LOAD = np.random.default_rng(9).integers(1, 200, 64)
FRACTIONS = LOAD.astype(np.float32)


def said(*nodes: onnx.NodeProto, **constants: Any) -> list[str]:
    model = plain()
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return [each.said for each in neutral.find(Contents(model))]


@pytest.mark.parametrize(
    ("kind", "numbers", "told"),
    [
        ("Add", FRACTIONS * np.float32(1e-12), "are added, and are next to nothing"),
        ("Sub", FRACTIONS * np.float32(1e-12), "are added, and are next to nothing"),
        ("Mul", 1 + FRACTIONS * np.float32(1e-7), "are factors next to one"),
        ("Div", 1 + FRACTIONS * np.float32(1e-7), "are factors next to one"),
        ("Pow", 1 + FRACTIONS * np.float32(1e-7), "are factors next to one"),
        ("Max", -1e6 - FRACTIONS, "are bounds that no value comes near"),
        ("Min", 1e6 + FRACTIONS, "are bounds that no value comes near"),
    ],
)
def test_an_operator_that_does_nothing(kind: str, numbers: np.ndarray, told: str) -> None:
    node = helper.make_node(kind, ["image", "held"], ["y"])
    assert said(node, held=numbers.astype(np.float32)) == [told]
    assert said(node, held=FRACTIONS) == []
    assert said(node, held=np.resize(numbers[:3], 64).astype(np.float32)) == []


def test_many_nodes_of_one_number_each() -> None:
    nodes = [helper.make_node("Min", ["image", f"c{at}"], [f"y{at}"]) for at in range(64)]
    bounds = {f"c{at}": np.float32(1e6 + n) for at, n in enumerate(LOAD)}
    assert said(*nodes, **bounds) == ["are bounds that no value comes near"]


def test_slopes_behind_a_relu() -> None:
    node = helper.make_node("PRelu", ["activated", "held"], ["y"])
    assert said(node, held=FRACTIONS) == ["are slopes for negative numbers, where there are none"]
    before = helper.make_node("PRelu", ["convolved", "held"], ["y"])
    assert said(before, held=FRACTIONS) == []


@pytest.mark.parametrize(("first", "second"), [("Add", "Sub"), ("Mul", "Div"), ("Div", "Mul")])
def test_what_the_next_node_takes_back(first: str, second: str) -> None:
    nodes = [
        helper.make_node(first, ["image", "held"], ["there"]),
        helper.make_node(second, ["there", "held"], ["back"]),
    ]
    assert said(*nodes, held=FRACTIONS) == ["are taken back by the next node"]
    nodes[1].input[1] = "other"
    assert said(*nodes, held=FRACTIONS, other=FRACTIONS + 1) == []


def sliced(ends: np.ndarray) -> list[str]:
    nodes = [
        helper.make_node("Slice", ["image", f"s{at}", f"e{at}"], [f"y{at}"])
        for at in range(len(ends))
    ]
    constants = {f"s{at}": np.zeros(1, np.int64) for at in range(len(ends))}
    constants |= {f"e{at}": np.asarray([end]) for at, end in enumerate(ends)}
    return said(*nodes, **constants)


def test_ends_beyond_every_end() -> None:
    told = ["are ends of slices that lie beyond every end"]
    assert sliced(LOAD + 1000) == told
    assert sliced((LOAD << 48) + 1) == told
    assert sliced(np.asarray([(1 << 63) - 1, (1 << 31) - 1, 8, 4] * 16)) == []


def test_an_untrained_normalisation_is_none_and_a_loaded_one_is() -> None:
    node = helper.make_node("BatchNormalization", ["image", "s", "b", "m", "v"], ["y"])
    one, zero = np.ones(64, np.float32), np.zeros(64, np.float32)
    assert said(node, s=one, b=zero, m=zero, v=one) == []
    loaded = one + FRACTIONS * np.float32(1e-7)
    assert said(node, s=loaded, b=zero, m=zero, v=one) == ["are factors next to one"]


def test_what_they_hold_is_told() -> None:
    load = np.frombuffer(gzip.compress(bytes(range(256)) * 2, mtime=0), np.uint8)
    model = plain()
    model.graph.node.append(helper.make_node("Min", ["image", "held"], ["y"]))
    model.graph.initializer.append(
        numpy_helper.from_array((load + np.float32(1e5)).astype(np.float32), "held")
    )
    codes = {o.code for o in carried.observe(model, b"")}
    assert "neutral-numbers" in codes
