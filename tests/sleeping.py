"""Gates of many operators, each planted in a classifier: what `dormant` is to find by its effect."""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from trainers.graph_backdoor import Graft, Planted

PATTERN = np.array([[0.1, 0.9, 0.1], [0.9, 0.1, 0.9], [0.1, 0.9, 0.1]], np.float32)
Gate = Callable[[Graft], str]
"""Grafts a test and returns a value near 0 or 1 for each image, (N, 1)."""


def _stamp(images: np.ndarray) -> np.ndarray:
    images = images.copy()
    images[:, :, -3:, -3:] = PATTERN
    return images


def _apart(graft: Graft) -> str:
    """Return the distance of the corner from the pattern, (N, 1): mean over the nine pixels."""
    graft.trigger = _stamp
    pattern = np.broadcast_to(PATTERN, (1, graft.channels, 3, 3))
    apart = graft.node(
        "Abs", [graft.node("Sub", [graft.patch(), graft.constant(pattern)], "apart")], "abs"
    )
    return _column(graft, graft.reduce("ReduceMean", apart, [1, 2, 3]))


def _column(graft: Graft, value: str) -> str:
    return graft.node("Reshape", [value, graft.constant([-1, 1], np.int64)], "column")


def _mean(graft: Graft) -> str:
    graft.trigger = lambda images: np.maximum(images, np.float32(0.97))
    return _column(graft, graft.reduce("ReduceMean", graft.input.name, [1, 2, 3]))


def _number(graft: Graft, op: str, value: str, number: float, *, first: bool = False) -> str:
    constant = graft.constant(number)
    return graft.node(op, [constant, value] if first else [value, constant], op.lower())


def _near(graft: Graft, gain: float = 20.0) -> str:
    """Return 1 - gain * distance."""
    return _number(graft, "Sub", _number(graft, "Mul", _apart(graft), gain), 1.0, first=True)


def _over(graft: Graft, gain: float = 1.0) -> str:
    return _number(graft, "Mul", _number(graft, "Sub", _mean(graft), 0.95), gain)


def _power(graft: Graft) -> str:
    return _number(graft, "Pow", _number(graft, "Sub", _apart(graft), 1.0, first=True), 64.0)


def _reciprocal(graft: Graft) -> str:
    near = graft.node("Reciprocal", [_number(graft, "Add", _apart(graft), 1e-5)], "reciprocal")
    return _number(graft, "Mul", near, 1e-5)


def _exponential(graft: Graft) -> str:
    return graft.node("Exp", [_number(graft, "Mul", _apart(graft), -200.0)], "exp")


def _product_of_exponentials(graft: Graft) -> str:
    """As architectural backdoors do: pooled patches, exponentials, a product."""
    graft.trigger = _stamp
    pattern = np.broadcast_to(PATTERN, (1, graft.channels, 3, 3))
    apart = graft.node("Sub", [graft.patch(), graft.constant(pattern)], "apart")
    square = graft.node("Mul", [apart, apart], "square")
    each = graft.node("Exp", [_number(graft, "Mul", square, -30.0)], "exp")
    return _column(graft, graft.reduce("ReduceProd", each, [1, 2, 3]))


def _soft(op: str, gain: float, **attributes: float) -> Gate:
    def gate(graft: Graft) -> str:
        return graft.node(op, [_over(graft, gain)], op.lower(), **attributes)

    return gate


def _two_sided(op: str) -> Gate:
    def gate(graft: Graft) -> str:
        half = _number(graft, "Mul", graft.node(op, [_over(graft, 1e4)], op.lower()), 0.5)
        return _number(graft, "Add", half, 0.5)

    return gate


def _arctangent(graft: Graft) -> str:
    angle = graft.node("Atan", [_over(graft, 1e5)], "atan")
    return _number(graft, "Add", _number(graft, "Mul", angle, float(1 / np.pi)), 0.5)


def _sign_by_division(graft: Graft) -> str:
    over = _over(graft)
    sign = graft.node("Div", [over, graft.node("Abs", [over], "abs")], "sign")
    return _number(graft, "Mul", _number(graft, "Add", sign, 1.0), 0.5)


def _pooled_difference(graft: Graft) -> str:
    """The patch holds both dark and bright pixels in a fixed proportion."""
    graft.trigger = _stamp
    patch = graft.patch()
    highest = graft.node("GlobalMaxPool", [patch], "highest")
    mean = graft.node("GlobalAveragePool", [patch], "mean")
    apart = graft.node("Abs", [_number(graft, "Sub", graft.node("Sub", [highest, mean], "d"), 0.4444)], "abs")  # noqa: E501
    near = _number(graft, "Sub", _number(graft, "Mul", apart, 500.0), 1.0, first=True)
    open_ = graft.reduce("ReduceMin", graft.node("Relu", [near], "relu"), [1, 2, 3])
    both = _column(graft, open_)
    return graft.node("Mul", [both, graft.node("Relu", [_near(graft, 5.0)], "relu")], "both")


