"""Guards refuse what endangers the machine, and let pass what is only strange."""

import sys
import time
from collections.abc import Callable

import models
import onnx
import pytest
from hostile import attacks
from onnx import helper

from scanner.errors import MalformedModelError, UnsafeModelError
from scanner.limits import Limits
from scanner.modelfile.guards import check_cost, check_structure

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


def test_every_limit_is_adjustable() -> None:
    check(attacks.endless_loop(10**8), Limits(trips=10**8))
    check(attacks.constant_of_shape_1e12(), Limits(memory=10**13))
    check_structure(attacks.function_chain(40), Limits(depth=50))
    with pytest.raises(UnsafeModelError, match="raise the setting `nodes`"):
        check_structure(models.plain(), Limits(nodes=4))
    with pytest.raises(UnsafeModelError, match="raise the setting `depth`"):
        check_structure(attacks.function_chain(40), Limits(depth=39))


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
