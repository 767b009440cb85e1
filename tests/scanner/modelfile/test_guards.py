"""Guards refuse what endangers the machine, and let pass what is only strange."""

import sys
import time
from collections.abc import Callable

import models
import numpy as np
import onnx
import pytest
from hostile import attacks
from onnx import TensorProto, helper, numpy_helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.guards import check_cost, check_structure, data_bytes, scalar, tensors

LIMITS = Limits()


def check(model: onnx.ModelProto, limits: Limits = LIMITS) -> None:
    check_structure(model, limits)
    check_cost(model, limits)


@pytest.mark.parametrize("build", models.MEASURABLE.values(), ids=models.MEASURABLE)
def test_every_measurable_model_passes(build: Callable[[bool], onnx.ModelProto]) -> None:
    check(build(False))


@pytest.mark.parametrize("build", attacks.REFUSED.values(), ids=attacks.REFUSED)
def test_an_attack_on_the_machine_is_refused_before_it_runs(
    build: Callable[[], onnx.ModelProto],
) -> None:
    model = build()
    start = time.monotonic()
    with pytest.raises(
        UnsafeModelError, match=r"raise the setting|do not use|do not run|without model-local"
    ):
        check(model)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "name", ["dims_beyond_the_data", "negative_dims", "cycle", "produced_twice"]
)
def test_what_no_runtime_could_load_is_malformed(name: str) -> None:
    with pytest.raises(MalformedModelError):
        check(attacks.MALFORMED[name]())


def test_two_value_fields_pass_for_a_detector_to_report() -> None:
    model = models.plain()
    model.graph.initializer[0].float_data.extend([1.0, 2.0])
    check(model)


@pytest.mark.parametrize(
    "name", ["custom_operator", "hostile_names", "memory_at_run_time", "endless_loop_in_disguise"]
)
def test_what_cannot_be_told_beforehand_passes(name: str) -> None:
    check(getattr(attacks, name)())


def test_a_loop_that_the_model_ends_itself_passes() -> None:
    model = attacks.endless_loop(2**62)
    model.graph.node[0].attribute[0].g.node[0].op_type = "Not"
    check(model)
    check(attacks.endless_loop(1000))


def test_every_limit_is_adjustable() -> None:
    check(attacks.endless_loop(10**8), Limits(trips=10**8))
    check(attacks.constant_of_shape_1e12(), Limits(memory=10**13))
    check_structure(attacks.function_chain(40), Limits(depth=50))
    with pytest.raises(UnsafeModelError, match="raise the setting `nodes`"):
        check_structure(models.plain(), Limits(nodes=4))
    with pytest.raises(UnsafeModelError, match="raise the setting `depth`"):
        check_structure(attacks.function_chain(40), Limits(depth=39))


def test_nodes_out_of_order_are_no_cycle() -> None:
    model = models.plain()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    check_structure(model, LIMITS)


def test_the_work_on_a_large_graph_is_linear_in_its_nodes() -> None:
    def calls(count: int) -> int:
        model = models.plain()
        chain = (
            onnx.NodeProto(op_type="Relu", input=[f"r{i - 1}"], output=[f"r{i}"])
            for i in range(1, count)
        )
        model.graph.node.extend(
            [onnx.NodeProto(op_type="Relu", input=["image"], output=["r0"]), *chain]
        )
        made = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            check_structure(model, LIMITS)
        finally:
            sys.setprofile(None)
        return made

    calls(100)  # what is done once in a process
    assert calls(4_000) < 5 * calls(1_000)


# Six-bit floats are stored packed or not; readers take both.
SIZED = [
    n
    for n, _ in TensorProto.DataType.items()
    if n not in ("UNDEFINED", "STRING") and not n.startswith("FLOAT6")
]


@pytest.mark.parametrize("name", SIZED)
def test_the_size_of_a_tensor_is_that_of_its_data(name: str) -> None:
    dtype = TensorProto.DataType.Value(name)
    made = helper.make_tensor("t", dtype, [5], [0, 1, 0, 1, 0])
    assert data_bytes(made) is not None
    model = models.plain()
    model.graph.initializer.append(made)
    check_structure(model, LIMITS)
    raw = TensorProto(name="raw", dims=[5], data_type=dtype, raw_data=bytes(data_bytes(made) or 0))
    model.graph.initializer.append(raw)
    check_structure(model, LIMITS)
    raw.dims[0] = 500
    model.graph.initializer[-1].CopyFrom(raw)
    with pytest.raises(MalformedModelError, match="declares"):
        check_structure(model, LIMITS)


def test_an_unknown_element_type_is_malformed() -> None:
    model = models.plain()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(MalformedModelError, match="unknown element type"):
        check_structure(model, LIMITS)


@pytest.mark.parametrize("version", [-1, 2**31, 2**62])
def test_an_operator_set_that_no_reader_can_hold_is_malformed(version: int) -> None:
    model = models.plain()
    model.opset_import[0].version = version
    with pytest.raises(MalformedModelError, match="operator set"):
        check_structure(model, LIMITS)


def test_names_that_are_no_text_are_refused() -> None:
    data = models.plain().SerializeToString().replace(b"activated", b"activ\xff\xfeed")
    model = onnx.ModelProto()
    model.ParseFromString(data)
    with pytest.raises(UnsafeModelError, match="not text"):
        check_structure(model, LIMITS)


@pytest.mark.parametrize("operator", ["If", "Loop", "Scan"])
def test_control_flow_without_bodies_is_malformed(operator: str) -> None:
    model = models.plain()
    model.graph.node.append(helper.make_node(operator, ["image"], ["out"]))
    with pytest.raises(MalformedModelError, match="bodies"):
        check_structure(model, LIMITS)


def test_every_tensor_of_a_model_is_found() -> None:
    model = models.branch_relu()
    model.functions.add(name="f", domain="d").node.add(op_type="Constant").attribute.add(
        name="value",
        type=onnx.AttributeProto.TENSOR,
        t=numpy_helper.from_array(np.zeros(1), "in a function"),
    )
    names = {tensor.name for tensor in tensors(model)}
    assert {"kernel", "bias", "dense", "in a function"} <= names


def test_a_scalar_is_one_real_number_of_this_file() -> None:
    number = numpy_helper.from_array(np.array([2.5], np.float16))
    assert scalar(number) == 2.5
    number.data_location = TensorProto.EXTERNAL
    assert scalar(number) is None
    assert scalar(numpy_helper.from_array(np.zeros(2))) is None
    assert scalar(numpy_helper.from_array(np.array(1j))) is None
    assert scalar(None) is None
