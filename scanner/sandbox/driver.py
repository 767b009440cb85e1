"""NVIDIA's driver: it is started before a process gives up its rights.

Afterwards it does not start: on an H100 in a virtual machine `cuInit` failed within the isolation,
whichever single part of it was left out (`python -m benchmarks.confined_cuda`). Nothing hostile has
been read by then, and a process whose driver finds no GPU gives up as much as any other.
"""

import ctypes
import functools
import sys
from typing import NamedTuple

LIBRARY = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_NAME = 256  # bytes of a device's name


class Answer(NamedTuple):
    """What the driver answers when it is started.

    Attributes:
        error: 0, or the number of its error; 0 too where there is no driver.
        devices: Names of the GPUs that it finds.
    """

    error: int
    devices: tuple[str, ...]


@functools.cache
def start() -> Answer:
    """Start the driver for this process, and ask it for its devices.

    Source: CUDA driver API, sections 6.2 (initialisation) and 6.5 (device management).
    """
    try:
        library = ctypes.CDLL(LIBRARY[sys.platform])
        if error := library.cuInit(0):
            return Answer(error, ())
    except (KeyError, OSError, AttributeError):
        return Answer(0, ())
    count, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME)
    library.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for number in range(count.value):
        library.cuDeviceGetName(name, _NAME, number)
        names.append(name.value.decode("utf-8", "replace"))
    return Answer(0, tuple(names))
