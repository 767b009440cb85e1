"""What a process that reads hostile files gives up: resources, privileges, files and network.

`confine` is called once, in the child, after its imports and before the first hostile byte. Linux
can take everything away; on other systems and older kernels less is given up, and `current` says
what really was.
"""

import os
import site
import sys
from pathlib import Path

from scanner.limits import Allowance, Confinement
from scanner.sandbox import landlock, linux, seccomp

# Bytes; the child writes nothing but its error output, to a file that the parent opened.
_WRITTEN = 2**20
_DESCRIPTORS = 512
_CPU_GRACE = 5  # seconds; the wall clock should be the first to end a slow scan
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9

# What native libraries read at run time: the loader's own files, processor topology, time zone,
# random numbers.
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda",
    "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/proc/self", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/driver/nvidia", "/sys/devices", "/sys/bus/pci", "/sys/module/nvidia",
    "/dev/urandom", "/dev/null",
)  # fmt: skip
_CUDA_DEVICES = ("nvidia", "nvhost", "nvmap", "dxg")  # PCs, Jetson boards, WSL

_current = Confinement()


def current() -> Confinement:
    """Return what this process has given up."""
    return _current


def confine(allowance: Allowance) -> None:
    """Give up everything that a call does not need; this cannot be undone.

    Landlock and seccomp bind the calling thread and those it starts later, so no other thread may
    be running yet.
    """
    global _current  # noqa: PLW0603 - the state is the process's own, and is written once
    devices = _cuda_devices() if allowance.cuda else ()
    limits = _limit_resources(allowance, kernel_holds_memory=not devices)
    on_linux = sys.platform == "linux"
    _current = Confinement(
        limits=limits,
        memory="kernel" if "memory" in limits else "parent" if on_linux else "nothing",
        no_new_privs=on_linux and linux.control_process(_PR_SET_NO_NEW_PRIVS, 1),
        landlock=landlock.restrict({*allowance.readable, *_own_files(), *_SYSTEM}, devices),
        seccomp=seccomp.refuse(),
    )


def die_with_parent() -> None:
    """Have the kernel (Linux only) end this process when the thread that started it ends."""
    if sys.platform == "linux":
        linux.control_process(_PR_SET_PDEATHSIG, _SIGKILL)


def _limit_resources(allowance: Allowance, *, kernel_holds_memory: bool) -> tuple[str, ...]:
    if sys.platform == "win32":
        return ()
    import resource  # noqa: PLC0415 - not there on Windows

    seconds = int(allowance.seconds * (allowance.threads or os.cpu_count() or 1)) + _CPU_GRACE
    wanted = {
        "processor time": (resource.RLIMIT_CPU, seconds),
        "file size": (resource.RLIMIT_FSIZE, _WRITTEN),
        "descriptors": (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        "core dumps": (resource.RLIMIT_CORE, 0),
    }
    if sys.platform == "linux" and kernel_holds_memory:
        # Private writable memory: what the machine really has to provide. Address space that is
        # only reserved does not count.
        wanted["memory"] = (resource.RLIMIT_DATA, allowance.limits.memory)
    for number, value in wanted.values():
        _, hard = resource.getrlimit(number)
        lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # The signal sent at the soft limit on processor time names the cause; at the hard limit
        # the process would just be killed.
        above = 1 if number == resource.RLIMIT_CPU and lowest != hard else 0
        resource.setrlimit(number, (lowest, lowest + above))
    return tuple(wanted)


def _own_files() -> set[str]:
    """Return where this interpreter and its packages are installed."""
    return {
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
        *site.getsitepackages(),
        *filter(None, sys.path),
    } - {"/"}


def _cuda_devices() -> tuple[str, ...]:
    if sys.platform != "linux":
        return ()
    return tuple(
        str(path) for path in Path("/dev").iterdir() if path.name.startswith(_CUDA_DEVICES)
    )
