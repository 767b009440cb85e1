"""Recurrent layers that are written out: the same answers, and the gradient of central differences.

The oracle of answers is ONNX Runtime, whose operators are its own. The oracle of gradients are
central differences of what was written out, in double precision, and PyTorch where it is installed.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from finite_differences import Function, assert_gradient
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import NoGradientError
from scanner.graph.core.draft import copied
from scanner.graph.core.facts import infer
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.gradient.recurrent import OPERATORS, unroll

Array = npt.NDArray[Any]

STEPS, IMAGES, GIVEN, STATE = 5, 3, 4, 6
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
BIASES, PEEPHOLES = "bias", "peepholes"
FORMS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "RNN": ("RNN", {}, ()),
    "RNN with bias": ("RNN", {}, (BIASES,)),
    "RNN of rectifiers, backwards": (
        "RNN",
        {"activations": ["Relu"], "direction": "reverse"},
        (BIASES,),
    ),
    "RNN of two activations": (
        "RNN",
        {
            "activations": ["LeakyRelu", "Elu"],
            "activation_alpha": [0.3, 0.6],
            "direction": "bidirectional",
        },
        (BIASES,),
    ),
    "RNN with a threshold": (
        "RNN",
        {
            "activations": ["LeakyRelu", "ThresholdedRelu"],
            "activation_alpha": [0.3, 0.4],
            "direction": "bidirectional",
        },
        (BIASES,),
    ),
    "RNN with a threshold that is not stated": ("RNN", {"activations": ["ThresholdedRelu"]}, ()),
    "GRU": ("GRU", {}, ()),
    "GRU with bias": ("GRU", {}, (BIASES,)),
    "GRU of PyTorch": ("GRU", {"linear_before_reset": 1}, (BIASES, "initial_h")),
    "GRU both ways": ("GRU", {"direction": "bidirectional"}, (BIASES, "initial_h")),
    "LSTM": ("LSTM", {}, ()),
    "LSTM of PyTorch": ("LSTM", {}, (BIASES, "initial_h", "initial_c")),
    "LSTM both ways": ("LSTM", {"direction": "bidirectional"}, (BIASES, "initial_h", "initial_c")),
    "LSTM with peepholes": ("LSTM", {}, (BIASES, "initial_c", PEEPHOLES)),
    "LSTM with peepholes, from zero": ("LSTM", {"direction": "reverse"}, (BIASES, PEEPHOLES)),
    "LSTM of Keras": (
        "LSTM",
        {"activations": ["HardSigmoid", "Tanh", "Tanh"], "activation_alpha": [0.2],
         "activation_beta": [0.5]},
        (BIASES,),
    ),
    "LSTM that is clipped": ("LSTM", {"clip": 0.4}, (BIASES,)),
    "LSTM with given lengths": ("LSTM", {}, (BIASES, "lengths")),
}  # fmt: skip


def layer(
    kind: str, attributes: dict[str, Any], has: tuple[str, ...], *, output: str = "Y"
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Return a recurrent layer that reads `x`, (STEPS, IMAGES, GIVEN), and its constants."""
    rng = np.random.default_rng(3)
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    gates = GATES[kind]
    arrays: dict[str, Array] = {
        "W": rng.standard_normal((ways, gates * STATE, GIVEN)),
        "R": rng.standard_normal((ways, gates * STATE, STATE)) / 2,
        BIASES: rng.standard_normal((ways, 2 * gates * STATE)) / 2,
        "lengths": np.full(IMAGES, STEPS, np.int32),
        "initial_h": rng.standard_normal((ways, IMAGES, STATE)),
        "initial_c": rng.standard_normal((ways, IMAGES, STATE)),
        PEEPHOLES: rng.standard_normal((ways, 3 * STATE)) / 2,
    }
    wanted = {"W", "R", *has}
    inputs = ["x", *(name if name in wanted else "" for name in arrays)]
    while not inputs[-1]:
        inputs.pop()
    outputs = ["", "", ""][: 3 if kind == "LSTM" else 2]
    outputs[["Y", "Y_h", "Y_c"].index(output)] = "y"
    node = helper.make_node(kind, inputs, outputs, hidden_size=STATE, **attributes)
    return [node], {name: arrays[name] for name in arrays if name in wanted}


def answers(model: onnx.ModelProto, x: Array) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.astype(np.float32)})[0])


