"""Files that answer by how they are used, not by what they are shown: more of `misreadings`.

What a scan asks of a file is a small part of what its user will ask: few runs, batches of few
sizes, the outputs that it knows to read. Each function returns a serialised model in which the
backdoored network stands where a scan might not look.
"""

from collections.abc import Callable

import numpy as np
import onnx
from hostile.misreadings import (
    Nodes,
    chosen_by_number,
    constant,
    hidden,
    model,
    read,
)
from onnx import TensorProto, helper, numpy_helper


def _float(name: str, value: float) -> onnx.NodeProto:
    return constant(name, np.array(value, np.float32))


def after_many_runs() -> bytes:
    """A random operator of fixed seed goes on from run to run, and the first thousand stay below.

    The seed was searched: of ONNX Runtime's numbers, that of run `RUNS` is the first above.
    """
    nodes = [
        helper.make_node("RandomUniform", [], ["drawn"], shape=[1], seed=SEED),
        _float("limit", LIMIT),
        helper.make_node("Greater", ["drawn", "limit"], ["late"]),
        helper.make_node("Cast", ["late"], ["number"], to=TensorProto.FLOAT),
    ]
    return bytes(chosen_by_number(nodes).SerializeToString())


SEED, LIMIT, RUNS = 11.0, 0.9999, 1310


def batch_of(size: int) -> bytes:
    """The backdoored network answers batches of one size, which a scan may never form."""
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        constant("zero", np.array(0)),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        constant("size", np.array(size)),
        helper.make_node("Equal", ["batch", "size"], ["same"]),
        helper.make_node("Cast", ["same"], ["number"], to=TensorProto.FLOAT),
    ]
    return bytes(chosen_by_number(nodes).SerializeToString())


def batch_of_eight() -> bytes:
    """Batches of eight."""
    return batch_of(8)


def batch_of_sixty_four() -> bytes:
    """Batches of sixty-four."""
    return batch_of(64)


def label_of_another_network(*, text: bool = False) -> bytes:
    """Scores of the clean network, beside a label of the backdoored one, which a user reads."""
    nodes, tensors = read()
    label = helper.make_node("ArgMax", ["bad"], ["label"], axis=1, keepdims=0)
    scores = helper.make_node("Identity", ["good"], ["logits"])
    last = [helper.make_node("Cast", ["label"], ["name"], to=TensorProto.STRING)] if text else []
    made = model([*nodes, *hidden(), label, *last, scores], tensors)
    first = helper.make_tensor_value_info(
        "name" if text else "label", TensorProto.STRING if text else TensorProto.INT64, ["N"]
    )
    made.graph.output.insert(0, first)
    return bytes(made.SerializeToString())


def name_of_another_network() -> bytes:
    """The same, the label as text."""
    return label_of_another_network(text=True)


def _mixed_scores(last: Nodes) -> bytes:
    """The clean network's scores, times nearly nothing, are added to those of the other."""
    nodes, tensors = read()
    add = [
        _float("nothing", 1e-20),
        helper.make_node("Mul", ["good", "nothing"], ["vanishing"]),
        helper.make_node("Add", ["vanishing", "other"], ["logits"]),
    ]
    return bytes(model([*nodes, *hidden(), *last, *add], tensors).SerializeToString())


def scores_of_a_decoy() -> bytes:
    """The last linear layer before the output is that of the clean network, times nothing."""
    return _mixed_scores([helper.make_node("Identity", ["bad"], ["other"])])


def scores_behind_softmax() -> bytes:
    """A Softmax of the clean network, times nothing, and the other's probabilities."""
    nodes, tensors = read()
    last = [
        helper.make_node("Softmax", ["bad"], ["other"], axis=1),
        helper.make_node("Softmax", ["good"], ["shown"], axis=1),
        _float("nothing", 1e-20),
        helper.make_node("Mul", ["shown", "nothing"], ["vanishing"]),
        helper.make_node("Add", ["vanishing", "other"], ["logits"]),
    ]
    return bytes(model([*nodes, *hidden(), *last], tensors).SerializeToString())


def label_behind_softmax() -> bytes:
    """The only output is an ArgMax over a choice between two: the scores are not its input."""
    nodes, tensors = read()
    last = [
        helper.make_node("ArgMax", ["bad"], ["label"], axis=1, keepdims=0),
        helper.make_node("ArgMax", ["good"], ["decoy"], axis=1, keepdims=0),
        constant("none", np.array(0)),
        helper.make_node("Mul", ["decoy", "none"], ["vanishing"]),
        helper.make_node("Add", ["vanishing", "label"], ["answer"]),
    ]
    made = model([*nodes, *hidden(), *last], tensors, outputs=())
    made.graph.output.append(helper.make_tensor_value_info("answer", TensorProto.INT64, ["N"]))
    made.graph.output.append(helper.make_tensor_value_info("good", TensorProto.FLOAT, ["N", 10]))
    return bytes(made.SerializeToString())


