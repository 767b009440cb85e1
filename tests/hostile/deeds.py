"""What a hijacked child might try; each deed runs inside one, through `Worker.ask`."""

import _thread
import contextlib
import ctypes
import os
import platform
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from scanner.limits import Confinement
from scanner.sandbox import confinement, messages
from scanner.sandbox.endpoint import Endpoint, Progress, Step

_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
_PR_SET_NAME = 15
# x86-64, AArch64.
_NUMBERS = {
    "tgkill": (234, 131),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "io_uring_setup": (425, 425),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "personality": (135, 92),
    "pipe2": (293, 59),
}
_ARGUMENTS: dict[str, tuple[int | bytes, ...]] = {
    "userfaultfd": (1,),  # UFFD_USER_MODE_ONLY
    "keyctl": (0, -3, 1),  # KEYCTL_GET_KEYRING_ID of the session, made where there is none
    "add_key": (b"user", b"owned", b"secret", 6, -3),
    "shmget": (0, 4096, 0o1600),  # IPC_PRIVATE, IPC_CREAT
    "semget": (0, 1, 0o1600),
    "msgget": (0, 0o1600),
    "memfd_create": (b"owned", 0),
    "io_uring_setup": (1, 0),
    "bpf": (0, 0, 0),
    "perf_event_open": (0, 0, -1, -1, 0),
    "ptrace": (0, 0, 0, 0),  # PTRACE_TRACEME
    "process_vm_readv": (1, 0, 0, 0, 0, 0),
    "personality": (0xFFFFFFFF,),
    "pipe2": (0, 0),
}


def endpoint(deed: str) -> Endpoint[Any, Any]:
    return Endpoint(function=f"deeds:{deed}", request=object, answer=object)


def confined(_request: None, _progress: Progress) -> Confinement:
    return confinement.current()


def read(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: Path(path).read_text(encoding="utf-8"))


def exist(paths: Any, _progress: Progress) -> Any:
    return {path: Path(path).exists() for path in paths}


def write(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: Path(path).write_text("owned", encoding="utf-8"))


def connect(port: Any, _progress: Progress) -> Any:
    return _outcome(lambda: socket.create_connection(("127.0.0.1", port), 1).close())


def send_datagram(port: Any, _progress: Progress) -> Any:
    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"secret", ("127.0.0.1", port))

    return _outcome(send)


def fork(_request: None, _progress: Progress) -> Any:
    return _outcome(os.fork)


def start_program(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: subprocess.run([sys.executable, "-c", ""], check=True))


def signal_parent(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: os.kill(os.getppid(), 0))


def start_thread(_request: None, _progress: Progress) -> Any:
    done: list[bool] = []
    thread = threading.Thread(target=done.append, args=(True,))
    thread.start()
    thread.join()
    return done


def read_in_thread(path: Any, progress: Progress) -> Any:
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(read(path, progress)))
    thread.start()
    thread.join()
    return outcomes[0]


def environment(_request: None, _progress: Progress) -> Any:
    return sorted(os.environ)


def descriptors(_request: None, _progress: Progress) -> Any:
    return sorted(
        str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    )


def module_path(_request: None, _progress: Progress) -> Any:
    return sys.path


def has_module(name: Any, _progress: Progress) -> Any:
    return name in sys.modules


def signals(_request: None, _progress: Progress) -> Any:
    return [
        n
        for n in signal.valid_signals()
        if signal.getsignal(n) not in (signal.SIG_DFL, signal.SIG_IGN)
    ]


def blocked_signals(_request: None, _progress: Progress) -> Any:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def facts(_request: None, _progress: Progress) -> Any:
    return {
        "folder": str(Path.cwd()),
        "session": _status_field(6) == os.getpid(),
        "pid": os.getpid(),
    }


def chmod(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: Path(path).chmod(0o4755))


def chown(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: os.chown(path, 12345, 12345))


def change_times(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: os.utime(path, (0, 0)))


def set_attribute(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: os.setxattr(path, "user.owned", b"1"))


def truncate(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: os.truncate(path, 0))


def truncate_on_opening(path: Any, _progress: Progress) -> Any:
    """Truncate without opening for writing: what Landlock knows since its third version only."""
    return _outcome(lambda: os.open(path, os.O_RDONLY | os.O_TRUNC))


def limit_parent(_request: None, _progress: Progress) -> Any:
    """Kill by a limit on processor time: no signal is sent."""
    import resource  # noqa: PLC0415 - not there on Windows

    return _outcome(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0)))


def slow_parent(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19))


def pin_parent(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: os.sched_setaffinity(os.getppid(), {0}))


def kill(pid: Any, _progress: Progress) -> Any:
    return _outcome(lambda: os.kill(pid, signal.SIGTERM))


def kill_thread(pid: Any, _progress: Progress) -> Any:
    return _system_call("tgkill", pid, pid, signal.SIGTERM)


def own_signals(_request: None, _progress: Progress) -> Any:
    """Ask to be the one to whom the kernel sends signals, in the name of the parent."""
    import fcntl  # noqa: PLC0415 - not there on Windows

    return _outcome(lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()))


