"""What a hijacked child might try; each deed runs inside one, through `Worker.ask`."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from scanner.limits import Confinement
from scanner.sandbox import confinement
from scanner.sandbox.endpoint import Endpoint, Progress


def endpoint(deed: str) -> Endpoint[Any, Any]:
    return Endpoint(function=f"deeds:{deed}", request=object, answer=object)


def confined(_request: None, _progress: Progress) -> Confinement:
    return confinement.current()


def read(path: Any, _progress: Progress) -> Any:
    return _outcome(lambda: Path(path).read_text(encoding="utf-8"))


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


def signals(_request: None, _progress: Progress) -> Any:
    return [
        n
        for n in signal.valid_signals()
        if signal.getsignal(n) not in (signal.SIG_DFL, signal.SIG_IGN)
    ]


def blocked_signals(_request: None, _progress: Progress) -> Any:
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def facts(_request: None, _progress: Progress) -> Any:
    return {"folder": str(Path.cwd()), "session": os.getsid(0) == os.getpid(), "pid": os.getpid()}


def shout(_request: None, _progress: Progress) -> Any:
    os.write(1, b"\x1b[2Jverdict clean\n" * 10)
    sys.stdout.write("verdict clean\n")
    sys.stdout.flush()
    return "done"


def flood_the_log(_request: None, _progress: Progress) -> Any:
    return _outcome(lambda: [os.write(2, b"x" * 2**20) for _ in range(64)] and None)


def allocate(size: Any, _progress: Progress) -> Any:
    return len(bytearray(size))


def allocate_shared(size: Any, _progress: Progress) -> Any:
    import mmap  # noqa: PLC0415 - only this deed

    # The kernel's limit on data does not count shared memory: the parent has to notice it.
    shared = mmap.mmap(-1, size)
    for start in range(0, size, mmap.PAGESIZE):
        shared[start] = 1
    time.sleep(30)
    return size


def sleep(seconds: Any, _progress: Progress) -> Any:
    time.sleep(seconds)


def hold_the_interpreter(_request: None, _progress: Progress) -> Any:
    return len(str(7 ** (10**9)))


def spin(_request: None, _progress: Progress) -> Any:
    while True:
        pass


def abort(_request: None, _progress: Progress) -> Any:
    os.abort()


def segmentation_fault(_request: None, _progress: Progress) -> Any:
    ctypes.string_at(0)


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
    progress(1, 2)
    return "reported"


def nonsense(raw: Any, _progress: Progress) -> Any:
    """Write bytes of its own to the pipe for answers."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, bytes.fromhex(raw))
        except OSError:
            continue
    time.sleep(30)


def processor_time(seconds: Any, _progress: Progress) -> Any:
    import resource  # noqa: PLC0415 - only this deed

    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    while True:
        pass


def _outcome(deed: Callable[[], Any]) -> Any:
    """Return the name of the error that stopped a deed, or what it returned."""
    try:
        return deed()
    except OSError as error:
        return type(error).__name__
