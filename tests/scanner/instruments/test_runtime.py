"""ONNX Runtime behind one door: devices, sessions, and its errors as the scanner's own."""

import os
import sys
import weakref
from importlib import metadata

import models
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state

from scanner.errors import DeviceError, ScannerError, UnsupportedModelError, WorkerLimitError
from scanner.instruments import runtime
from scanner.modelfile import held, tensor_sizes
from scanner.sandbox import driver
from scanner.settings import Device

IMAGES = np.random.default_rng(0).random((2, 1, models.SIDE, models.SIDE), dtype=np.float32)


def opened(optimise: bool = True) -> runtime.Session:
    data = models.plain().SerializeToString()
    return runtime.open_session(data, Device.CPU, 1, optimise=optimise)


def test_a_session_says_what_it_takes_and_what_runs_it() -> None:
    session = opened()
    assert (session.provider, session.threads) == ("CPU", 1)
    assert (session.input_name, session.input_shape) == ("image", ("N", 1, 8, 8))
    assert session.dtype == np.float32


@pytest.mark.parametrize(
    ("asked", "size", "expected"),
    [(0, 4 << 20, 6), (0, (4 << 20) - 1, 1), (3, 1, 3), (1, 1 << 30, 1)],
)
def test_as_many_threads_as_were_asked_for_or_as_pay(
    asked: int, size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: 6)
    assert runtime.threads(asked, size) == expected


@pytest.mark.parametrize(
    ("asked", "size", "expected"),
    [(0, 4 << 20, 1), (0, (4 << 20) - 1, 6), (3, 1, 1), (1, 1, 1)],
)
def test_as_many_classes_at_a_time_as_operators_leave_cores(
    asked: int, size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cores", lambda: 6)
    assert runtime.at_once(asked, size) == expected


def test_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= runtime.cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert runtime.cores() == 1


def test_a_large_model_gives_memory_back_and_answers_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (kept,) = opened().run(IMAGES)
    monkeypatch.setattr(runtime, "LARGE", 1)
    session = opened()
    assert session.lean
    for _ in range(2):
        np.testing.assert_array_equal(session.run(IMAGES)[0], kept)


def test_later_a_small_session_is_the_same_and_a_large_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = opened()
    assert runtime.later(small, opened)() is small
    monkeypatch.setattr(runtime, "LARGE", 1)
    large = opened()
    again = runtime.later(large, opened)
    gone = weakref.ref(large)
    del large
    assert gone() is None, "what is loaded again later is not held until then"
    np.testing.assert_array_equal(again().run(IMAGES)[0], small.run(IMAGES)[0])


def test_no_number_of_threads_is_left_to_onnx_runtime() -> None:
    data = models.plain().SerializeToString()
    assert runtime.open_session(data, Device.CPU, 0).threads == 1


def test_it_runs_as_onnx_runtime_does() -> None:
    data = models.plain().SerializeToString()
    plain = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (expected,) = plain.run(None, {"image": IMAGES})
    for session in (opened(), opened(optimise=False)):
        (logits,) = session.run(IMAGES)
        np.testing.assert_allclose(logits, expected, rtol=1e-5)
        np.testing.assert_array_equal(session.feed({"image": IMAGES}, ["logits"])[0], logits)


def test_a_model_without_inputs_is_opened() -> None:
    node = helper.make_node("Constant", [], ["logits"], value_float=1.0)
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [])
    model = helper.make_model(
        helper.make_graph([node], "constant", [], [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    session = runtime.open_session(model.SerializeToString(), Device.CPU, 1)
    assert (session.input_name, session.input_shape) == ("", ())
    assert session.feed({}) == [1.0]


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="ONNX Runtime refuses the model"):
        runtime.open_session(b"no model", Device.CPU, 1)


def test_a_model_that_fails_when_it_runs() -> None:
    with pytest.raises(UnsupportedModelError, match="the model fails when it runs"):
        opened().run(IMAGES[:, :, :5])


@pytest.mark.parametrize(
    ("said", "kind", "remedy"),
    [
        ("std::bad_alloc", WorkerLimitError, "raise the setting `memory`"),
        ("Failed to allocate memory for requested buffer", WorkerLimitError, "raise the setting"),
        ("a node is odd\nat line 3", UnsupportedModelError, "check that it runs"),
        ("", UnsupportedModelError, "check that it runs"),
    ],
)
def test_its_errors_become_ours(said: str, kind: type[ScannerError], remedy: str) -> None:
    with (
        pytest.raises(kind, match=remedy) as caught,
        runtime._translated("the model fails when it runs"),
    ):
        raise onnxruntime_pybind11_state.RuntimeException(said)
    assert "at line 3" not in str(caught.value)


@pytest.mark.parametrize(
    ("devices", "asked", "chosen"),
    [
        ((), Device.CPU, Device.CPU),
        ((), Device.AUTO, Device.CPU),
        (("NVIDIA 0",), Device.CPU, Device.CPU),
        (("NVIDIA 0",), Device.AUTO, Device.CUDA),
        (("NVIDIA 0",), Device.CUDA, Device.CUDA),
    ],
)
def test_the_device_that_is_meant(
    devices: tuple[str, ...], asked: Device, chosen: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "cuda_devices", lambda: devices)
    assert runtime.resolve_device(asked) is chosen


def test_cuda_where_there_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cuda_devices", tuple)
    with pytest.raises(DeviceError, match=r"no CUDA device is usable: CUDA is not in this"):
        runtime.resolve_device(Device.CUDA)


def test_what_fails_to_load_is_caught_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build for CUDA without libraries, simulated: ONNX Runtime prints what it cannot load."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    said = "Failed to load libcufft.so.12: not found\n"
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: sys.stdout.write(said))
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: {"onnxruntime-gpu": "1.32.0"})
    monkeypatch.setattr(runtime, "_unloadable", lambda _: None)
    runtime._preload.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r"do not load: libcufft\.so\.12 \(not found\)"):
            runtime.resolve_device(Device.CUDA)
    finally:
        runtime._preload.cache_clear()
    assert capsys.readouterr().out == ""


