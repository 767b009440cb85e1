"""What a process that reads hostile files gives up: resources, privileges, files and network.

`confine` is called once, in the child, after its imports and before the first hostile byte. Linux
can take everything away; on other systems and older kernels less is given up, and `current` says
what really was.
"""

import _thread
import os
import re
import site
import sys
from collections.abc import Sequence
from pathlib import Path

from scanner.errors import DeviceError
from scanner.limits import Allowance, Confinement
from scanner.sandbox import driver, landlock, linux, namespaces, seccomp

# Bytes; the child writes nothing but its error output, to a file that the parent opened.
_WRITTEN = 2**20
_DESCRIPTORS = 512
_UNUSED_USERS, _USERS = 0x7FFF0000, 0x10000  # user ids that no system gives to anybody
_COUNTS_IN_NAMESPACES = (5, 14)  # the Linux that counts a user's threads in each namespace
_READ_ANY = 1 << 2  # CAP_DAC_READ_SEARCH
_CPU_GRACE = 5  # seconds; the wall clock should be the first to end a slow scan
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _SIGKILL = 1, 38, 9

# What native libraries read at run time: the loader's own files, processor topology, time zone,
# random numbers.
_SYSTEM = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda",
    "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/proc/self/maps",
    "/proc/self/stat", "/proc/self/statm", "/proc/self/status", "/proc/self/fd", "/proc/cpuinfo",
    "/proc/meminfo", "/sys/devices", "/sys/bus/pci", "/dev/urandom", "/dev/null",
)  # fmt: skip
# Nobody knows all that the driver reads of /proc/self, so all of it: net/tcp and mountinfo too.
_CUDA_FILES = (
    "/proc/self", "/proc/driver/nvidia", "/proc/sys/vm/mmap_min_addr", "/sys/module/nvidia",
)  # fmt: skip
_CUDA_DEVICES = ("nvidia", "nvhost", "nvmap", "dxg")  # PCs, Jetson boards, WSL


_current = Confinement()


def current() -> Confinement:
    """Return what this process has given up."""
    return _current


def require() -> None:
    """Refuse to go on where something of the isolation is missing.

    Raises:
        DeviceError: This process has not given up all that it should.
    """
    if missing := _current.missing():
        raise DeviceError(
            f"the isolation that was required is not complete: {', '.join(missing)}",
            remedy="give the setting `device` the value 'cpu' if CUDA is open, scan on a machine "
            "that offers the rest, or turn off the setting `require_isolation`",
        )


def confine(allowance: Allowance) -> None:
    """Give up everything that a call does not need, unless it says not to; this cannot be undone.

    Landlock and seccomp bind the calling thread and those it starts later, so no other thread may
    be running yet.
    """
    global _current  # noqa: PLW0603 - the state is the process's own, and is written once
    on_linux = sys.platform == "linux"
    devices = _cuda_devices() if allowance.cuda else ()
    if allowance.unconfined:
        watched = "parent" if on_linux else "nothing"
        _current = Confinement(memory=watched, threads=watched, cuda=bool(devices))
        return
    readable = {*allowance.readable, *_own_files()}
    limits = _limit_resources(allowance, kernel_holds_memory=not devices)
    own = () if devices else namespaces.enter()
    hidden = "mount" in own and namespaces.hide_processes()
    own_account = not devices and _take_own_account(own)
    capabilities = _drop_capabilities(allowance.readable)
    die_with_parent()  # a process that changes its credentials has to ask for this once more
    no_new_privs = on_linux and linux.control_process(_PR_SET_NO_NEW_PRIVS, 1)
    restricted = landlock.restrict(
        {*readable, *_SYSTEM, *(_CUDA_FILES if devices else ())}, devices
    )
    filtered = seccomp.refuse(cuda=bool(devices))
    counted = own_account and _limit_threads(allowance.most_threads)
    _current = Confinement(
        limits=limits,
        memory="kernel" if "memory" in limits else "parent" if on_linux else "nothing",
        threads="kernel" if counted else "parent" if on_linux else "nothing",
        no_new_privs=no_new_privs,
        capabilities=capabilities,
        landlock=restricted,
        seccomp=filtered,
        namespaces=own,
        processes_hidden=hidden,
        cuda=bool(devices),
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


def _take_own_account(entered: Sequence[str]) -> bool:
    """Become a user whose threads the kernel counts apart; return whether that worked.

    Root takes a real user id that nobody has; the effective one, which decides about files, stays.
    For others it takes a user namespace of their own.
    """
    if sys.platform != "linux":
        return False
    if os.geteuid() != 0:
        kernel = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
        return kernel >= _COUNTS_IN_NAMESPACES and "user" in entered
    try:
        os.setresuid(_UNUSED_USERS + os.getpid() % _USERS, -1, -1)
    except OSError:  # root of a container that has no such user, or without the right
        return False
    return True


def _drop_capabilities(readable: Sequence[str]) -> str:
    """Give up every capability, and say what is left (`Confinement.capabilities`).

    Root may read files of others that are closed to everyone else. Where a model is one of them,
    this right stays; Landlock still confines it to the folders that were named.
    """
    if sys.platform != "linux":
        return "kept"
    had, kept = linux.capabilities(), 0
    if os.geteuid() == 0 and linux.set_capabilities(usable=0, kept=had):
        kept = 0 if all(map(_opens, readable)) else _READ_ANY & had
        linux.set_capabilities(usable=had, kept=had)
    linux.empty_bounding_set(kept)
    if not linux.set_capabilities(usable=kept, kept=kept):
        return "kept"
    return "read" if kept else "none"


def _opens(path: str) -> bool:
    """Whether this process may read a file, or all files of a folder; true of what is gone."""
    try:
        with os.scandir(path) as entries:
            return all(_readable(entry.path) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return _readable(path)
    except PermissionError:
        return False


def _readable(path: str) -> bool:
    return os.access(path, os.R_OK, effective_ids=True) or not os.path.lexists(path)


def _limit_threads(most: int) -> bool:
    """Let the kernel refuse more threads than `most`; return whether it does.

    The kernel counts all threads of a user, and not at all for root: so a limit that no thread may
    pass has to stop one, and the wanted limit has to let one start. Only then does it hold.
    """
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, hard))
    unlimited = _starts_thread()
    resource.setrlimit(resource.RLIMIT_NPROC, (most, hard))
    if unlimited or not _starts_thread():
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))
        return False
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    return True


def _starts_thread() -> bool:
    ended = _thread.allocate_lock()
    ended.acquire()
    try:
        _thread.start_new_thread(ended.release, ())
    except RuntimeError:
        return False
    ended.acquire()
    return True


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
    """Return the device files of CUDA, if its driver starts and finds a GPU."""
    if sys.platform != "linux":
        return ()
    files = tuple(
        str(path) for path in Path("/dev").iterdir() if path.name.startswith(_CUDA_DEVICES)
    )
    return files if files and driver.start().devices else ()
