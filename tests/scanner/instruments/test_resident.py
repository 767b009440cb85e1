"""A state that stays where it is: buffers, two ways between them, captured or not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from scanner.errors import DeviceError, ScannerError, UnsupportedModelError, WorkerLimitError
from scanner.graph.gradient.step_graphs import Place
from scanner.instruments import resident, runtime
from scanner.settings import Device

PLACES = {
    "sum": Place(read="sum", shape=(2, 3), written="next sum"),
    "step": Place(read="step", shape=(3,)),
    "start": Place(read="start", shape=(2, 3), dtype="int64"),
}
START = np.arange(6).reshape(2, 3)


def adding() -> bytes:
    """Return a step graph: sum <- sum + step + start."""
    nodes = [
        helper.make_node("Cast", ["start"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["sum", "step"], ["part"]),
        helper.make_node("Add", ["part", "floats"], ["next sum"]),
    ]
    inputs = [
        helper.make_tensor_value_info(
            p.read, helper.np_dtype_to_tensor_dtype(np.dtype(p.dtype)), p.shape
        )
        for p in PLACES.values()
    ]
    output = helper.make_tensor_value_info("next sum", TensorProto.FLOAT, (2, 3))
    graph = helper.make_graph(nodes, "adding", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def opened(seats: int = 1) -> resident.Bench:
    return resident.opened(adding(), PLACES, {"start": START}, seats, (Device.CPU, 1))


def begin(seat: resident.Seat, step: float) -> None:
    seat.write("sum", np.zeros((2, 3)))
    seat.write("step", np.full(3, step))


@given(steps=st.integers(0, 5), more=st.integers(0, 5))
def test_a_step_starts_from_what_the_last_one_left(steps: int, more: int) -> None:
    (seat,) = opened().seats
    begin(seat, 0.5)
    for count in (steps, more):
        for _ in range(count):
            seat.step()
        seat.write("sum", seat.read("sum"))
    np.testing.assert_array_equal(seat.read("sum"), (steps + more) * (0.5 + START))


def test_seats_share_what_is_the_same_and_nothing_else() -> None:
    one, other = opened(2).seats
    begin(one, 1)
    begin(other, 2)
    one.step()
    other.step()
    other.step()
    np.testing.assert_array_equal(one.read("sum"), 1 + START)
    np.testing.assert_array_equal(other.read("sum"), 2 * (2 + START))
    assert one.state == ["sum"]


def test_what_is_read_is_a_copy() -> None:
    (seat,) = opened().seats
    begin(seat, 1)
    before = seat.read("sum")
    seat.step()
    seat.step()
    np.testing.assert_array_equal(before, np.zeros((2, 3)))


def test_nothing_is_allocated_between_two_steps() -> None:
    """What CUDA captures holds addresses."""
    (seat,) = opened().seats
    addresses = [held.value.data_ptr() for one in seat._sets for held in one.values()]
    begin(seat, 1)
    for _ in range(3):
        seat.step()
    seat.write("sum", np.ones((2, 3)))
    assert addresses == [held.value.data_ptr() for one in seat._sets for held in one.values()]
    first, second = ({n: b.value.data_ptr() for n, b in one.items()} for one in seat._sets)
    assert first["sum"] != second["sum"]
    assert first["step"] == second["step"]


def test_each_way_of_each_seat_is_captured_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seats, seen = opened(2).seats, list[tuple[int, int]]()

    def noted(_: runtime.Session, binding: onnxruntime.IOBinding, graph: int) -> None:
        seen.append((id(binding), graph))

    monkeypatch.setattr(runtime.Session, "run_bound", noted)
    for _ in range(4):
        for seat in seats:
            seat.step()
    assert sorted({graph for _, graph in seen}) == [1, 2, 3, 4]
    assert len(set(seen)) == 4, "a binding keeps its number"


@pytest.mark.parametrize("kind", [DeviceError, UnsupportedModelError, WorkerLimitError])
def test_what_cannot_be_captured_runs_without(
    kind: type[ScannerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA, simulated by the CPU's provider."""
    asked, plain = list[bool](), runtime.open_session

    def refusing(data: bytes, _device: Device, threads: int, *, captured: bool) -> runtime.Session:
        asked.append(captured)
        if captured:
            raise kind("there is control flow", remedy="")
        return plain(data, Device.CPU, threads)

    monkeypatch.setattr(runtime, "open_session", refusing)
    monkeypatch.setattr(runtime, "resolve_device", lambda device: device)
    bench = resident.opened(adding(), PLACES, {"start": START}, 1, (Device.CUDA, 1))
    assert asked == [True, False]
    begin(bench.seats[0], 1)
    bench.seats[0].step()
    np.testing.assert_array_equal(bench.seats[0].read("sum"), 1 + START)


def test_a_capture_that_fails_as_it_runs_is_made_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: Callable[[resident.Bench], resident.Bench] = resident._tried
    benches = list[Any]()

    def failing(bench: resident.Bench) -> resident.Bench:
        benches.append(bench)
        if len(benches) == 1:
            raise UnsupportedModelError("an operator synchronises", remedy="")
        return tried(bench)

    def on_the_cpu(
        data: bytes, _device: Device, threads: int, *, captured: bool
    ) -> runtime.Session:
        assert captured == (not benches)
        return plain(data, Device.CPU, threads)

    plain = runtime.open_session
    monkeypatch.setattr(resident, "_tried", failing)
    monkeypatch.setattr(runtime, "open_session", on_the_cpu)
    monkeypatch.setattr(runtime, "resolve_device", lambda device: device)
    found = resident.opened(adding(), PLACES, {"start": START}, 1, (Device.CUDA, 1))
    assert found is benches[1]