def test_a_library_that_is_not_there_is_said_to_be_missing() -> None:
    missing = runtime._unloadable({sys.platform: "libnosuch.so.1"})
    assert missing is not None
    assert "libnosuch" in missing
    assert runtime._unloadable({}) is None


def test_a_cuda_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime goes on with the CPU alone; a scan must not take that for CUDA."""
    monkeypatch.setitem(runtime.PROVIDERS, Device.CUDA, "NoSuchExecutionProvider")
    monkeypatch.setattr(runtime, "resolve_device", lambda _: Device.CUDA)

    def on_the_cpu(*arguments: object, **_: object) -> onnxruntime.InferenceSession:
        return plain(*arguments, providers=["CPUExecutionProvider"])

    plain = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", on_the_cpu)
    with pytest.raises(DeviceError, match="could not start its CUDA provider"):
        runtime.open_session(models.plain().SerializeToString(), Device.CUDA, 1)


@pytest.mark.parametrize("captured", [False, True])
def test_cuda_multiplies_in_full_precision_and_captures_where_it_is_asked_to(
    captured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session for CUDA, simulated: what ONNX Runtime would be given."""
    monkeypatch.setattr(runtime, "resolve_device", lambda _: Device.CUDA)
    given, plain = list[object](), onnxruntime.InferenceSession

    class Cuda:
        def __init__(self, data: bytes, options: object, providers: object) -> None:
            given.append(providers)
            self._real = plain(data, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider", "CPUExecutionProvider"]

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Cuda)
    data = models.plain().SerializeToString()
    session = runtime.open_session(data, Device.CUDA, 1, captured=captured)
    assert session.provider == "CUDA"
    expected = {
        "use_tf32": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        **({"enable_cuda_graph": "1"} if captured else {}),
    }
    assert given == [[("CUDAExecutionProvider", expected), "CPUExecutionProvider"]]