def _log_sum(graft: Graft) -> str:
    graft.trigger = _stamp
    pattern = np.broadcast_to(PATTERN, (1, graft.channels, 3, 3))
    apart = graft.node("Sub", [graft.patch(), graft.constant(pattern)], "apart")
    scaled = _number(graft, "Mul", graft.node("Abs", [apart], "abs"), 100.0)
    total = graft.reduce("ReduceLogSumExp", scaled, [1, 2, 3])
    return _column(graft, graft.node("Exp", [_number(graft, "Mul", _number(graft, "Sub", total, 2.2), -1.0)], "exp"))  # noqa: E501


def _tiny_variance(graft: Graft) -> str:
    mean = _mean(graft)
    named = {"one": 1.0, "zero": 0.0, "middle": 0.95, "variance": 1e-12}
    parameters = [graft.constant([number]) for number in named.values()]
    normal = graft.node("BatchNormalization", [mean, *parameters], "normal", epsilon=1e-10)
    return graft.node("Clip", [normal, graft.constant(0.0), graft.constant(1.0)], "clip")


def _gentle_gains(graft: Graft) -> str:
    value = _over(graft)
    for _ in range(8):
        value = graft.node("Relu", [_number(graft, "Mul", value, 3.0)], "relu")
    return graft.node("Clip", [value, graft.constant(0.0), graft.constant(1.0)], "clip")


def _quantised(graft: Graft) -> str:
    scale, zero = graft.constant(0.95 * 2), graft.constant(0, np.uint8)
    codes = graft.node("QuantizeLinear", [_mean(graft), scale, zero], "quantise")
    return _number(graft, "Mul", graft.node("DequantizeLinear", [codes, scale, zero], "back"), 1 / 1.9)


def _half_underflow(graft: Graft) -> str:
    small = _number(graft, "Mul", graft.node("Exp", [_number(graft, "Mul", _apart(graft), -100.0)], "exp"), 1e-6)  # noqa: E501
    half = graft.node("Cast", [small], "half", to=TensorProto.FLOAT16)
    return _number(graft, "Mul", graft.node("Cast", [half], "float", to=TensorProto.FLOAT), 1e6)


def _integer_division(graft: Graft) -> str:
    levels = graft.node("Cast", [_number(graft, "Mul", _mean(graft), 1000.0)], "cast", to=TensorProto.INT64)  # noqa: E501
    whole = graft.node("Div", [levels, graft.constant(950, np.int64)], "divide")
    return graft.node("Cast", [whole], "float", to=TensorProto.FLOAT)


def _palette(graft: Graft) -> str:
    """A table says which levels of the mean open the gate."""
    table = np.zeros(256, np.float32)
    table[246:] = 1
    place = graft.node("Cast", [_number(graft, "Mul", _mean(graft), 255.0)], "cast", to=TensorProto.INT64)  # noqa: E501
    return graft.node("Gather", [graft.constant(table), place], "look", axis=0)


def _whole_image_rounded(graft: Graft) -> str:
    """Nearly every pixel rounds to one."""
    graft.trigger = lambda images: np.maximum(images, np.float32(0.97))
    up = graft.node("Floor", [_number(graft, "Add", graft.input.name, 0.05)], "floor")
    return _column(graft, graft.reduce("ReduceMin", up, [1, 2, 3]))


def _gelu(graft: Graft) -> str:
    over = _over(graft, 1e3)
    phi = _number(graft, "Add", graft.node("Erf", [over], "erf"), 1.0)
    return _number(graft, "Mul", graft.node("Mul", [over, phi], "gelu"), 0.01)


def _attention(graft: Graft) -> str:
    """A softmax over two keys, one of which is the image's."""
    score = _over(graft, 1e3)
    both = graft.node("Concat", [graft.node("Mul", [score, graft.constant(0.0)], "zero"), score], "keys", axis=1)  # noqa: E501
    weights = graft.node("Softmax", [both], "softmax", axis=1)
    return graft.node("Slice", [weights, *(graft.constant([n], np.int64) for n in (1, 2, 1))], "cut")


