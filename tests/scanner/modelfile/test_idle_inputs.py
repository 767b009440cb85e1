"""Inputs that nothing reads are left out; a file that reads two is refused as before."""

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from scanner.detectors import load
from scanner.errors import NoHeadError, NoImagesError, UnsupportedModelError
from scanner.instruments import probes
from scanner.instruments.detector import Subject
from scanner.modelfile.idle_inputs import drop
from scanner.modelfile.model import open_model, required_inputs
from scanner.settings import Settings


def idle(name: str = "folded") -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 1, 3])


def network(*, first: bool = False) -> onnx.ModelProto:
    """Return a small classifier with an input beside the image, before or behind it."""
    model = models.plain()
    images = list(model.graph.input)
    kept = onnx.GraphProto(input=[idle(), *images] if first else [*images, idle()])
    del model.graph.input[:]
    model.graph.input.extend(kept.input)
    return model


@pytest.mark.parametrize("first", [True, False])
def test_it_is_measured_as_the_same_file_without_them(first: bool, tmp_path: Path) -> None:
    onnx.save(network(first=first), tmp_path / "idle.onnx")
    onnx.save(models.plain(), tmp_path / "plain.onnx")
    there, without = (open_model(tmp_path / name) for name in ("idle.onnx", "plain.onnx"))
    assert there.identity.inputs == without.identity.inputs
    measured = set()
    for detector in load([]):
        try:
            found, expected = (
                detector.measure(Subject(model=model, settings=Settings(classes=(0,))))
                for model in (there, without)
            )
        except (NoImagesError, NoHeadError):
            continue
        assert found.statistic == expected.statistic
        assert found.by_class == expected.by_class
        measured.add(detector.rule.id)
    assert measured >= {"neural_cleanse", "mm_bd", "integrity", "invariance", "not-the-file"}


def test_it_answers_as_the_file_does_whatever_they_hold() -> None:
    model = network()
    shape = [d.dim_value or 2 for d in model.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    feeds = {model.graph.input[0].name: image}
    before = ort.InferenceSession(model.SerializeToString())
    answers = [
        before.run(None, feeds | {"folded": np.full((1, 1, 1, 3), value, np.float32)})[0]
        for value in (0, np.nan)
    ]
    assert drop(model, required_inputs(model.graph)) == ("folded",)
    after = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]
    for answer in answers:
        np.testing.assert_array_equal(after, answer)


def test_an_input_that_a_branch_reads_stays(tmp_path: Path) -> None:
    model = network()
    inside = helper.make_node("Identity", ["folded"], ["inner"])
    branch = helper.make_graph(
        [inside], "branch", [], [helper.make_empty_tensor_value_info("inner")]
    )
    choose = helper.make_node("If", ["always"], ["chosen"], then_branch=branch, else_branch=branch)
    model.graph.node.append(choose)
    assert not drop(model, required_inputs(model.graph))
    onnx.save(model, tmp_path / "branch.onnx")
    with pytest.raises(UnsupportedModelError, match="2 required inputs"):
        probes.image_shape(open_model(tmp_path / "branch.onnx"), Settings())


def test_an_input_that_is_an_output_stays() -> None:
    model = network()
    model.graph.output.append(idle())
    assert not drop(model, required_inputs(model.graph))


def test_nothing_is_left_out_where_nothing_is_read() -> None:
    model = helper.make_model(helper.make_graph([], "empty", [idle("a"), idle("b")], []))
    assert not drop(model, required_inputs(model.graph))
    assert [value.name for value in model.graph.input] == ["a", "b"]