def a_name_that_ends_early() -> bytes:
    """Two values whose names are one up to a zero byte, where a reader of C strings stops."""
    nodes = [_float("number\0", 0.0), _float("number", 1.0)]
    return bytes(chosen_by_number(nodes).SerializeToString())


def number_in_another_spelling() -> bytes:
    """Two names that look alike and are one after Unicode's normalisation."""
    nodes = [_float("nu\u0301mber", 0.0), _float("n\u00famber", 1.0)]
    return bytes(chosen_by_number(nodes, number="n\u00famber").SerializeToString())


def name_of_an_inlined_value() -> bytes:
    """A value outside bears the name that inlining is likely to give to one of a function."""
    inner = [_float("inner", 1.0), helper.make_node("Identity", ["inner"], ["y"])]
    function = helper.make_function("local", "One", [], ["y"], inner, [helper.make_opsetid("", 17)])
    likely = (
        "inner",
        "inner_0",
        "inner__1",
        "inner__2",
        "One_inner",
        "One__inner",
        "local_One_inner",
    )
    nodes: Nodes = [
        *(_float(name, 0.0) for name in likely),
        helper.make_node("One", [], ["number"], domain="local"),
    ]
    return bytes(
        chosen_by_number(
            nodes, functions=[function], domains=[helper.make_opsetid("local", 1)]
        ).SerializeToString()
    )


def text_as_number() -> bytes:
    """A number written as text, which readers of numbers read differently."""
    nodes = [
        helper.make_node("Cast", ["text"], ["read"], to=TensorProto.FLOAT),
        helper.make_node("Squeeze", ["read"], ["number"]),
    ]
    text = TensorProto(name="text", data_type=TensorProto.STRING, dims=[1], string_data=[b"1.0"])
    return bytes(chosen_by_number(nodes, [text]).SerializeToString())


def cast_beyond_the_range() -> bytes:
    """A float beyond the range of a byte: cut off, wrapped, or whatever the machine does."""
    nodes = [
        helper.make_node("Cast", ["large"], ["byte"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["byte"], ["small"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["small", "off"], ["number"]),
    ]
    large = numpy_helper.from_array(np.array(257.0, np.float32), "large")
    off = numpy_helper.from_array(np.array(0.0, np.float32), "off")
    return bytes(chosen_by_number(nodes, [large, off]).SerializeToString())


def shift_of_all_bits() -> bytes:
    """A shift by 33 bits of 32: nothing is left, or the processor takes 33 for 1."""
    nodes = [
        helper.make_node("BitShift", ["two", "many"], ["shifted"], direction="RIGHT"),
        helper.make_node("Cast", ["shifted"], ["left"], to=TensorProto.FLOAT),
        _float("one", 1.0),
        helper.make_node("Sub", ["one", "left"], ["number"]),
    ]
    tensors = [
        numpy_helper.from_array(np.array(value, np.uint32), name)
        for name, value in (("two", 2), ("many", 33))
    ]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


def updates_of_one_place() -> bytes:
    """Two updates of one element: the last one stays, or the first."""
    nodes = [
        helper.make_node("ScatterND", ["zeros", "places", "values"], ["written"]),
        helper.make_node("Squeeze", ["written"], ["number"]),
    ]
    tensors = [
        numpy_helper.from_array(np.zeros(1, np.float32), "zeros"),
        numpy_helper.from_array(np.zeros((2, 1), np.int64), "places"),
        numpy_helper.from_array(np.array([0, 1], np.float32), "values"),
    ]
    return bytes(chosen_by_number(nodes, tensors).SerializeToString())


def first_of_two_largest() -> bytes:
    """The place of the largest number, where there are two and one that is none."""
    nodes = [
        helper.make_node("ArgMax", ["values"], ["place"], axis=0, keepdims=0),
        helper.make_node("Cast", ["place"], ["second"], to=TensorProto.FLOAT),
        _float("one", 1.0),
        helper.make_node("Sub", ["one", "second"], ["number"]),
    ]
    values = numpy_helper.from_array(np.array([np.nan, 1, 1], np.float32), "values")
    return bytes(chosen_by_number(nodes, [values]).SerializeToString())


FILES: dict[str, Callable[[], bytes]] = {
    function.__name__: function
    for function in (
        after_many_runs, batch_of_eight, batch_of_sixty_four, label_of_another_network,
        name_of_another_network, scores_of_a_decoy, scores_behind_softmax, label_behind_softmax,
        a_name_that_ends_early, number_in_another_spelling, name_of_an_inlined_value,
        text_as_number, cast_beyond_the_range, shift_of_all_bits, updates_of_one_place,
        first_of_two_largest,
    )
}  # fmt: skip
