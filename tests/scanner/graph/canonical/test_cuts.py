"""Pieces and turns of values in one form."""

from typing import Any

import models
import numpy as np
import pytest
from onnx import helper

from scanner.graph.canonical.drawing import draw

Nodes = list[tuple[str, list[str], list[str], dict[str, Any]]]
ONE = np.array([1], np.int64)


def fingerprint(nodes: Nodes, constants: dict[str, Any]) -> str:
    made = [helper.make_node(op, i, o, **options) for op, i, o, options in nodes]
    arrays = {name: np.array(value, np.int64) for name, value in constants.items()}
    return draw(models.build(made, arrays, input_shape=["N", 2, 8, 8])).fingerprint


def test_split_slice_and_gather_are_one() -> None:
    told = [
        fingerprint([("Split", ["image", "sizes"], ["a", "b"], {"axis": 1}),
                     ("Sub", ["a", "b"], ["logits"], {})], {"sizes": [1, 1]}),
        fingerprint([("Slice", ["image", "zero", "one", "one"], ["a"], {}),
                     ("Slice", ["image", "minus", "far", "one"], ["b"], {}),
                     ("Sub", ["a", "b"], ["logits"], {})],
                    {"zero": [0], "one": [1], "minus": [-1], "far": [2**62]}),
        fingerprint([("Gather", ["image", "zero"], ["a"], {"axis": 1}),
                     ("Gather", ["image", "one"], ["b"], {"axis": 1}),
                     ("Unsqueeze", ["a", "axis"], ["c"], {}),
                     ("Unsqueeze", ["b", "axis"], ["d"], {}),
                     ("Sub", ["c", "d"], ["logits"], {})], {"zero": 0, "one": 1, "axis": [1]}),
    ]  # fmt: skip
    assert len({*told}) == 1
    swapped = [("Split", ["image", "sizes"], ["a", "b"], {"axis": 1}),
               ("Sub", ["b", "a"], ["logits"], {})]  # fmt: skip
    assert fingerprint(swapped, {"sizes": [1, 1]}) not in told


@pytest.mark.parametrize("axes", [[2], [2, 3]])
def test_a_slice_is_one_in_all_its_forms(axes: list[int]) -> None:
    starts, ends = [1] * len(axes), [5] * len(axes)
    constants = {"s": starts, "e": ends, "a": axes, "b": [axis - 4 for axis in axes], "t": starts}
    forms = {
        fingerprint([("Slice", ["image", "s", "e", *others], ["logits"], {})], constants)
        for others in (["a"], ["b"], ["a", "t"])
    }
    older = helper.make_node("Slice", ["image"], ["logits"], starts=starts, ends=ends, axes=axes)
    shape: list[int | str] = ["N", 2, 8, 8]
    forms.add(draw(models.build([older], {}, opset=9, input_shape=shape)).fingerprint)
    assert len(forms) == 1
    other: Nodes = [("Slice", ["image", "s", "e", "a", "t"], ["logits"], {})]
    assert fingerprint(other, constants | {"t": [2] * len(axes)}) not in forms


@pytest.mark.parametrize("first", ["cut", "turn"])
def test_it_is_one_whether_a_value_is_cut_or_turned_first(first: str) -> None:
    turn, bounds = {"perm": [0, 2, 3, 1]}, {"zero": [0], "one": [1], "three": [3]}
    nodes: Nodes = [("Slice", ["image", "zero", "one", "one"], ["cut"], {}),
                    ("Transpose", ["cut"], ["logits"], turn)]  # fmt: skip
    if first == "turn":
        nodes = [("Transpose", ["image"], ["turned"], turn),
                 ("Slice", ["turned", "zero", "one", "three"], ["logits"], {})]  # fmt: skip
    straight: Nodes = [("Slice", ["image", "zero", "one", "one"], ["logits"], {})]
    assert fingerprint(nodes, bounds) == fingerprint(
        [*straight[:0], ("Slice", ["image", "zero", "one", "one"], ["cut"], {}),
         ("Transpose", ["cut"], ["logits"], turn)], bounds)  # fmt: skip
    assert fingerprint(nodes, bounds) != fingerprint(straight, bounds)


def test_two_turns_are_one() -> None:
    twice: Nodes = [("Transpose", ["image"], ["t"], {"perm": [0, 2, 1, 3]}),
                    ("Transpose", ["t"], ["logits"], {"perm": [0, 1, 3, 2]})]  # fmt: skip
    once: Nodes = [("Transpose", ["image"], ["logits"], {"perm": [0, 2, 3, 1]})]
    assert fingerprint(twice, {}) == fingerprint(once, {})
