"""What the optimiser fused is written out, and computes the same in ONNX Runtime."""

from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from scanner.graph.core.fused import unfused

RNG = np.random.default_rng(5)
OF_CONV: dict[str, list[float]] = {
    "Relu": [], "Sigmoid": [], "Tanh": [], "LeakyRelu": [0.2], "Clip": [-0.1, 0.3],
    "HardSigmoid": [0.3, 0.4],
}  # fmt: skip
OF_GEMM: dict[str, dict[str, float]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "Softsign": {},
    "LeakyRelu": {"activation_alpha": 0.2}, "Elu": {"activation_alpha": 0.7},
    "HardSigmoid": {"activation_alpha": 0.3, "activation_beta": 0.4},
}  # fmt: skip


def answers(model: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = np.random.default_rng(1).normal(0, 1, (2, 1, 8, 8)).astype(np.float32)
    return np.asarray(session.run(None, {"image": image})[0])


def fused_convolution(kind: str, *, with_sum: bool = False, opset: int = 17) -> onnx.ModelProto:
    fused = helper.make_node(
        "FusedConv", ["image", "kernel", "bias"], ["activated"], "fused", domain="com.microsoft",
        pads=[1, 1, 1, 1], activation=kind,
    )  # fmt: skip
    if OF_CONV.get(kind):
        fused.attribute.append(helper.make_attribute("activation_params", OF_CONV[kind]))
    constants = models.weights(planted=False)
    if with_sum:
        fused.input.append("image")
        constants["kernel"], constants["bias"] = constants["kernel"][:1], constants["bias"][:1]
    nodes = [fused, helper.make_node("Identity", ["activated"], ["logits"])]
    used = {name: constants[name] for name in ("kernel", "bias")}
    domains = [helper.make_opsetid("com.microsoft", 1)]
    return models.build(nodes, used, domains=domains, opset=opset)


@pytest.mark.parametrize("opset", [9, 17])
@pytest.mark.parametrize("kind", sorted(OF_CONV))
def test_a_fused_convolution_is_two_nodes(kind: str, opset: int) -> None:
    model = fused_convolution(kind, opset=opset)
    flat = unfused(model)
    assert [node.op_type for node in flat.graph.node] == ["Conv", kind, "Identity"]
    assert flat.graph.node[0].name == "fused"
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-5, atol=1e-6)


def test_what_is_added_before_the_activation_is_kept() -> None:
    model = fused_convolution("Relu", with_sum=True)
    flat = unfused(model)
    assert [node.op_type for node in flat.graph.node][:3] == ["Conv", "Add", "Relu"]
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(OF_GEMM))
def test_a_fused_dense_layer_is_two_nodes(kind: str) -> None:
    dense = RNG.normal(0, 0.3, (3, 64)).astype(np.float32)
    bias = RNG.normal(0, 1, 3).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node(
            "FusedGemm", ["flat", "dense", "bias"], ["logits"], domain="com.microsoft",
            transB=1, alpha=0.5, activation=kind,
        ),
    ]  # fmt: skip
    nodes[1].attribute.extend(helper.make_attribute(n, v) for n, v in OF_GEMM[kind].items())
    domains = [helper.make_opsetid("com.microsoft", 1)]
    model = models.build(nodes, {"dense": dense, "bias": bias}, domains=domains)
    flat = unfused(model)
    assert [node.op_type for node in flat.graph.node] == ["Flatten", "Gemm", kind]
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-5, atol=1e-6)


SIZE, HEADS = 8, 2
MATRIX = RNG.normal(0, 0.5, (8, 24)).astype(np.float32)
OFFSET = RNG.normal(0, 0.5, 24).astype(np.float32)
ROW = RNG.normal(0, 0.5, 8).astype(np.float32)
BLOCKS: dict[str, tuple[list[str], dict[str, object], list[str]]] = {
    # By case: inputs behind the first, attributes, and the operators that it stands for.
    "Gelu": ([], {}, ["Div", "Erf", "Add", "Mul", "Mul"]),
    "BiasGelu": (["row"], {}, ["Add", "Div", "Erf", "Add", "Mul", "Mul"]),
    "FastGelu": (["row"], {}, ["Add", *["Mul"] * 3, "Add", "Mul", "Tanh", "Add", *["Mul"] * 2]),
    "FastGelu bare": ([], {}, [*["Mul"] * 3, "Add", "Mul", "Tanh", "Add", *["Mul"] * 2]),
    "QuickGelu": ([], {"alpha": 1.5}, ["Mul", "Sigmoid", "Mul"]),
    "FusedMatMul": (["matrix"], {}, ["MatMul"]),
    "FusedMatMul scaled": (
        ["rows"], {"alpha": 0.3, "transA": 1, "transB": 1},
        ["Transpose", "Transpose", "MatMul", "Mul"],
    ),
    "SkipLayerNormalization": (["rows", "row", "row"], {}, ["Add", "LayerNormalization"]),
    "SkipLayerNormalization bias": (
        ["rows", "row", "row", "row"], {"epsilon": 0.01}, ["Add", "Add", "LayerNormalization"],
    ),
    "Attention": (["matrix", "offset"], {"num_heads": HEADS}, []),
    "Attention bare": (["matrix"], {"num_heads": HEADS, "scale": 0.2}, []),
    "MultiHeadAttention": (["rows", "rows"], {"num_heads": HEADS}, []),
    "MultiHeadAttention bias": (
        ["rows", "rows", "offset"], {"num_heads": HEADS, "scale": 0.7}, [],
    ),
}  # fmt: skip


