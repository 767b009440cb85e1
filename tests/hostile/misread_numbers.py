"""Arithmetic on which ONNX Runtime and other readers may differ: more of `hostile.misreadings`.

Each function returns a model that chooses the network by a number made of constants: the backdoored
one for 1, which is what ONNX Runtime computes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hostile.misreadings import chosen_by_number
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def mixed(nodes: Sequence[onnx.NodeProto], numbers: Mapping[str, Array]) -> bytes:
    """Return the model whose value `number` the nodes make of constants."""
    tensors = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


def as_float(name: str) -> onnx.NodeProto:
    """Return the node that makes `number` of a value of another type."""
    return helper.make_node("Cast", [name], ["number"], to=TensorProto.FLOAT)


def division_of_a_negative() -> bytes:
    """-7 / 4 is -1 where integers are cut and -2 where they are floored."""
    nodes = [
        helper.make_node("Div", ["seven", "four"], ["quotient"]),
        helper.make_node("Add", ["quotient", "two"], ["whole"]),
        as_float("whole"),
    ]
    return mixed(nodes, {"seven": np.array(-7), "four": np.array(4), "two": np.array(2)})


def exponential_that_underflows() -> bytes:
    """exp(-18) is 0 in float16 and not in float32.

    Stored in between, so that the runtime's own widening does not save it.
    """
    nodes = [
        helper.make_node("Exp", ["low"], ["tiny"]),
        helper.make_node("Concat", ["tiny", "tiny"], ["twice"], axis=0),
        helper.make_node("Gather", ["twice", "place"], ["stored"]),
        helper.make_node("Cast", ["stored"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "large"], ["some"]),
        helper.make_node("Sub", ["one", "some"], ["number"]),
    ]
    numbers = {
        "low": np.array([-18], np.float16),
        "place": np.array(1),
        "large": np.array(np.exp(18), np.float32),
        "one": np.array(1, np.float32),
    }
    return mixed(nodes, numbers)


def largest_beside_nan() -> bytes:
    """The maximum of NaN and 1: readers differ on whether NaN counts."""
    nodes = [
        helper.make_node("ReduceMax", ["values"], ["largest"], keepdims=0),
        helper.make_node("Equal", ["largest", "one"], ["is_one"]),
        as_float("is_one"),
    ]
    return mixed(
        nodes, {"values": np.array([1, np.nan], np.float32), "one": np.array(1, np.float32)}
    )


def rounding_made_large() -> bytes:
    """The eighth number of 0, 0.1, ... added up and 0.7 differ in their last bit."""
    nodes = [
        helper.make_node("Range", ["zero", "one", "tenth"], ["steps"]),
        helper.make_node("Gather", ["steps", "place"], ["step"]),
        helper.make_node("Sub", ["step", "direct"], ["apart"]),
        helper.make_node("Div", ["apart", "bit"], ["number"]),
    ]
    direct = np.float32(0.7)
    numbers = {
        "zero": np.float32(0),
        "one": np.float32(1),
        "tenth": np.float32(0.1),
        "place": np.int64(7),
        "direct": direct,
        "bit": np.nextafter(direct, np.float32(1)) - direct,
    }
    return mixed(nodes, {name: np.asarray(value) for name, value in numbers.items()})


FILES: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        division_of_a_negative,
        exponential_that_underflows,
        largest_beside_nan,
        rounding_made_large,
    )
}
