"""Files of operator sets 5 and 6 are measured as the same network in set 7."""

from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import triggered
from onnx import TensorProto, helper, numpy_helper

from scanner.detectors.mm_bd import MmBd
from scanner.detectors.translation import Translation
from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.modelfile.model import open_model
from scanner.modelfile.older_sets import raise_set

Array = npt.NDArray[Any]

GENERATOR = np.random.default_rng(0)
NODE = helper.make_node
IMAGES = GENERATOR.random((3, 2, 6, 6), dtype=np.float32)
STATISTICS = {
    name: GENERATOR.uniform(0.5, 2, 4).astype(np.float32)
    for name in ("scale", "shift", "mean", "variance")
}
CONSTANTS: dict[str, Array] = {
    "centre": np.array([0.3, 0.6], np.float32),
    "kernel": GENERATOR.standard_normal((4, 2, 3, 3)).astype(np.float32),
    "slope": GENERATOR.uniform(0, 1, 4).astype(np.float32),
    **STATISTICS,
    "flat": np.array([-1, 4]),
    "dense": GENERATOR.standard_normal((4, 5)).astype(np.float32),
    "bias": GENERATOR.standard_normal(5).astype(np.float32),
}


def network(opset: int) -> onnx.ModelProto:
    """Return a small convolutional network as exporters of the time wrote it."""
    old, older = opset < 7, opset < 6

    def made(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        names = inputs.split()
        if older and kind not in {"Conv", "MaxPool", "GlobalAveragePool", "Reshape", "Softmax"}:
            attributes["consumed_inputs"] = [0] * len(names)
        return NODE(kind, names, [output], output, **attributes)

    repeated: dict[str, Any] = {"broadcast": 1} if old else {}
    inference: dict[str, Any] = {"is_test": 1} if old else {}
    constants = dict(CONSTANTS)
    if not old:  # what set 7 repeats, it repeats from the right
        constants["centre"] = constants["centre"].reshape(2, 1, 1)
        constants["slope"] = constants["slope"].reshape(4, 1, 1)
    nodes = [
        made("Sub", "image centre", "centred", **({"axis": 1, **repeated} if old else {})),
        made("Conv", "centred kernel", "convolved", pads=[1, 1, 1, 1]),
        made("BatchNormalization", f"convolved {' '.join(STATISTICS)}", "normal", **inference),
        made("PRelu", "normal slope", "activated"),
        made("Dropout", "activated", "kept", **inference),
        made("MaxPool", "kept", "smaller", kernel_shape=[2, 2], strides=[2, 2]),
        made("GlobalAveragePool", "smaller", "pooled"),
        made("Reshape", "pooled flat", "row"),
        made("Gemm", "row dense bias", "scores", **repeated),
        made("Softmax", "scores", "logits"),
    ]
    return with_inputs(nodes, constants, opset)


def with_inputs(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], opset: int
) -> onnx.ModelProto:
    """Assemble a file of IR version 3, in which constants are inputs too."""
    model = models.build(nodes, constants, opset=opset, ir_version=3, input_shape=("N", 2, 6, 6))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", 1, ["N", 5]))
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return model


def answers(model: onnx.ModelProto, images: Array = IMAGES) -> Array:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


@pytest.mark.parametrize("opset", [5, 6])
def test_a_network_answers_as_in_set_7(opset: int) -> None:
    model = network(opset)
    assert raise_set(model)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(answers(model), answers(network(7)), rtol=1e-5)


@pytest.mark.parametrize("opset", range(5, 19))
def test_a_network_of_every_set_is_searched(opset: int, tmp_path: Path) -> None:
    model = network(opset)
    if opset > 7:
        model = onnx.version_converter.convert_version(fixed(network(7)), opset)
    subject = triggered.subject(model, tmp_path)
    measured = MmBd().measure(subject)
    expected = MmBd().measure(triggered.subject(network(7), tmp_path))
    assert measured.statistic == pytest.approx(expected.statistic, rel=1e-3)
    assert subject.model.identity.opset == opset
    codes = [o.code for o in Translation().measure(subject).observations]
    assert codes == (["not-its-bytes"] if opset < 7 else [])


def fixed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of a fixed batch, which onnx's converter asks for."""
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def test_other_forms_that_changed() -> None:
    nodes = [
        NODE("Cast", ["image"], ["wide"], to="DOUBLE"),
        NODE("Cast", ["wide"], ["narrow"], to="FLOAT"),
        NODE("Tile", ["narrow", "twice", "across"], ["tiled"]),
        NODE("Upsample", ["tiled"], ["large"], height_scale=2.0, width_scale=1.0, mode="nearest"),
        NODE("Add", ["large", "row"], ["sum"], broadcast=1),
        NODE("Mul", ["sum", "column"], ["logits"], broadcast=1, axis=-2),
    ]
    constants: dict[str, Array] = {
        "twice": np.array([2], np.float32),
        "across": np.array([3], np.float32),
        "row": np.arange(12, dtype=np.float32),
        "column": np.arange(12, dtype=np.float32),
    }
    model = with_inputs(nodes, constants, 5)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].CopyFrom(helper.make_empty_tensor_value_info("logits"))
    raise_set(model)
    tiled = np.tile(IMAGES, (1, 1, 1, 2)).repeat(2, axis=2)
    expected = (tiled + constants["row"]) * constants["column"][:, None]
    np.testing.assert_allclose(answers(model), expected, rtol=1e-6)


def test_a_model_of_set_7_is_left_alone() -> None:
    model = network(7)
    before = model.SerializeToString()
    assert not raise_set(model)
    assert model.SerializeToString() == before


def test_a_file_that_is_too_old_is_refused(tmp_path: Path) -> None:
    model = network(5)
    model.opset_import[0].version = 4
    with pytest.raises(UnsupportedModelError, match="operator set 4, older than 5"):
        open_model(models.save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("nodes", "error", "reason"),
    [
        (
            [NODE("BatchNormalization", ["image", *STATISTICS], ["logits"], "norm")],
            UnsupportedModelError,
            "'norm' normalises by the batch",
        ),
        (
            [NODE("Cast", ["image"], ["logits"], "cast", to="NUMBER")],
            MalformedModelError,
            "Cast node 'cast' do not fit",
        ),
        (
            [NODE("Reshape", ["image", "centre"], ["open"]),
             NODE("Add", ["open", "centre"], ["logits"], "sum", broadcast=1, axis=1)],
            UnsupportedModelError,
            "how the Add node 'sum' repeats 'centre'",
        ),
        (
            [NODE("If", ["image"], ["logits"], then_branch=helper.make_graph([], "b", [], []))],
            UnsupportedModelError,
            "branches or loops",
        ),
    ],
    ids=["training", "type", "rank", "branch"],
)  # fmt: skip
def test_what_has_no_equivalent_is_refused(
    nodes: list[onnx.NodeProto], error: type[Exception], reason: str
) -> None:
    model = with_inputs(nodes, CONSTANTS, 5)
    with pytest.raises(error, match=reason):
        raise_set(model)


def test_numbers_of_another_file_are_not_touched() -> None:
    model = network(6)
    kept = {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer}
    raise_set(model)
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in model.graph.initializer} == kept
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
