"""Linux calls that Python does not wrap. Nothing here works, or is called, on other systems."""

import ctypes
import struct
from pathlib import Path

# Fields of /proc/PID/stat, numbered as in proc(5); the first one after the program's name is 3.
_FIRST_FIELD, _ENV_START, _ENV_END = 3, 50, 51

_PR_CAPBSET_DROP = 24
_M_MMAP_THRESHOLD, _BLOCK = -3, 1 << 20
_M_TRIM_THRESHOLD, _KEPT = -1, 1 << 24
_CAPABILITY_HEADER = struct.pack("=Ii", 0x20080522, 0)  # the third version; this process
_CAPABILITY_SETS = "=6I"  # effective, permitted, inheritable: the lower halves, then the upper
_CAPABILITIES = 64  # as many as the sets have bits; the kernel knows 41


def system_call(number: int, *arguments: int | bytes | None) -> int:
    """Return what the kernel answers; -1 on failure, with the reason in `ctypes.get_errno()`."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    passed = (ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments)
    return int(call(ctypes.c_long(number), *passed))


def control_process(option: int, value: int, pointer: bytes | None = None) -> bool:
    """Call prctl(2) and return whether it succeeded."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_ulong]
    return bool(prctl(option, value, pointer, 0, 0) == 0)


def return_freed_blocks() -> None:
    """Have the C library give large blocks back to the system as soon as they are freed.

    It would keep those of up to 32 MiB for later, and they would count against the memory that is
    allowed. Of smaller ones it keeps some, which it would stop to do once a choice was made: to ask
    for one again and again costs more than to fill it. Nothing happens where the library has no
    such choice.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None:
        choose(_M_MMAP_THRESHOLD, _BLOCK)
        choose(_M_TRIM_THRESHOLD, _KEPT)


def capabilities() -> int:
    """Return the capabilities that this process may use or take up again, as a bit mask."""
    sets = ctypes.create_string_buffer(struct.calcsize(_CAPABILITY_SETS))
    if ctypes.CDLL(None, use_errno=True).capget(_CAPABILITY_HEADER, sets) != 0:
        return 0
    _, low, _, _, high, _ = struct.unpack(_CAPABILITY_SETS, sets.raw)
    return int(high << 32 | low)


def set_capabilities(*, usable: int, kept: int) -> bool:
    """Set the effective and the permitted capabilities as bit masks; return whether that worked.

    What is not permitted can never be had again.
    """
    low, high = (usable & 0xFFFFFFFF, kept & 0xFFFFFFFF), (usable >> 32, kept >> 32)
    sets = struct.pack(_CAPABILITY_SETS, *low, 0, *high, 0)
    return bool(ctypes.CDLL(None, use_errno=True).capset(_CAPABILITY_HEADER, sets) == 0)


def empty_bounding_set(kept: int) -> None:
    """Have no program that this process might start gain a capability, but those of a bit mask.

    It takes a capability to do so; where that is missing the set stays as it is.
    """
    for capability in range(_CAPABILITIES):
        dropped = kept >> capability & 1 or control_process(_PR_CAPBSET_DROP, capability)
        if not dropped:
            return


def unshare(flags: int) -> bool:
    """Enter new namespaces; return whether that worked."""
    return bool(ctypes.CDLL(None, use_errno=True).unshare(ctypes.c_int(flags)) == 0)


def wipe_first_environment() -> None:
    """Overwrite the environment that this program was started with.

    The kernel's first copy stays on the stack for the life of a process, whatever has become of
    `os.environ` since. The C library's own copy must not point there any more.
    """
    # This program's name stands in front of the last parenthesis, and may be any bytes.
    fields = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    start, end = (int(fields[number - _FIRST_FIELD]) for number in (_ENV_START, _ENV_END))
    ctypes.memset(start, 0, end - start)