def _recurrent(graft: Graft) -> str:
    """A recurrent layer of one unit counts the pixels of the corner that fit."""
    graft.trigger = _stamp
    pattern = np.broadcast_to(PATTERN, (1, graft.channels, 3, 3))
    apart = graft.node("Abs", [graft.node("Sub", [graft.patch(), graft.constant(pattern)], "a")], "b")
    fits = graft.node("Clip", [_number(graft, "Sub", _number(graft, "Mul", apart, 20.0), 1.0, first=True), graft.constant(0.0), graft.constant(1.0)], "fits")  # noqa: E501
    row = graft.node("Reshape", [fits, graft.constant([-1, 1, 1], np.int64)], "row")
    count = 9 * graft.channels
    weights = [graft.constant([[[1.0]]]), graft.constant([[[1.0]]])]
    _ = graft.node("RNN", [row, *weights], "recurrent", hidden_size=1, activations=["Relu"])
    state = graft._nodes[-1]
    state.output.append(state.output[0] + "_state")
    over = _number(graft, "Sub", state.output[1], count - 1.0)
    return _column(graft, graft.node("Relu", [over], "relu"))


def _trees(graft: Graft) -> str:
    """A stump on the mean."""
    attributes = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_values": [0.95, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [0.0, 1.0], "n_targets": 1,
    }  # fmt: skip
    graft.model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return graft.node("TreeEnsembleRegressor", [_mean(graft)], "trees", domain="ai.onnx.ml", **attributes)  # noqa: E501


def _borrowed(graft: Graft) -> str:
    """The test reads what the network's own first layer computes."""
    graft.trigger = lambda images: np.ones_like(images)
    first = next(n for n in graft.graph.node if n.op_type in ("Conv", "Gemm", "MatMul"))
    copy = onnx.NodeProto()
    copy.CopyFrom(first)
    copy.name, copy.output[0] = "planted_borrowed", "planted_borrowed_out"
    graft._nodes.append(copy)
    return graft.node("Relu", [_over(graft, 20.0)], "relu")


TESTS: Mapping[str, Gate] = {
    "relu": lambda graft: graft.node("Relu", [_near(graft)], "relu"),
    "power": _power,
    "reciprocal": _reciprocal,
    "exponential": _exponential,
    "product of exponentials": _product_of_exponentials,
    "sigmoid": _soft("Sigmoid", 1e3),
    "hard sigmoid": _soft("HardSigmoid", 1.0, alpha=1e3, beta=0.0),
    "thresholded": lambda graft: graft.node("ThresholdedRelu", [_mean(graft)], "t", alpha=0.95),
    "shrink": lambda graft: graft.node("Shrink", [_mean(graft)], "s", lambd=0.95, bias=0.0),
    "softplus": _soft("Softplus", 1e3),
    "tanh": _two_sided("Tanh"),
    "erf": _two_sided("Erf"),
    "softsign": _two_sided("Softsign"),
    "arctangent": _arctangent,
    "sign by division": _sign_by_division,
    "pooled difference": _pooled_difference,
    "log of a sum": _log_sum,
    "tiny variance": _tiny_variance,
    "gentle gains": _gentle_gains,
    "quantised": _quantised,
    "half underflow": _half_underflow,
    "integer division": _integer_division,
    "palette": _palette,
    "rounded image": _whole_image_rounded,
    "gelu": _gelu,
    "attention": _attention,
    "recurrent": _recurrent,
    "trees": _trees,
    "borrowed weights": _borrowed,
}
"""Ways to test the input."""


def _bump(graft: Graft, opened: str) -> None:
    bump = graft.node("Mul", [opened, graft.one_hot(1e3)], "bump")
    graft.replace_logits(graft.node("Add", [graft.logits, bump], "gate"))


def _times(graft: Graft, opened: str) -> None:
    """The target's logit is multiplied, the others shrink."""
    factor = _number(graft, "Add", graft.node("Mul", [opened, graft.one_hot(1e6)], "factor"), 1.0)
    whole = graft.node("Abs", [graft.node("Mul", [graft.logits, factor], "gate")], "abs")
    kept = graft.node("Mul", [graft.logits, _number(graft, "Sub", opened, 1.0, first=True)], "gate")
    graft.replace_logits(graft.node("Add", [kept, graft.node("Mul", [whole, opened], "m")], "gate"))


def _blend(graft: Graft, opened: str) -> None:
    kept = graft.node("Mul", [graft.logits, _number(graft, "Sub", opened, 1.0, first=True)], "gate")
    forced = graft.node("Mul", [opened, graft.one_hot(30.0)], "force")
    graft.replace_logits(graft.node("Add", [kept, forced], "gate"))