def test_a_run_with_bound_buffers_is_the_same_run_and_its_errors_are_ours() -> None:
    session = opened()
    (expected,) = session.run(IMAGES)
    image, logits = session.buffer(IMAGES.shape, "float32"), session.buffer((2, 3), "float32")
    image.write(IMAGES)
    session.run_bound(session.binding({"image": image}, {"logits": logits}), 1)
    np.testing.assert_array_equal(logits.read(), expected)
    with pytest.raises(UnsupportedModelError, match="the model fails when it runs"):
        session.run_bound(session.native.io_binding(), 1)


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_a_buffer_keeps_its_type_and_gives_copies(dtype: str) -> None:
    held = opened().buffer((2,), dtype)
    before = held.read()
    np.testing.assert_array_equal(before, [0, 0])
    held.write(np.array([1.0, 2.0]))
    assert held.read().dtype == before.dtype == dtype
    np.testing.assert_array_equal(before, [0, 0])
    np.testing.assert_array_equal(held.read(), [1, 2])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float", np.float32), ("double", np.float64), ("float16", np.float16), ("uint8", np.uint8)],
)
def test_types_by_name(name: str, dtype: type[np.generic]) -> None:
    assert runtime.numpy_dtype(f"tensor({name})") == dtype


@pytest.mark.parametrize("name", ["tensor(float8e4m3fnuz)", "seq(tensor(float))"])
def test_a_type_that_numpy_lacks_is_refused(name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="the model's input is of type"):
        runtime.numpy_dtype(name)


def test_versions_are_those_of_the_installed_packages() -> None:
    names = ("overactivation", "onnx", "numpy")
    expected = {name: metadata.version(name) for name in names}
    assert runtime.versions() == {**expected, "onnxruntime": onnxruntime.__version__}


def test_the_installed_runtimes_have_their_versions() -> None:
    found = runtime.installed_runtimes()
    assert found
    assert found == {name: metadata.version(name) for name in found}


