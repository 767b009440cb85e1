"""Whether there is room in memory for what a detector does, asked before it is begun.

Where memory ends inside of protobuf or ONNX Runtime, the process may die, and with it all that was
measured. What a detector takes can be told from the model: so many times its weights, which are
copied to cut, to differentiate and to load a graph, and what one image takes of it.

What counts is what the limit counts: private writable memory.
"""

import functools
import gc
import math
import os
import re
import sys
from pathlib import Path

from scanner.errors import NoRoomError
from scanner.instruments import runtime
from scanner.instruments.detector import Detector, Needs
from scanner.limits import MIB
from scanner.modelfile.model import Model
from scanner.settings import Device, Settings

_DATA = 5  # field of /proc/self/statm: private writable pages, which the limit counts
_SIZES = re.compile(r"^Vm(Peak|Size|Data):\s+(\d+) kB$", re.MULTILINE)
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_LIBRARIES = 32 * MIB  # bytes of those that a detector may be the first to need
_BYTES = 4  # of a number in a gradient graph


def check(detector: Detector, model: Model, settings: Settings) -> None:
    """Refuse a detector for which the memory that is allowed does not suffice.

    On a CUDA device nothing is predicted. What needs images, and has none, begins nothing.

    Args:
        detector: Which.
        model: The model.
        settings: The limit, and the device.

    Raises:
        NoRoomError: It does not.
    """
    if Needs.IMAGES in detector.needs and not settings.has_images:
        return
    if runtime.resolve_device(settings.device) is not Device.CPU:
        return
    if (expected(detector, model) or 0) > settings.limits.memory:
        gc.collect()  # what holds itself in a ring is still in memory
    refuse(expected(detector, model), settings)


def expected(detector: Detector, model: Model) -> int | None:
    """Return the bytes that the process holds at the most while a detector runs.

    None where the system does not tell what it holds now.
    """
    before = held()
    if before is None:
        return None
    image = one_image(model) if Needs.GRADIENTS in detector.needs else 0
    return before + _LIBRARIES + copied(model, detector.copies) + image


def refuse(needed: int | None, settings: Settings) -> None:
    """Refuse what takes more memory than is allowed; None stands for what is not known.

    Raises:
        NoRoomError: It does.
    """
    allowed = settings.limits.memory
    if needed is not None and needed > allowed:
        raise NoRoomError(
            f"a model of this size takes about {needed / MIB:,.0f} MiB of memory here, and "
            f"{allowed / MIB:,.0f} MiB are allowed",
            remedy="raise the setting `memory`",
        )


def copied(model: Model, times: float) -> int:
    """Return the bytes of so many copies of a model's weights; those held outside stay one."""
    inside = len(model.data)
    outside = model.size - inside
    if outside and model.is_held:
        return int(times * inside) + outside
    return int(times * model.size)


@functools.lru_cache(maxsize=1)
def one_image(model: Model) -> int:
    """Return the bytes that a gradient step keeps of one image, at the least.

    These are the results of layers with weights, as far as shape inference tells their sizes.
    """
    from scanner.graph.core import shapes  # noqa: PLC0415 - onnx, which a scan can often do without

    types = shapes.value_types(model.proto)
    made = (n.output[0] for n in model.proto.graph.node if n.op_type in _WEIGHTED and n.output)
    sizes = (types[name].shape[1:] for name in made if name in types)
    known = (math.prod(map(int, size)) for size in sizes if all(isinstance(n, int) for n in size))
    return _BYTES * sum(known)


def held() -> int | None:
    """Return how many bytes of private writable memory this process has."""
    if sys.platform != "linux":
        return None
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return int(fields[_DATA]) * os.sysconf("SC_PAGE_SIZE")


def highest() -> int | None:
    """Return the most bytes that it ever had, as far as what it maps besides has not changed."""
    if sys.platform != "linux":
        return None
    found = _SIZES.findall(Path("/proc/self/status").read_text(encoding="ascii", errors="replace"))
    sizes = {name: int(size) << 10 for name, size in found}
    if sizes.keys() != {"Peak", "Size", "Data"}:
        return None
    return sizes["Data"] + sizes["Peak"] - sizes["Size"]