def written_out(model: onnx.ModelProto) -> onnx.ModelProto:
    draft = copied(model)
    unroll(draft, infer(draft))
    assert not {node.op_type for node in draft.graph.node} & set(OPERATORS)
    return draft


@pytest.mark.parametrize("output", ["Y", "Y_h", "Y_c"])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_out_answers_as_the_layer_does(form: str, output: str) -> None:
    kind, attributes, has = FORMS[form]
    if output == "Y_c" and kind != "LSTM":
        pytest.skip("it has no cell")
    nodes, constants = layer(kind, attributes, has, output=output)
    x = np.random.default_rng(1).standard_normal((STEPS, IMAGES, GIVEN))
    model = Function(nodes, {"x": x}, constants).model(np.float32)
    np.testing.assert_allclose(
        answers(written_out(model), x), answers(model, x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("form", FORMS)
def test_gradient_is_that_of_central_differences(form: str) -> None:
    nodes, constants = layer(*FORMS[form])
    x = np.random.default_rng(2).standard_normal((STEPS, IMAGES, GIVEN))
    model = written_out(Function(nodes, {"x": x}, constants).model(np.float64))
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert_gradient(Function(list(model.graph.node), {"x": x}, arrays), np.random.default_rng(4))


def classifier(images: int | str, steps: int | str, **attributes: Any) -> onnx.ModelProto:
    """Return a network that reads an image's rows one after another."""
    nodes, constants = layer("GRU", attributes, (BIASES,), output="Y_h")
    tensors = [
        numpy_helper.from_array(a.astype(np.float32) if a.dtype.kind == "f" else a, name)
        for name, a in constants.items()
    ]
    nodes[0].input[0] = "rows"
    turn = helper.make_node("Transpose", ["x"], ["rows"], perm=[1, 0, 2])
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [images, steps, GIVEN])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([turn, *nodes], "g", [image], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_an_open_batch_stays_open() -> None:
    model = classifier("N", STEPS)
    backward = gradient_model(model, of="y", with_respect_to=["x"])
    session = ort.InferenceSession(
        backward.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    for count in (1, 7):
        x = rng.standard_normal((count, STEPS, GIVEN)).astype(np.float32)
        weights = np.ones((1, count, STATE), np.float32)
        value, gradient = session.run(
            [backward.value, backward.gradients["x"]], {"x": x, backward.weights: weights}
        )
        np.testing.assert_allclose(value, answers(model, x), rtol=1e-4, atol=1e-5)
        assert gradient.shape == x.shape
        assert np.abs(gradient).min() > 0


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (classifier("N", "rows"), "its number of steps is open"),
        (classifier("N", 600), "its number of steps is 600"),
        (
            classifier("N", STEPS, activations=["Affine", "Tanh"]),
            "no gradient is known for its activation 'Affine'",
        ),
    ],
    ids=["open", "long", "activation"],
)
def test_other_forms_are_refused_with_the_reason(model: onnx.ModelProto, reason: str) -> None:
    with pytest.raises(NoGradientError, match=reason):
        gradient_model(model, of="y", with_respect_to=["x"])


@pytest.mark.filterwarnings("ignore")  # of PyTorch's, about its exporter
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_gradient_is_that_of_pytorch(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Rows(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Reads an image's rows up and down, and classifies the last states."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(torch.nn, kind)(8, 12, batch_first=True, bidirectional=True)
            self.last = torch.nn.Linear(24, 5)

        def forward(self, x: Any) -> Any:
            return self.last(self.layer(x.squeeze(1))[0][:, -1])

    torch.manual_seed(0)
    network, x = Rows().eval(), torch.rand(2, 1, 7, 8)
    path = tmp_path / "rows.onnx"
    torch.onnx.export(network, (x,), path, dynamo=False, opset_version=17, input_names=["x"])
    backward = gradient_model(
        onnx.load(path),
        of=onnx.load(path).graph.output[0].name,
        with_respect_to=["x"],
        objective=Objective.WEIGHTED_SUM,
    )
    session = ort.InferenceSession(
        backward.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    slope = torch.rand(2, 5)
    (ours,) = session.run(
        [backward.gradients["x"]], {"x": x.numpy(), backward.weights: slope.numpy()}
    )
    x.requires_grad_()
    (network(x) * slope).sum().backward()
    np.testing.assert_allclose(ours, x.grad.numpy(), rtol=1e-4, atol=1e-6)