def type_into_terminal(_request: None, _progress: Progress) -> Any:
    import fcntl  # noqa: PLC0415 - not there on Windows
    import termios  # noqa: PLC0415 - not there on Windows

    return _outcome(lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"))


def open_process(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: os.pidfd_open(os.getppid()))


def call(name: Any, _progress: Progress) -> Any:
    """Make a system call with arguments that would succeed, or fail for another reason."""
    return _system_call(name, *_ARGUMENTS[name])


def enter_namespace(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: _libc(_LIBC.unshare(0x10000000)))  # CLONE_NEWUSER


def become_root(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: os.setresuid(0, 0, 0))


def capabilities(_request: None, _progress: Progress) -> Any:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return {name: int(value, 16) for name, value in (x.split(":") for x in lines if x[:3] == "Cap")}


def map_memory(flags: Any, _progress: Progress) -> Any:
    mmap = _LIBC.mmap
    mmap.restype = ctypes.c_void_p
    mapped = mmap(None, ctypes.c_size_t(2**20), 3, flags, -1, ctypes.c_long(0))
    return _outcome(lambda: _libc(-1 if mapped == ctypes.c_void_p(-1).value else 0))


def read_many(paths: Any, progress: Progress) -> Any:
    return {path: read(path, progress) for path in paths}


def first_environment(_request: None, _progress: Progress) -> Any:
    """Return the environment as the kernel keeps it, without /proc/self/environ."""
    start, end = _status_field(50), _status_field(51)
    return ctypes.string_at(start, end - start).decode(errors="replace")


def start_threads(wanted: Any, _progress: Progress) -> Any:
    """Start so many threads that end with the process, and return how many there were."""
    threading.stack_size(2**15)
    wait = threading.Event().wait
    started = 0
    with contextlib.suppress(RuntimeError):
        for started in range(wanted):  # noqa: B007 - the answer
            _thread.start_new_thread(wait, ())
        time.sleep(30)
    return started


def shout(_request: None, _progress: Progress) -> Any:
    os.write(1, b"\x1b[2Jverdict clean\n" * 10)
    sys.stdout.write("verdict clean\n")
    sys.stdout.flush()
    return "done"


def flood_the_log(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: [os.write(2, b"x" * 2**20) for _ in range(64)] and None)


def allocate(size: Any, _progress: Progress) -> Any:
    return len(bytearray(size))


def map_page_tables(size: Any, _progress: Progress) -> Any:
    """Read memory that is never written: each page is the one of zeros, the tables are not."""
    import mmap  # noqa: PLC0415 - only this deed

    empty = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    empty.madvise(15)  # MADV_NOHUGEPAGE
    for start in range(0, size, 2**21):  # what one page of a table maps
        empty[start]
    time.sleep(30)
    return size


def sleep(seconds: Any, _progress: Progress) -> Any:
    time.sleep(seconds)


def go_deaf(_request: None, _progress: Progress) -> Any:
    """Read one more request, and then none."""
    setattr(messages, "read", lambda _pipe: time.sleep(3600))  # noqa: B010 - as a hijacker would


def take_name(name: Any, _progress: Progress) -> Any:
    """Take a name that is no text, and stay until it has been seen."""
    _LIBC.prctl(_PR_SET_NAME, name.encode("latin-1"), 0, 0, 0)
    time.sleep(0.3)
    return Path("/proc/self/stat").read_bytes().decode("latin-1").partition("(")[2][: len(name)]


def hold_the_interpreter(_request: Any, _progress: Progress) -> Any:
    return len(str(7 ** (10**9)))


def spin(_request: Any, _progress: Progress) -> Any:
    while True:
        pass


def abort(_request: None, _progress: Progress) -> Any:
    os.abort()


def segmentation_fault(_request: None, _progress: Progress) -> Any:
    ctypes.string_at(0)


def die_with(size: Any, _progress: Progress) -> Any:
    """Hold memory for long enough to be seen with it, and die."""
    kept = bytearray(size)
    time.sleep(0.5)
    ctypes.string_at(0)
    return len(kept)


def leave(_request: None, _progress: Progress) -> Any:
    os._exit(7)


def out_of_memory_in_native_code(_request: None, _progress: Progress) -> Any:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def bug(_request: None, _progress: Progress) -> Any:
    raise RuntimeError("a bug")


def echo(anything: Any, _progress: Progress) -> Any:
    return anything


def refuse(_request: None, _progress: Progress) -> Any:
    raise UsageError("no", remedy="ask for something else")


def starve(_request: None, _progress: Progress) -> Any:
    raise MemoryError


def report(_request: None, progress: Progress) -> Any:
    progress(Step(done=1, total=2, rule="head", class_id=3))
    return "reported"


def report_often(_request: None, progress: Progress) -> Any:
    """Take the steps of two measurements faster than they are told."""
    for rule in ("head", "mm_bd"):
        for class_id in (None, 0, 1, None):
            progress(Step(done=1, total=2, rule=rule, class_id=class_id))
    return "reported"


def nonsense(raw: Any, _progress: Progress) -> Any:
    """Write bytes of its own to the pipe for answers."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, bytes.fromhex(raw))
        except OSError:
            continue
    time.sleep(30)


def flood(message: Any, _progress: Progress) -> Any:
    """Write one message again and again, as fast as the pipe takes it."""
    data = struct.pack(">I", len(message)) + message.encode()
    pipe = next(d for d in range(3, 64) if _is_pipe(d))
    end = time.monotonic() + 2
    while time.monotonic() < end:
        os.write(pipe, data)
    time.sleep(30)


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def processor_time(seconds: Any, _progress: Progress) -> Any:
    import resource  # noqa: PLC0415 - not there on Windows

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    while True:
        pass


def _status_field(number: int) -> int:
    """Return a field of /proc/self/stat, counted as proc(5) does."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[number - 3])


def _system_call(name: str, *arguments: int | bytes) -> Any:
    number = _NUMBERS[name][platform.machine() == "aarch64"]
    passed = (ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments)
    return _outcome(lambda: _libc(_LIBC.syscall(ctypes.c_long(number), *passed)))


def _libc(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def _outcome(deed: Callable[[], Any]) -> Any:
    """Return the name of the error that stopped a deed, or what it returned."""
    try:
        return deed()
    except OSError as error:
        return type(error).__name__