def block(case: str, dtype: type = np.float32) -> onnx.ModelProto:
    """Return a fused operator on (images, 8, 8), with its result normalised and added up."""
    inputs, attributes, _ = BLOCKS[case]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    operator = case.split(maxsplit=1)[0]
    node = helper.make_node(operator, ["rows", *inputs], ["mixed"], domain="com.microsoft")
    node.attribute.extend(helper.make_attribute(*held) for held in attributes.items())
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["rows"], to=kind),
        node,
        helper.make_node("Cast", ["mixed"], ["logits"], to=onnx.TensorProto.FLOAT),
    ]
    constants: dict[str, np.ndarray] = {"shape": np.array([-1, SIZE, SIZE])}
    named = {"matrix": MATRIX, "offset": OFFSET, "row": ROW}
    constants |= {name: named[name].astype(dtype) for name in inputs if name in named}
    domains = [helper.make_opsetid("com.microsoft", 1)]
    model = models.build(nodes, constants, domains=domains)
    model.graph.value_info.append(helper.make_tensor_value_info("rows", kind, ["N", SIZE, SIZE]))
    return model


@pytest.mark.parametrize("case", BLOCKS)
def test_a_fused_block_computes_the_same_written_out(case: str) -> None:
    model = block(case)
    flat = unfused(model)
    assert {node.domain for node in flat.graph.node} == {""}
    kinds = [node.op_type for node in flat.graph.node][2:-1]
    assert kinds == (BLOCKS[case][2] or kinds)
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-4, atol=1e-5)


def test_constants_have_the_type_of_what_they_meet() -> None:
    flat = unfused(block("QuickGelu", np.float16))
    assert flat.graph.initializer[-1].data_type == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize("claimed", [99, onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED])
def test_a_type_that_is_none_is_not_believed(claimed: int) -> None:
    model = block("QuickGelu")
    model.graph.value_info[0].type.tensor_type.elem_type = claimed
    assert unfused(model).graph.initializer[-1].data_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("Attention", {"unidirectional": 1}),
        ("Attention", {"num_heads": 0}),
        ("Attention", {"num_heads": 99}),
        ("Attention", {"qkv_hidden_sizes": [8, 8, 8]}),
        ("FusedMatMul", {"transBatchA": 1}),
        ("MultiHeadAttention", {"num_heads": -1}),
        ("MultiHeadAttention", {"unidirectional": 1}),
    ],
)
def test_a_block_in_a_form_that_is_not_known_stays(case: str, change: dict[str, object]) -> None:
    model = block(case)
    node = model.graph.node[2]
    kept = [held for held in node.attribute if held.name not in change]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(n, v) for n, v in change.items())])
    assert unfused(model).graph.node[2] == node


@pytest.mark.parametrize("case", BLOCKS)
def test_a_block_of_which_nothing_is_told_stays_or_is_right(case: str) -> None:
    model = block(case)
    del model.graph.value_info[:]
    flat = unfused(model)
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-4, atol=1e-5)
    node = model.graph.node[2]
    del node.input[:]
    assert unfused(model).graph.node[2] == node


@pytest.mark.parametrize(
    ("opset", "kinds"), [(11, ["FusedMatMul"]), (12, ["Einsum", "Einsum", "MatMul", "Mul"])]
)
def test_a_matrix_of_unknown_rank_is_transposed(opset: int, kinds: list[str]) -> None:
    model = block("FusedMatMul scaled")
    del model.graph.value_info[:]
    model.opset_import[0].version = opset
    flat = unfused(model)
    made = [node.op_type for node in flat.graph.node][2:-1]
    assert made == kinds
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-4, atol=1e-5)


def test_the_sum_behind_a_norm_is_told_on() -> None:
    model = block("SkipLayerNormalization bias")
    model.graph.node[2].output.extend(["", "", "sum"])
    model.graph.node[3].input[0] = "sum"
    flat = unfused(model)
    np.testing.assert_allclose(answers(flat), answers(model), rtol=1e-5, atol=1e-6)


def test_a_file_that_the_optimiser_saved(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    extended = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = extended
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    plain = models.plain()
    onnxruntime.InferenceSession(plain.SerializeToString(), options)
    saved = onnx.load(tmp_path / "optimised.onnx")
    assert "FusedConv" in [node.op_type for node in saved.graph.node]
    flat = unfused(saved)
    assert {node.domain for node in flat.graph.node} == {""}
    np.testing.assert_allclose(answers(flat), answers(plain), rtol=1e-5, atol=1e-6)


def test_a_form_that_is_not_known_stays() -> None:
    model = fused_convolution("Mish")
    assert unfused(model).graph.node[0] == model.graph.node[0]
    model = fused_convolution("Clip")
    model.graph.node[0].attribute[-1].floats.append(1.0)
    assert unfused(model).graph.node[0] == model.graph.node[0]


def test_a_name_that_is_taken_is_not_given_again() -> None:
    model = fused_convolution("Relu")
    model.graph.node.append(helper.make_node("Identity", ["image"], ["activated/Conv"]))
    assert unfused(model).graph.node[0] == model.graph.node[0]


def test_a_model_without_fused_layers_is_itself() -> None:
    model = models.plain()
    assert unfused(model) is model


def test_constants_of_the_file_are_kept() -> None:
    model = fused_convolution("Clip")
    names = [tensor.name for tensor in unfused(model).graph.initializer]
    assert names == ["kernel", "bias", "activated/min", "activated/max"]
    assert numpy_helper.to_array(unfused(model).graph.initializer[-1]) == np.float32(0.3)
