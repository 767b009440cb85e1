"""ONNX Runtime: devices, sessions, arrays in, arrays out."""

import contextlib
import ctypes
import dataclasses
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# ONNX Runtime 1.29 and later report home by default; the variable counts only before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

from scanner.errors import DeviceError, UnsupportedModelError, WorkerLimitError
from scanner.instruments import cuda
from scanner.sandbox import deadline, driver
from scanner.settings import Device
from scanner.values import frozen

try:
    import onnxruntime
    from onnxruntime.capi import build_and_package_info
    from onnxruntime.capi import onnxruntime_pybind11_state as native
except ImportError as error:
    raise DeviceError(
        f"ONNX Runtime cannot be loaded ({error})",
        remedy="install it with pip install 'overactivation[cpu]', or 'overactivation[gpu]' for "
        "CUDA",
    ) from error

Array = npt.NDArray[Any]

PROVIDERS = {Device.CPU: "CPUExecutionProvider", Device.CUDA: "CUDAExecutionProvider"}
_CUDNN = {"linux": "libcudnn.so.9", "win32": "cudnn64_9.dll"}
_ERRORS = (
    native.EPFail, native.Fail, native.InvalidArgument, native.InvalidGraph, native.InvalidProtobuf,
    native.ModelLoadCanceled, native.NotImplemented, native.RuntimeException, UnicodeDecodeError,
    RuntimeError,  # as which whatever fails comes back from a run with bound buffers
)  # fmt: skip
_NO_MEMORY = ("bad allocation", "bad_alloc", "Failed to allocate memory")
# Bytes of a model that more threads than one make faster, and whose memory counts.
LARGE = 4 << 20
_SAME_AS_REQUESTED = 1
# A lean session shares memory with others, all but its weights, which are given back as it ends.
_LEAN = ("session.use_env_allocators", "session.use_device_allocator_for_initializers")
_PRECISION = "session.x64quantprecision"
# It then has no kernel for int8 on both sides, and gives the copies of a constant with several
# readers one name. The file is run as users run it: without fusing, it might hide what fusing does.
_NO_PRECISION = ("NOT_IMPLEMENTED", "Attempt to replace the existing tensor")
_FATAL = 4  # the log level: failures come back as exceptions, so nothing need be printed


