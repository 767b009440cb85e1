"""Linux calls that Python does not wrap. Nothing here works, or is called, on other systems."""

import ctypes
from pathlib import Path

# Fields of /proc/PID/stat, numbered as in proc(5); the first one after the program's name is 3.
_FIRST_FIELD, _ENV_START, _ENV_END = 3, 50, 51


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


def wipe_first_environment() -> None:
    """Overwrite the environment that this program was started with.

    The kernel's first copy stays on the stack for the life of a process, whatever has become of
    `os.environ` since. The C library's own copy must not point there any more.
    """
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    start, end = (int(fields[number - _FIRST_FIELD]) for number in (_ENV_START, _ENV_END))
    ctypes.memset(start, 0, end - start)
