"""Linux calls that Python has no name for. Nothing here works, or is called, on another system."""

import ctypes


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
