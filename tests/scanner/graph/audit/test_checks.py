"""What a file holds besides an honest network, one attack a test."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from models import plain
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit import checks
from scanner.graph.audit.checks import audit
from scanner.results import Observation, Severity

Change = Callable[[onnx.ModelProto], None]


def changed(change: Change, path: Path = Path("model.onnx")) -> tuple[Observation, ...]:
    model = plain()
    change(model)
    return audit(model, model.SerializeToString(), path)


def test_an_honest_model_has_nothing_to_note() -> None:
    assert changed(lambda _model: None) == ()


def _two_values_that_differ(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].float_data.extend([9.0] * 36)


def _two_values_that_agree(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.float_data.extend(numpy_helper.to_array(tensor).reshape(-1).tolist())


def _two_values_of_different_kinds(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].int32_data.extend([1, 2, 3])


def _two_values_in_an_attribute(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.asarray([1.0], np.float32))
    value.float_data.append(2.0)
    model.graph.node.append(helper.make_node("Constant", [], ["spare"], name="spare", value=value))


def _repeated_initialiser(model: onnx.ModelProto) -> None:
    other = model.graph.initializer.add()
    other.CopyFrom(model.graph.initializer[0])
    other.raw_data = bytes(len(other.raw_data))


def _python(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("PythonOp", ["logits"], ["spare"], domain="com.microsoft", name="py")
    )


def _unknown_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("Secret", ["logits"], ["spare"], domain="acme.ops", name="secret")
    )


def _known_domain(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("FusedGemm", ["logits"], ["spare"], domain="com.microsoft", name="gemm")
    )


def _shadowed_operator(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("", "Relu", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )


def _unused_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(5, np.float32), "stowaway"))


def _large_unused_initialiser(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros(1 << 19, np.float32), "stowaway")
    )


def _idle_function(model: onnx.ModelProto) -> None:
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(
        helper.make_function("own", "Idle", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )


def _training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.name = "sgd"


def _metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="notes", value="x" * 70_000)


def _documentation(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = "x" * 70_000


def _outside(location: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def _overloads(model: onnx.ModelProto) -> None:
    for overload, kind in (("one", "Neg"), ("other", "Abs")):
        body = [helper.make_node(kind, ["a"], ["b"])]
        function = helper.make_function(
            "own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
        )
        function.overload = overload
        model.functions.append(function)


def _carried(model: onnx.ModelProto) -> None:
    model.graph.doc_string = "#!/bin/sh\necho carried goods\n"


def _polyglot(model: onnx.ModelProto) -> None:
    model.producer_name = "<html>"


def _long_name(model: onnx.ModelProto) -> None:
    model.graph.name = "name" * 300


def _control(model: onnx.ModelProto) -> None:
    model.producer_version = "1.0\x1b[2J"


def _stray(model: onnx.ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("gone", TensorProto.FLOAT, [1]))


def _idle_node(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["convolved"], ["spare"], name="idle"))


def _idle_constant(model: onnx.ModelProto) -> None:
    value = numpy_helper.from_array(np.ones(4, np.float32))
    model.graph.node.append(helper.make_node("Constant", [], ["spare"], name="idle", value=value))


def _unknown_program(model: onnx.ModelProto) -> None:
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0"
    model.MergeFromString(b"\xfa\x07" + bytes((len(program),)) + program)


def _future_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def _two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 9))


def _same_opset_twice(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("", 17))


def _kernel(change: Callable[[np.ndarray], None]) -> Change:
    def apply(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        array = numpy_helper.to_array(tensor).copy()
        change(array)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return apply


def _nan(array: np.ndarray) -> None:
    array[0, 0, 0, 0] = np.nan


def _infinite(array: np.ndarray) -> None:
    array[0, 0, 0, 0] = -np.inf


def _huge(array: np.ndarray) -> None:
    array[0, 0, 0, 0] = -1e9


def _flat(array: np.ndarray) -> None:
    array[:] = 0.5


def _twins(array: np.ndarray) -> None:
    array[1] = array[0]


def _one_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("custom", 1))
    model.opset_import.append(helper.make_opsetid("org.pytorch.aten", 1))


def _many_domains(model: onnx.ModelProto) -> None:
    for number in range(9):
        model.opset_import.append(helper.make_opsetid(f"x.{number}", 1))


ROWS: list[tuple[Change, str, Severity]] = [
    (_two_values_that_differ, "two-value-fields", Severity.SUSPICIOUS),
    (_two_values_that_agree, "two-value-fields", Severity.WARNING),
    (_two_values_of_different_kinds, "two-value-fields", Severity.SUSPICIOUS),
    (_two_values_in_an_attribute, "two-value-fields", Severity.SUSPICIOUS),
    (_repeated_initialiser, "repeated-initialiser", Severity.SUSPICIOUS),
    (_python, "runs-code", Severity.SUSPICIOUS),
    (_unknown_domain, "custom-operators", Severity.WARNING),
    (_known_domain, "custom-operators", Severity.NOTE),
    (_shadowed_operator, "shadowed-operator", Severity.SUSPICIOUS),
    (_unused_initialiser, "unused-initialisers", Severity.NOTE),
    (_large_unused_initialiser, "unused-initialisers", Severity.WARNING),
    (_idle_function, "unused-functions", Severity.NOTE),
    (_training, "training-info", Severity.NOTE),
    (_metadata, "large-text", Severity.NOTE),
    (_documentation, "large-text", Severity.NOTE),
    (_outside("/etc/passwd"), "external-data-outside", Severity.WARNING),
    (_outside("../weights.bin"), "external-data-outside", Severity.WARNING),
    (_future_ir, "future-version", Severity.WARNING),
    (_future_opset, "future-version", Severity.WARNING),
    (_two_opsets, "repeated-opset", Severity.WARNING),
    (_same_opset_twice, "repeated-opset", Severity.NOTE),
    (_one_domain, "unused-domains", Severity.NOTE),
    (_many_domains, "unused-domains", Severity.WARNING),
    (_overloads, "overloaded-function", Severity.WARNING),
    (_carried, "carried-data", Severity.SUSPICIOUS),
    (_polyglot, "polyglot", Severity.SUSPICIOUS),
    (_long_name, "long-text", Severity.WARNING),
    (_control, "control-characters", Severity.WARNING),
    (_stray, "stray-values", Severity.NOTE),
    (_idle_node, "idle-nodes", Severity.NOTE),
    (_idle_constant, "idle-constants", Severity.NOTE),
    (_unknown_program, "unknown-field", Severity.SUSPICIOUS),
    (_kernel(_nan), "broken-weights", Severity.WARNING),
    (_kernel(_infinite), "broken-weights", Severity.WARNING),
    (_kernel(_huge), "huge-weights", Severity.NOTE),
    (_kernel(_flat), "constant-channels", Severity.NOTE),
    (_kernel(_twins), "equal-channels", Severity.NOTE),
]


@pytest.mark.parametrize(
    ("change", "code", "severity"),
    ROWS,
    ids=[f"{c.__name__.strip('_')}-{code}" for c, code, _ in ROWS],
)
def test_it_is_noted_with_its_weight(change: Change, code: str, severity: Severity) -> None:
    found = {o.code: o.severity for o in changed(change)}
    assert found.get(code) is severity


def test_nothing_else_is_suspicious() -> None:
    for change, code, _ in ROWS:
        assert [
            o.code for o in changed(change) if o.severity >= Severity.SUSPICIOUS and o.code != code
        ] == []


@pytest.mark.parametrize("kind", ["LessOrEqual", "Clip"])
def test_a_bound_may_be_infinite(kind: str) -> None:
    def change(model: onnx.ModelProto) -> None:
        bounds = np.asarray([np.inf] * 20, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(bounds, "bounds"))
        model.graph.node.append(helper.make_node(kind, ["convolved", "bounds"], ["spare"]))

    assert "broken-weights" not in [o.code for o in changed(change)]


def test_a_tree_may_have_infinite_thresholds() -> None:
    def change(model: onnx.ModelProto) -> None:
        bounds = numpy_helper.from_array(np.asarray([np.inf] * 20, np.float32))
        model.graph.node.append(
            helper.make_node("TreeEnsemble", ["flat"], ["spare"], domain="ai.onnx.ml",
                             nodes_splits=bounds)
        )  # fmt: skip

    assert "broken-weights" not in [o.code for o in changed(change)]


def test_a_mask_may_be_minus_infinity() -> None:
    def change(model: onnx.ModelProto) -> None:
        mask = np.triu(np.full((8, 8), -np.inf, np.float32), 1)
        model.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
        model.graph.node.append(helper.make_node("Add", ["convolved", "mask"], ["spare"]))

    assert "broken-weights" not in [o.code for o in changed(change)]


def test_a_hard_link_is_somebody_elses_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(144))
    (tmp_path / "weights.bin").hardlink_to(tmp_path / "secret")
    (observation,) = changed(_outside("weights.bin"), tmp_path / "model.onnx")
    assert "hard link" in observation.sentence


def test_a_symbolic_link_is_somebody_elses_file(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").symlink_to("/etc/passwd")
    (observation,) = changed(_outside("weights.bin"), tmp_path / "model.onnx")
    assert "symbolic link" in observation.sentence


def test_data_beside_the_model_is_honest(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(144))
    assert changed(_outside("weights.bin"), tmp_path / "model.onnx") == ()


def test_bytes_after_the_model_are_noted() -> None:
    model = plain()
    (observation,) = audit(
        model, model.SerializeToString() + b"\xfa\x07\x03abc", Path("model.onnx")
    )
    assert (observation.code, observation.severity) == ("unknown-field", Severity.WARNING)


def test_a_second_graph_is_suspicious() -> None:
    model, other = plain(), onnx.ModelProto()
    other.graph.CopyFrom(plain(planted=True).graph)
    (observation,) = [
        o
        for o in audit(
            model, model.SerializeToString() + other.SerializeToString(), Path("model.onnx")
        )
        if o.severity >= Severity.SUSPICIOUS
    ]
    assert observation.code == "repeated-field"


def test_the_heaviest_comes_first() -> None:
    def several(model: onnx.ModelProto) -> None:
        _unused_initialiser(model)
        _python(model)
        _future_ir(model)

    severities = [o.severity for o in changed(several)]
    assert severities == sorted(severities, reverse=True)
    assert len(set(severities)) == 3


def test_every_code_is_explained_in_the_documentation() -> None:
    page = (Path(__file__).parents[4] / "docs" / "graph-logic.md").read_text(encoding="utf-8")
    codes = {code for _, code, _ in ROWS} | {
        "unknown-field",
        "damaged",
        "repeated-field",
        "readers-disagree",
        "replaced-bytes",
        "low-bits",
        "false-claim",
    }
    assert [code for code in sorted(codes) if f"`{code}`" not in page] == []


NUMBERS = numpy_helper.from_array(np.arange(64, dtype=np.float32), "n")
OF_EVERY_KIND: tuple[Any, ...] = (1, 0.5, "text", [1, 2], [0.5, 2.0], ["a", "b"], NUMBERS)
WITH_ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "Cast": {"to": 1},
    "Clip": {"min": 0.0, "max": 1.0},
    "Concat": {"axis": 1},
    "Constant": {"value": NUMBERS},
    "ConstantOfShape": {"value": NUMBERS},
    "Conv": {"strides": [1, 1], "pads": [0] * 4, "kernel_shape": [1, 1], "dilations": [1, 1]},
    "Gather": {"axis": 0},
    "Imputer": {"replaced_value_float": 0.0, "imputed_value_floats": [0.5]},
    "LSTM": {"hidden_size": 4, "direction": "bidirectional", "layout": 0, "activations": ["Tanh"]},
    "LabelEncoder": {"keys_int64s": [0], "values_int64s": [1], "default_int64": 0},
    "Pad": {"pads": [0] * 4, "mode": "constant", "value": 0.0},
    "SVMRegressor": {"support_vectors": [0.5], "coefficients": [1.0], "n_supports": 1},
    "Scaler": {"scale": [1.0], "offset": [0.0]},
    "Slice": {"starts": [0], "ends": [1], "axes": [0]},
    "Split": {"axis": 0, "num_outputs": 2},
    "Transpose": {"perm": [1, 0]},
    "TreeEnsembleClassifier": {
        "nodes_treeids": [0], "nodes_nodeids": [0], "nodes_modes": ["BRANCH_LEQ"],
        "nodes_featureids": [0], "nodes_truenodeids": [1], "nodes_falsenodeids": [2],
        "nodes_values": [0.5], "nodes_values_as_tensor": NUMBERS, "class_weights": [1.0],
        "class_treeids": [0], "class_nodeids": [1], "class_ids": [0],
    },
}  # fmt: skip
CLASSICAL = {"Imputer", "LabelEncoder", "SVMRegressor", "Scaler", "TreeEnsembleClassifier"}


@pytest.mark.parametrize("operator", WITH_ATTRIBUTES)
@pytest.mark.parametrize("held", OF_EVERY_KIND, ids=lambda held: type(held).__name__)
def test_attributes_of_any_kind_are_audited(operator: str, held: Any, tmp_path: Path) -> None:
    """A file is audited before anything has said that its nodes are what they should be."""
    usual = WITH_ATTRIBUTES[operator]
    domain = "ai.onnx.ml" if operator in CLASSICAL else ""
    for name in usual:
        inputs = ["n", "m"] if operator != "Constant" else []
        odd = helper.make_node(operator, inputs, ["o"], domain=domain, **{**usual, name: held})
        layer = helper.make_node("Gemm", ["o", "w"], ["y"])
        weights = numpy_helper.from_array(np.ones((64, 8), np.float32), "w")
        index = numpy_helper.from_array(np.array([0, 1], np.int64), "m")
        model = helper.make_model(
            helper.make_graph([odd, layer], "g", [], [], [NUMBERS, weights, index])
        )
        assert isinstance(audit(model, model.SerializeToString(), tmp_path), tuple)


@pytest.mark.parametrize("operator", [*WITH_ATTRIBUTES, "Less", "Where", "Gemm", "MatMul", "Sub"])
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_nodes_with_any_number_of_inputs_are_audited(
    operator: str, count: int, tmp_path: Path
) -> None:
    domain = "ai.onnx.ml" if operator in CLASSICAL else ""
    held = WITH_ATTRIBUTES.get(operator, {})
    size = helper.make_node("Size", ["n"], ["s"])
    node = helper.make_node(operator, ["s", "n", "n"][:count], ["o"], domain=domain, **held)
    graph = helper.make_graph([size, node], "g", [], [helper.make_empty_tensor_value_info("o")])
    graph.initializer.append(NUMBERS)
    model = helper.make_model(graph)
    assert isinstance(audit(model, model.SerializeToString(), tmp_path), tuple)


def test_many_names_that_are_given_twice_take_no_long_time() -> None:
    def twice(model: onnx.ModelProto) -> None:
        for number in range(6000):
            model.graph.initializer.add(name=f"t{number // 2}", data_type=1, dims=[0])

    model = plain()
    twice(model)
    before = time.process_time()
    assert len(list(checks._two_names(model, b"", Path()))) == 3000
    assert time.process_time() - before < 3


def test_what_lies_in_another_file_too_is_not_said_to_agree() -> None:
    def outside(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")

    (seen,) = changed(outside)
    assert (seen.code, seen.severity) == ("two-value-fields", Severity.SUSPICIOUS)