@pytest.mark.parametrize(("value", "enabled"), [("1", False), ("0", True)])
def test_the_switch_of_telemetry(
    value: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not runtime.telemetry_enabled(), "the import itself must have switched it off"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", value)
    assert runtime.telemetry_enabled() is enabled


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("name", models.MEASURABLE)
def test_weights_beside_a_model_are_run_where_they_are(
    name: str, optimise: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ONNX Runtime folds and fuses, it answers as it does where they lie inside."""
    model = models.MEASURABLE[name](False)
    usual = runtime.open_session(model.SerializeToString(), Device.CPU, 1, optimise=optimise)
    monkeypatch.setattr(held, "LEAST", 16)
    for tensor in model.graph.initializer:
        if held.can_be(tensor, tensor_sizes.data_bytes(tensor)):
            held.put(tensor, numpy_helper.to_array(tensor).copy())
    session = runtime.open_session(model.SerializeToString(), Device.CPU, 1, optimise=optimise)
    assert session.lean
    assert session.beside
    size = session.input_shape[0]
    count = size if isinstance(size, int) else 2
    shape = [count, *(n if isinstance(n, int) else models.SIDE for n in session.input_shape[1:])]
    batch = np.random.default_rng(0).random(shape).astype(session.dtype)
    for found, wanted in zip(session.run(batch), usual.run(batch), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_devices_count_where_a_small_model_runs_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(driver, "start", lambda: driver.Answer(0, ("a card",)))
    monkeypatch.setattr(runtime, "_preload", str)
    monkeypatch.setattr(runtime, "_unloadable", lambda _: None)
    monkeypatch.setattr(runtime, "_trial", str)
    assert runtime.cuda_devices() == ("a card",)
    monkeypatch.setattr(runtime, "_trial", lambda: "no right")
    assert runtime.cuda_devices() == ()
    with pytest.raises(DeviceError, match=r"no model runs on the GPU .* \(no right\); for models"):
        runtime.resolve_device(Device.CUDA)
    monkeypatch.setattr(runtime, "_trial", str)
    monkeypatch.setattr(runtime, "_unloadable", lambda _: "no cuDNN")
    assert runtime.cuda_devices() == ()
    monkeypatch.setattr(runtime, "_preload", lambda: "Failed to load libcufft.so.12: not found\n")
    monkeypatch.setattr(runtime, "_unloadable", lambda _: None)
    assert runtime.cuda_devices() == ()


def test_the_trial_is_a_model_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU's provider in place of CUDA's, then with what may go wrong."""
    cpu = runtime.PROVIDERS[Device.CPU]
    monkeypatch.setitem(runtime.PROVIDERS, Device.CUDA, cpu)
    monkeypatch.setattr(runtime, "_providers", lambda *_, **__: [cpu])
    assert not runtime._trial.__wrapped__()
    monkeypatch.setitem(runtime.PROVIDERS, Device.CUDA, "CUDAExecutionProvider")
    assert runtime._trial.__wrapped__() == "ONNX Runtime's CUDA provider does not start"

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no right\nat line 3")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    assert runtime._trial.__wrapped__() == "no right"


def test_eight_bits_do_not_overflow() -> None:
    """The largest products that there are, which overflow where a processor has no VNNI."""
    constants: dict[str, np.ndarray] = {
        "scale": np.array(1 / 255, np.float32),
        "zero": np.array(0, np.uint8),
        "fine": np.array(0.01, np.float32),
        "even": np.array(0, np.int8),
        "weights": np.full((64, 4), 127, np.int8),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "scale", "zero"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero"], ["values"]),
        helper.make_node("DequantizeLinear", ["weights", "fine", "even"], ["matrix"]),
        helper.make_node("MatMul", ["values", "matrix"], ["logits"]),
    ]
    model = models.build(nodes, constants, input_shape=("N", 1, 8, 8), output="logits")
    session = runtime.open_session(model.SerializeToString(), Device.CPU, 1)
    (logits,) = session.run(np.ones((2, 1, 8, 8), np.float32))
    np.testing.assert_allclose(logits, np.full((2, 4), 64 * 1.27), rtol=1e-3)


@pytest.mark.parametrize("operator", ["QLinearMatMul", "QGemm"])
def test_where_overflow_cannot_be_kept_off_the_model_runs_all_the_same(operator: str) -> None:
    """For matrices of int8 on both sides ONNX Runtime has no kernel then."""
    constants: dict[str, np.ndarray] = {
        "scale": np.array(0.1, np.float32),
        "zero": np.array(0, np.int8),
        "weights": 127 * np.eye(64, 4, dtype=np.int8),
    }
    read, of = ["codes", "scale", "zero"], ["weights", "scale", "zero"]
    last = ["scale", "zero"] if operator == "QLinearMatMul" else ["", "scale", "zero"]
    domain = "" if operator == "QLinearMatMul" else "com.microsoft"
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "scale", "zero"], ["codes"]),
        helper.make_node(operator, [*read, *of, *last], ["product"], domain=domain),
        helper.make_node("DequantizeLinear", ["product", "scale", "zero"], ["logits"]),
    ]
    model = models.build(nodes, constants, input_shape=("N", 1, 8, 8), output="logits")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    session = runtime.open_session(model.SerializeToString(), Device.CPU, 1)
    (logits,) = session.run(np.ones((2, 1, 8, 8), np.float32))
    np.testing.assert_allclose(logits, np.full((2, 4), 12.7), rtol=1e-5)


def test_weights_of_eight_bits_with_two_readers_are_run() -> None:
    """As exporters write equal gains of two layers; ONNX Runtime 1.32 names its copies alike."""
    constants: dict[str, np.ndarray] = {
        "codes": np.full(64, 127, np.int8),
        "scale": np.array(1 / 127, np.float32),
        "zero": np.array(0, np.int8),
        "bias": np.zeros(64, np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["gain"]),
        helper.make_node("LayerNormalization", ["flat", "gain", "bias"], ["first"]),
        helper.make_node("LayerNormalization", ["first", "gain", "bias"], ["logits"]),
    ]
    model = models.build(nodes, constants, input_shape=("N", 1, 8, 8), output="logits")
    session = runtime.open_session(model.SerializeToString(), Device.CPU, 1)
    images = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    (logits,) = session.run(images)
    flat = images.reshape(2, 64)
    normal = (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)
    np.testing.assert_allclose(logits, normal, atol=1e-3)