@frozen
class Session:
    """A model ready to run.

    Attributes:
        native: ONNX Runtime's session.
        provider: The execution provider that really runs it, without its suffix: "CPU" or "CUDA".
        threads: Intra-operator threads.
        input_name: Its one required input.
        input_shape: That input's shape; an open dimension is a string or None.
        dtype: That input's dtype.
        lean: Whether memory is given back after each run. ONNX Runtime would keep it.
        idle: Values for inputs that nothing reads, and ONNX Runtime demands all the same.
        beside: Weights that the model's bytes refer to, kept as long as the session.
    """

    native: onnxruntime.InferenceSession
    provider: str
    threads: int
    input_name: str
    input_shape: tuple[int | str | None, ...]
    dtype: np.dtype[np.generic]
    lean: bool = False
    idle: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    beside: tuple[onnxruntime.OrtValue, ...] = ()

    def run(self, batch: Array, outputs: Sequence[str] | None = None) -> list[Array]:
        """Run one batch and return the outputs, all of them by default.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on it.
        """
        return self.feed({**self.idle, self.input_name: batch}, outputs)

    def with_zeros(self, idle: Sequence[str]) -> "Session":
        """Return the session with zeros for inputs that nothing reads."""
        inputs = {value.name: value for value in self.native.get_inputs()}
        zeros = {
            name: np.zeros(
                [size if isinstance(size, int) else 1 for size in inputs[name].shape],
                numpy_dtype(inputs[name].type),
            )
            for name in idle
            if name in inputs
        }
        image = next(value for name, value in inputs.items() if name not in zeros)
        return dataclasses.replace(
            self,
            input_name=image.name,
            input_shape=tuple(image.shape),
            dtype=numpy_dtype(image.type),
            idle=zeros,
        )

    def feed(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """Run with several named inputs.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on them.
        """
        options = onnxruntime.RunOptions()
        if self.lean:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        with _stoppable(options):
            results: list[Array] = self.native.run(outputs, dict(feeds), options)
        return results

    def buffer(self, shape: Sequence[int], dtype: str) -> "Buffer":
        """Return zeros in the memory of the provider, at an address that stays."""
        return Buffer(shape, np.dtype(dtype), self.provider.lower())

    def binding(
        self, inputs: "Mapping[str, Buffer]", outputs: "Mapping[str, Buffer]"
    ) -> onnxruntime.IOBinding:
        """Return what lets a run read and write buffers, by the names of inputs and outputs."""
        binding = self.native.io_binding()
        for name, held in inputs.items():
            binding.bind_ortvalue_input(name, held.value)
        for name, held in outputs.items():
            binding.bind_ortvalue_output(name, held.value)
        return binding

    def run_bound(self, binding: onnxruntime.IOBinding, graph: int) -> None:
        """Run with inputs and outputs where they are bound.

        Args:
            binding: Names them.
            graph: A number of its own for each binding: what CUDA captures of a run holds the
                addresses of its buffers.

        Raises:
            UnsupportedModelError: ONNX Runtime fails on them.
        """
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        with _stoppable(options):
            self.native.run_with_iobinding(binding, options)


class Buffer:
    """A tensor in the memory of a device, at an address that stays.

    Args:
        shape: Of the tensor.
        dtype: Of the tensor.
        device: ONNX Runtime's name of the device: "cpu" or "cuda".
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any], device: str) -> None:
        self.dtype = dtype
        made = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.value = made(list(shape), dtype, device, 0)
        self.write(np.zeros(shape, dtype))

    def read(self) -> Array:
        """Return a copy on the host."""
        return np.array(self.value.numpy())

    def write(self, array: Array) -> None:
        """Copy an array of the same shape from the host."""
        self.value.update_inplace(np.ascontiguousarray(array, self.dtype))


@contextlib.contextmanager
def _stoppable(options: onnxruntime.RunOptions) -> Iterator[None]:
    with (
        deadline.stopping(lambda: setattr(options, "terminate", True)),
        _translated("the model fails when it runs"),
    ):
        yield


def open_session(
    data: bytes, device: Device, threads: int, *, optimise: bool = True, captured: bool = False
) -> Session:
    """Load a serialised model that names no external data.

    Weights that are held in memory are handed over beside it (`scanner.modelfile.held`).

    Args:
        data: The model.
        device: Where it runs.
        threads: Of ONNX Runtime, within an operator.
        optimise: Without it the model runs node by node, as it is written.
        captured: Whether CUDA captures a run as a CUDA graph, and replays it from then on. The
            sizes and addresses of inputs and outputs must then stay (`Session.run_bound`).

    Raises:
        DeviceError: CUDA was asked for and is not usable.
        UnsupportedModelError: ONNX Runtime refuses the model.
    """
    chosen = resolve_device(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads)
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    beside = _handed_over(data, options, chosen)
    lean = (bool(beside) or len(data) >= LARGE) and chosen is Device.CPU
    if lean:
        _as_requested()
        for entry in _LEAN:
            options.add_session_config_entry(entry, "1")
    # A spinning thread buys microseconds here and costs a core of somebody else's machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = _providers(chosen, captured=captured)
    cancel = functools.partial(options.set_load_cancellation_flag, True)
    with deadline.stopping(cancel), _translated("ONNX Runtime refuses the model"):
        session = _started(data, options, providers)
    if PROVIDERS[chosen] not in session.get_providers():
        raise _no_cuda("ONNX Runtime could not start its CUDA provider", seen=True)
    first = session.get_inputs()[0] if session.get_inputs() else None
    return Session(
        native=session,
        provider=chosen.value.upper(),
        threads=max(1, threads),
        input_name=first.name if first else "",
        input_shape=tuple(first.shape) if first else (),
        dtype=numpy_dtype(first.type) if first else np.dtype(np.float32),
        lean=lean,
        beside=beside,
    )


def _started(
    data: bytes, options: onnxruntime.SessionOptions, providers: Sequence[Any]
) -> onnxruntime.InferenceSession:
    """Start a session in which no product of 8 bits overflows, where ONNX Runtime can.

    On processors without VNNI they do by default, and a file would answer by the processor.
    """
    options.add_session_config_entry(_PRECISION, "1")
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:
        if not any(reason in str(error) for reason in _NO_PRECISION):
            raise
        options.add_session_config_entry(_PRECISION, "0")
        return onnxruntime.InferenceSession(data, options, providers=providers)


def _handed_over(
    data: bytes, options: onnxruntime.SessionOptions, device: Device
) -> tuple[onnxruntime.OrtValue, ...]:
    """Hand over the weights that a model refers to."""
    if "scanner.modelfile.held" not in sys.modules:
        return ()  # nothing is held, and onnx need not be imported
    from scanner.modelfile import held  # noqa: PLC0415 - as above

    arrays = held.beside(data)
    values = tuple(map(onnxruntime.OrtValue.ortvalue_from_numpy, arrays.values()))
    if not values:
        return ()
    # Said twice: the first lets it load the graph, the second lets it run on the numbers where they
    # are. Without, each session has a copy of its own, and with prepacking another.
    options.add_external_initializers(list(arrays), list(values))
    for name, value in zip(arrays, values, strict=True) if device is Device.CPU else ():
        options.add_initializer(name, value)
    options.add_session_config_entry("session.disable_prepacking", "1")
    return values


@functools.cache
def _as_requested() -> None:
    """Have large models share memory that is asked for as it is needed.

    Each session's own would ask for pieces that double: for up to twice as much as a step needs,
    and for how much hangs on what ran before.
    """
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        onnxruntime.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED}),
    )


def _providers(device: Device, *, captured: bool) -> list[Any]:
    """Return the providers of a device, with their options."""
    if device is Device.CPU:
        return [PROVIDERS[device]]
    options = {
        # Numbers cut to 10 bits of mantissa would give products a thousandth off the CPU's.
        "use_tf32": "0",
        # By default each new shape has all algorithms tried and timed, and the last digits hang on
        # which was fastest.
        "cudnn_conv_algo_search": "HEURISTIC",
        **({"enable_cuda_graph": "1"} if captured else {}),
    }
    return [(PROVIDERS[device], options), PROVIDERS[Device.CPU]]


def later(session: Session, load: Callable[[], Session]) -> Callable[[], Session]:
    """Return what gives a session once more, later.

    A small one is kept for that. A large one is loaded again: what it holds is needed by others in
    between.

    Args:
        session: The session.
        load: Loads it again; holds no more than what is in memory anyway.
    """
    return load if session.lean else lambda: session


def threads(asked: int, size: int) -> int:
    """Return how many threads run a model.

    Args:
        asked: As many; 0 takes one per core where they pay.
        size: Bytes of the model: the operators of a small one end sooner than threads begin.
    """
    if asked:
        return asked
    return cores() if size >= LARGE else 1


def at_once(asked: int, size: int) -> int:
    """Return how many classes of a model are searched at a time, each in a thread of its own.

    Args:
        asked: Threads that the user asked for, as in `threads`: who names a number gets no more.
        size: Bytes of the model: the operators of a large one have all cores to themselves.
    """
    return cores() if not asked and threads(asked, size) == 1 else 1


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_device(device: Device) -> Device:
    """Return `CPU` or `CUDA`: what `AUTO` means here, or what was asked for.

    Raises:
        DeviceError: CUDA was asked for and is not usable.
    """
    if device is Device.CPU:
        return device
    usable = cuda_devices()
    if device is Device.CUDA and not usable:
        raise _no_cuda("no CUDA device is usable")
    return Device.CUDA if usable else Device.CPU


def cuda_devices() -> tuple[str, ...]:
    """Return the names of the CUDA devices that are usable; a provider's name alone proves nothing.

    The driver is asked, not ONNX Runtime's own list of devices: that is made from what the system
    shows of graphics cards, and is empty in virtual machines whose GPU is handed through. Then a
    small graph has to run: a process that has given up its rights may lack one that CUDA needs.
    """
    if PROVIDERS[Device.CUDA] not in onnxruntime.get_available_providers():
        return ()
    if cuda.failed_libraries(_preload()) or _unloadable(_CUDNN) is not None:
        return ()
    devices = driver.start().devices
    return () if devices and _trial() else devices


@functools.cache
def _trial() -> str:
    """Return what ONNX Runtime says where a small graph does not run on CUDA; else nothing."""
    from scanner.graph.core import trial  # noqa: PLC0415 - for those that have a GPU

    options, ones = onnxruntime.SessionOptions(), np.ones(trial.SHAPE, np.float32)
    options.log_severity_level, options.intra_op_num_threads = _FATAL, 1
    providers = _providers(Device.CUDA, captured=False)
    # ONNX Runtime prints that a provider does not start, and goes on without it.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            session = onnxruntime.InferenceSession(trial.model(), options, providers=providers)
            session.run(None, {"x": ones, "w": ones})
        except _ERRORS as error:
            return str(error).partition("\n")[0]
    started = PROVIDERS[Device.CUDA] in session.get_providers()
    return "" if started else "ONNX Runtime's CUDA provider does not start"


@functools.cache
def _preload() -> str:
    """Load CUDA's libraries, and return what ONNX Runtime prints of those that do not load."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls()
    return printed.getvalue()


def cuda_facts() -> cuda.Facts:
    """Return what bears on CUDA in this installation."""
    built = PROVIDERS[Device.CUDA] in onnxruntime.get_available_providers()
    if not built:
        return cuda.Facts(runtimes=installed_runtimes(), built=False)
    return cuda.Facts(
        runtimes=installed_runtimes(),
        built=True,
        version=str(getattr(build_and_package_info, "cuda_version", "") or ""),
        printed=_preload(),
        driver=_unloadable(driver.LIBRARY),
        cudnn=_unloadable(_CUDNN),
        error=driver.start().error,
        trial=_trial() if driver.start().devices else "",
    )


def _unloadable(names: Mapping[str, str]) -> str | None:
    """Return why this platform's library of several cannot be loaded; None where it can be."""
    name = names.get(sys.platform)
    if name is None:
        return None
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return None


def versions() -> dict[str, str]:
    """Return the versions of the packages that influence a number."""
    return {
        **{name: _version(name) for name in ("overactivation", "onnx", "numpy")},
        "onnxruntime": onnxruntime.__version__,
    }


@functools.cache
def _version(name: str) -> str:
    """Return an installed package's version, from its metadata folder's name where that tells."""
    found = next((folder for folder in _metadata_folders() if folder.startswith(f"{name}-")), None)
    if found is not None:
        return found.removeprefix(f"{name}-").removesuffix(".dist-info")
    # It takes as long to import as a small model to measure.
    from importlib import metadata  # noqa: PLC0415

    return metadata.version(name)


@functools.cache
def _metadata_folders() -> tuple[str, ...]:
    """Return the names of packages' metadata folders, in the order of the module path."""
    folders = [path for path in map(Path, sys.path) if path.is_dir()]
    return tuple(
        entry.name
        for folder in folders
        for entry in os.scandir(folder)
        if entry.name.endswith(".dist-info")
    )


def installed_runtimes() -> dict[str, str]:
    """Return the installed ONNX Runtime distributions; two would overwrite each other's files."""
    from importlib import metadata  # noqa: PLC0415 - as above

    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def telemetry_enabled() -> bool:
    """Whether ONNX Runtime may report home: its own switch, read when it was imported."""
    return os.environ.get("ORT_DISABLE_TELEMETRY") != "1"


@contextlib.contextmanager
def _translated(problem: str) -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        detail = str(error).splitlines()[0].strip() if str(error) else type(error).__name__
        if any(sign in str(error) for sign in _NO_MEMORY):
            raise WorkerLimitError(
                f"{problem}: it needs more memory than is allowed ({detail})",
                remedy="raise the setting `memory` if you trust the file",
            ) from error
        raise UnsupportedModelError(
            f"{problem} ({detail})",
            remedy="check that it runs in ONNX Runtime by itself",
        ) from error


def _no_cuda(problem: str, *, seen: bool = False) -> DeviceError:
    found = cuda.obstacle(cuda_facts(), seen=seen)
    return DeviceError(f"{problem}: {found.problem}", remedy=found.remedy)


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """Translate ONNX Runtime's "tensor(float)" to NumPy."""
    names = {"float": "float32", "double": "float64"}
    inner = name.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype(names.get(inner, inner))
    except TypeError as error:
        raise UnsupportedModelError(
            f"the model's input is of type {inner!r}",
            remedy="export it with a numeric tensor input",
        ) from error
