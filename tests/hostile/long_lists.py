"""Files whose numbers onnx's inference would list one by one: a gigabyte for every 15 million.

Where inference follows numbers, an operator that passes them on lists all elements of whatever has
one dimension of known size. Each function is named after how it hides that size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import models
import numpy as np
import onnx
from onnx import TensorProto, helper

MANY = 2**28
"""Elements: less than the limit on memory as bytes, twenty gigabytes as numbers in a list."""


def _listed(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Any], name: str, **options: Any
) -> onnx.ModelProto:
    """Return a model that passes on the numbers of a value, and has its first ReLU behind it."""
    constants = {"one": np.ones(1, np.float32), **constants}
    return models.build(
        [
            *nodes,
            helper.make_node("Mul", [name, "one"], ["listed"]),
            helper.make_node("ReduceMax", ["listed"], ["total"], keepdims=0),
            helper.make_node("Add", ["image", "total"], ["sum"]),
            helper.make_node("Relu", ["sum"], ["activated"]),
        ],
        constants,
        output="activated",
        **options,
    )


def size_in_an_attribute() -> onnx.ModelProto:
    """The size stands in an attribute (mutant 247526 of seed 1)."""
    return _listed([helper.make_node("RandomUniform", [], ["noise"], shape=[MANY])], {}, "noise")


def doubled_behind_an_activation() -> onnx.ModelProto:
    """Concats double a list; a Softmax among them passes no numbers on (421163 and 445006)."""
    nodes, last = [], "one"
    for position in range(28):
        name = f"doubled{position}"
        nodes.append(helper.make_node("Concat", [last, last], [name], axis=0))
        last = name
        if position == 8:
            nodes.append(helper.make_node("Softmax", [name], ["soft"], axis=0))
            last = "soft"
    return _listed(nodes, {}, last)


def reshaped() -> onnx.ModelProto:
    """A Reshape to more elements than there are: inference does not compare."""
    constants = {"sizes": np.array([MANY])}
    return _listed([helper.make_node("Reshape", ["one", "sizes"], ["long"])], constants, "long")


def shape_by_numbers() -> onnx.ModelProto:
    """A size that is known only where numbers are followed: a product of two."""
    nodes = [
        helper.make_node("Mul", ["root", "root"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["long"]),
    ]
    return _listed(nodes, {"root": np.array([2**14])}, "long")


def pieces_of_negative_size() -> onnx.ModelProto:
    """A Split into one piece that is too long and one of a negative size; their sum is right."""
    nodes = [helper.make_node("Split", ["one", "sizes"], ["long", "rest"], axis=0)]
    return _listed(nodes, {"sizes": np.array([MANY, 1 - MANY])}, "long")


def row_and_column() -> onnx.ModelProto:
    """A row and a column make a matrix of many more elements, and that is made a list."""
    nodes = [
        helper.make_node("RandomUniform", [], ["row"], shape=[1, 2**14]),
        helper.make_node("RandomUniform", [], ["column"], shape=[2**14, 1]),
        helper.make_node("Max", ["row", "column"], ["matrix"]),
        helper.make_node("Reshape", ["matrix", "minus"], ["long"]),
    ]
    return _listed(nodes, {"minus": np.array([-1])}, "long")


def no_elements_but_a_long_side() -> onnx.ModelProto:
    """A tensor without elements, whose long side a Reshape takes over."""
    nodes = [
        helper.make_node("RandomUniform", [], ["empty"], shape=[MANY, 0]),
        helper.make_node("Reshape", ["empty", "same"], ["long"]),
    ]
    return _listed(nodes, {"same": np.array([0])}, "long")


def squeezed() -> onnx.ModelProto:
    """A matrix of one column, squeezed to a list."""
    nodes = [
        helper.make_node("RandomUniform", [], ["column"], shape=[MANY, 1]),
        helper.make_node("Squeeze", ["column"], ["long"]),
    ]
    return _listed(nodes, {}, "long")


def in_a_branch() -> onnx.ModelProto:
    """The list lies around an If, and only a branch passes its numbers on."""
    inner = helper.make_node("Mul", ["noise", "one"], ["listed_inside"])
    outputs = [helper.make_tensor_value_info("listed_inside", TensorProto.FLOAT, None)]
    body = helper.make_graph([inner], "body", [], outputs)
    nodes = [
        helper.make_node("RandomUniform", [], ["noise"], shape=[MANY]),
        helper.make_node("ReduceMax", ["image"], ["peak"], keepdims=0),
        helper.make_node("Cast", ["peak"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["long"], then_branch=body, else_branch=body),
    ]
    return _listed(nodes, {}, "long")


def in_the_body_of_an_operator() -> onnx.ModelProto:
    """An operator that is itself a function, whose body passes numbers on."""
    nodes = [
        helper.make_node("RandomUniform", [], ["noise"], shape=[MANY]),
        helper.make_node("MeanVarianceNormalization", ["noise"], ["long"], axes=[0]),
    ]
    return _listed(nodes, {}, "long")


def pieces_of_a_split() -> onnx.ModelProto:
    """A Split of one output, whose attribute asks for many pieces: inference lists their sizes."""
    nodes = [
        helper.make_node("RandomUniform", [], ["noise"], shape=[MANY]),
        helper.make_node("Split", ["noise"], ["piece"], axis=0, num_outputs=MANY),
    ]
    return _listed(nodes, {}, "piece", opset=18)


def step_beyond_the_list(step: int = 2**32) -> onnx.ModelProto:
    """A Slice whose step is cut off to 32 bits: inference reads one number for ever."""
    nodes = [
        helper.make_node("Shape", ["image"], ["sizes"]),
        helper.make_node("Slice", ["sizes", "start", "end", "start", "step"], ["part"]),
        helper.make_node("Cast", ["part"], ["long"], to=TensorProto.FLOAT),
    ]
    constants = {"start": [0], "end": [4], "step": [step]}
    return _listed(nodes, {name: np.array(v) for name, v in constants.items()}, "long")


def step_outside_of_the_list() -> onnx.ModelProto:
    """The same with a step that leads to a negative position: inference reads outside, and dies."""
    return step_beyond_the_list(2**31)


def step_by_numbers() -> onnx.ModelProto:
    """Such a step, computed."""
    model = step_beyond_the_list(2**16)
    square = helper.make_node("Mul", ["step", "step"], ["square"])
    nodes = [square, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.node[2].input[4] = "square"
    return model


LISTED: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        size_in_an_attribute, doubled_behind_an_activation, reshaped, shape_by_numbers,
        pieces_of_negative_size, row_and_column, no_elements_but_a_long_side,
        squeezed, in_a_branch, in_the_body_of_an_operator, pieces_of_a_split,
        step_beyond_the_list, step_outside_of_the_list, step_by_numbers,
    )
}  # fmt: skip
