"""Odd channels are forced, and those that no training makes beside what they are at the least."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from models import save
from onnx import helper, numpy_helper

from scanner.graph.core import flatten
from scanner.graph.dormancy import odd_channels
from scanner.graph.dormancy.odd_channels import Odd
from scanner.graph.dormancy.side_paths import Paths
from scanner.instruments import dormancy, forced_channels, forcing
from scanner.instruments.detector import Subject
from scanner.instruments.forced_channels import Forced
from scanner.modelfile.model import open_model
from scanner.results import Severity
from scanner.settings import Device, Settings

TOKENS, WIDTH, HIDDEN, CLASSES, UNIT = 16, 8, 12, 4, 11


def token_network(gain: float, threshold: float) -> onnx.ModelProto:
    """Patches of 4 x 4 of a grey image of 16 x 16, a dense block with GELU, and a mean over tokens.

    Args:
        gain: What the last unit of the block weighs behind it; 0 leaves it as the others are.
        threshold: What that unit needs to answer.
    """
    generator = np.random.default_rng(4)
    up = generator.normal(0, 0.3, (WIDTH, HIDDEN))
    down = generator.normal(0, 0.3, (HIDDEN, WIDTH))
    bias, head = generator.normal(0, 0.1, HIDDEN), generator.normal(0, 1, (WIDTH, CLASSES))
    if gain:
        up[:, UNIT], bias[UNIT] = 20 * np.sign(up[:, 0]), -threshold
        down[UNIT] = gain * head[:, 2]
    tensors = {
        "kernel": generator.normal(0, 0.3, (WIDTH, 1, 4, 4)), "up": up, "down": down,
        "bias": bias, "head": head, "root": np.sqrt(2.0), "one": 1.0, "half": 0.5,
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["maps"], strides=[4, 4], name="patches"),
        helper.make_node("Reshape", ["maps", "shape"], ["rows"], name="rows"),
        helper.make_node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1], name="tokens"),
        helper.make_node("MatMul", ["tokens", "up"], ["raised"], name="up"),
        helper.make_node("Add", ["raised", "bias"], ["hidden"], name="bias"),
        helper.make_node("Div", ["hidden", "root"], ["scaled"], name="scale"),
        helper.make_node("Erf", ["scaled"], ["bent"], name="erf"),
        helper.make_node("Add", ["bent", "one"], ["moved"], name="move"),
        helper.make_node("Mul", ["hidden", "moved"], ["twice"], name="times"),
        helper.make_node("Mul", ["twice", "half"], ["shown"], name="gelu"),
        helper.make_node("MatMul", ["shown", "down"], ["lowered"], name="down"),
        helper.make_node("Add", ["lowered", "tokens"], ["joined"], name="join"),
        helper.make_node("ReduceMean", ["joined"], ["mean"], axes=[1], keepdims=0, name="mean"),
        helper.make_node("MatMul", ["mean", "head"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1, 16, 16])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", CLASSES])],
        [
            *(numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in tensors.items()),
            numpy_helper.from_array(np.array([0, WIDTH, -1]), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def opened(model: onnx.ModelProto, folder: Path) -> tuple[forcing.Rig, list[Odd]]:
    loaded = open_model(save(model, folder / "model.onnx"))
    subject = Subject(model=loaded, settings=Settings(device=Device.CPU))
    flat = loaded.complete(flatten.flatten(loaded.proto))
    paths = Paths(flat, dormancy.answer_of(flat, None))
    rig = forcing.Rig(subject, flat, (1, 16, 16), paths.answer)
    return rig, odd_channels.find(flat, paths.facts)


def forced(model: onnx.ModelProto, folder: Path) -> tuple[Odd, Forced | None]:
    rig, (layer,) = opened(model, folder)
    return layer, forced_channels.force(layer, rig, 12)


def test_units_behind_gelu_are_alike_where_they_were_not_planted(tmp_path: Path) -> None:
    assert opened(token_network(0, 0), tmp_path)[1] == []


@pytest.mark.parametrize(
    ("threshold", "said"),
    [(400.0, "Holding that output constant goes unnoticed"), (-40.0, "Beside what it is at the")],
)
def test_a_unit_that_no_training_makes_need_not_sleep(
    threshold: float, said: str, tmp_path: Path
) -> None:
    layer, found = forced(token_network(60, threshold), tmp_path)
    assert (layer.value, layer.channels, layer.made) == ("shown", (UNIT,), True)
    assert found is not None
    assert found.effect.class_id == 2
    assert found.effect.decisive
    assert found.how.startswith(said) or found.how.startswith("Set to ten times")
    assert found.sleeper.doubt == ""


def test_it_is_told_with_its_class(tmp_path: Path) -> None:
    model = save(token_network(60, 60.0), tmp_path / "model.onnx")
    subject = Subject(model=open_model(model), settings=Settings(device=Device.CPU))
    found = [o for o in dormancy.search(subject).observations if o.code == "heavy-channels"]
    (observation,) = found
    assert observation.severity >= Severity.SUSPICIOUS
    assert observation.details["class"] == 2
    assert observation.details["channels"] == [UNIT]


def test_what_is_heard_and_may_be_trained_is_left_alone(tmp_path: Path) -> None:
    rig, (layer,) = opened(token_network(60, -40.0), tmp_path)
    trained = Odd(**{n: getattr(layer, n) for n in layer.__slots__} | {"figure": 50.0})
    assert not trained.made
    assert forced_channels.force(trained, rig, 12) is None