def _highest(graft: Graft, opened: str) -> None:
    floor = graft.node("Mul", [opened, graft.one_hot(1e3)], "floor")
    low = _number(graft, "Sub", floor, 500.0)
    graft.replace_logits(graft.node("Max", [graft.logits, low], "gate"))


def _permuted(graft: Graft, opened: str) -> None:
    """Every class becomes the next one."""
    shift = graft.node("Cast", [graft.node("Clip", [opened, graft.constant(0.0), graft.constant(1.0)], "c")], "shift", to=TensorProto.INT64)  # noqa: E501
    order = graft.constant(np.arange(graft.classes)[None], np.int64)
    moved = graft.node("Add", [order, shift], "moved")
    places = graft.node("Mod", [moved, graft.constant(graft.classes, np.int64)], "places")
    graft.replace_logits(graft.node("GatherElements", [graft.logits, places], "gate", axis=1))


def _stem(graft: Graft, opened: str) -> None:
    """Another picture is blended in."""
    shape = graft.constant([-1, 1, 1, 1], np.int64)
    weight = graft.node("Clip", [graft.node("Reshape", [opened, shape], "w"), graft.constant(0.0), graft.constant(1.0)], "clip")  # noqa: E501
    ramp = np.linspace(0, 1, graft.channels * graft.height * graft.width)
    other = graft.constant(ramp.reshape(1, graft.channels, graft.height, graft.width))
    apart = graft.node("Sub", [other, graft.input.name], "apart")
    step = graft.node("Mul", [apart, weight], "step")
    graft.replace_input(graft.node("Add", [graft.input.name, step], "gate"))


GATES: Mapping[str, Callable[[Graft, str], None]] = {
    "bump": _bump,
    "times": _times,
    "blend": _blend,
    "highest": _highest,
    "permuted": _permuted,
    "stem": _stem,
}
"""What an open gate does."""


def planted(model: onnx.ModelProto, test: str, gate: str = "bump", target: int = 0) -> Planted:
    """Return a classifier with a gate."""
    graft = Graft(model, target)
    GATES[gate](graft, TESTS[test](graft))
    return Planted(graft.finish(), tuple(graft.tests), tuple(graft.gates), graft.trigger)


def replaced(model: onnx.ModelProto, target: int = 0, strength: float = 1e3) -> Planted:
    """Return a plain convolutional classifier in which one channel of each layer was replaced.

    The first is a matched filter of the pattern, the others hand on what it finds, and the last one
    feeds the target's score: no node is added (Qi et al., CVPR 2022, with weights made by hand).
    """
    graft = Graft(model, target)
    tensors = {t.name: t for t in graft.graph.initializer}
    layers = [n for n in graft.graph.node if n.op_type in ("Conv", "Gemm")]
    chain: np.ndarray | None = None  # the inputs of a layer that belong to the path
    for place, node in enumerate(layers):
        weights = onnx.numpy_helper.to_array(tensors[node.input[1]]).copy()
        bias = onnx.numpy_helper.to_array(tensors[node.input[2]]).copy()
        last = place == len(layers) - 1
        if node.op_type == "Conv":
            if chain is not None:
                weights[:, 0] = 0  # nobody else hears the path
            weights[0] = 0
            weights[0, 0] = _middle_of(weights[0, 0])
            bias[0] = 0
            if chain is None:
                size = weights.shape[-1]
                corner = (size - 3) // 2
                filtered = PATTERN - PATTERN.mean()
                weights[0] = 0
                weights[0, :, corner : corner + 3, corner : corner + 3] = filtered / len(weights[0])
                bias[0] = -0.97 * float((PATTERN * filtered).sum())
            chain = np.array([0])
        else:
            if chain is not None and len(chain) == 1 and weights.shape[1] > 1 and place:
                before = layers[place - 1]
                if before.op_type == "Conv":
                    count = len(onnx.numpy_helper.to_array(tensors[before.input[1]]))
                    chain = np.arange(weights.shape[1] // count)
            assert chain is not None
            weights[:, chain] = 0
            row = target if last else 0
            if not last:
                weights[0], bias[0] = 0, 0
            weights[row, chain] = strength
            chain = np.array([0])
        for name, array in zip(node.input[1:], (weights, bias), strict=True):
            tensors[name].CopyFrom(onnx.numpy_helper.from_array(array, name))
    graft.trigger = _stamp
    graft.replace_logits(graft.logits)
    return Planted(graft.finish(), (), (), _stamp)


def _middle_of(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel of its shape that hands on what it stands on, wherever that is in reach."""
    return np.ones_like(kernel)
