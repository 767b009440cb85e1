"""Two ways to start the child of `scanner.sandbox.worker`: a fresh interpreter, or a fork if safe.

A fork inherits the modules that this process has loaded, so nothing is imported twice; it costs
half as much as a fresh interpreter. It is safe before any native library is loaded and while there
is only one thread. `scanner.sandbox.fork` says what the child then sheds; docs/threat-model.md says
what it keeps. Several children at once are the business of `scanner.sandbox.twins`.
"""

import abc
import contextlib
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

_ROOT = str(Path(__file__).resolve().parents[2])
_roots = [_ROOT]  # where this program lies; tests add their own folder
_STARTER = (
    "import os, sys; sys.path[:0] = sys.argv[1].split(os.pathsep); "
    "from scanner.sandbox.{0} import serve; serve(sys.argv[2:])"
)
# Their threads and locks would not survive a fork.
_NATIVE = frozenset({"numpy", "onnxruntime", "onnx", "torch"})
# What a child may import.
_NEEDED = ("numpy", "onnx", "onnxruntime", "ml_dtypes", "google", "typing_extensions", "PIL")
_preloaded: list[str] = []  # native libraries that this process holds for its children only
_LARGEST = 2**28  # bytes; the memory of a larger caller would count against the child's limit
_HELD, _ASKED = ("VmRSS", "VmPTE", "VmSwap"), "VmData"  # fields of /proc/PID/status
PAUSE = 0.002
"""Seconds between two checks on whether a child or a thread has ended."""
_LOOKS = 10

# Environments often hold secrets, and variables that load code (LD_PRELOAD, PYTHONPATH,
# CUDA_INJECTION64_PATH). The child gets only what names the encoding of file names and the CUDA
# devices; on Windows also where the system and its libraries are. `_library_folders` decides about
# LD_LIBRARY_PATH.
_PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
_PASSED_ON_WINDOWS = ("SYSTEMROOT", "PATH", "CUDA_PATH")
# These act when a program starts, so a fork would keep their effect.
_LOADERS = ("LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES")


class Child(abc.ABC):
    """A started child.

    Attributes:
        commands: The pipe it reads.
        answers: The pipe it writes.
        errors: What it writes to standard output and standard error.
        folder: Its working folder, empty and its own.
    """

    commands: IO[bytes]
    answers: IO[bytes]
    errors: IO[bytes]
    folder: str

    @property
    @abc.abstractmethod
    def pid(self) -> int:
        """Its process id."""

    @abc.abstractmethod
    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""

    @abc.abstractmethod
    def kill(self) -> None:
        """End it at once, wait for its end, and remove its folder."""


def start(preload: Sequence[str]) -> Child:
    """Start a child that imports `preload` and answers calls (`scanner.sandbox.child.serve`)."""
    folder = empty_folder() if may_fork() else None
    return Interpreter(preload) if folder is None else Fork(preload, folder)


def may_fork() -> bool:
    """Whether a fork of this process would work.

    It must have one thread, be small and hold no native library (but by `preload`), neither from
    the installation nor by way of the environment, and every library that the child needs must be
    where a fork looks.
    """
    if sys.platform != "linux" or sys.gettrace() is not None:
        return False
    if _NATIVE & sys.modules.keys() and not _preloaded:
        return False
    if any(os.environ.get(name) for name in _LOADERS) or _foreign_library_folders():
        return False
    return resident_bytes(os.getpid()) < _LARGEST and is_alone() and not _needs_other_folders()


def preload(modules: Sequence[str]) -> None:
    """Load what children need into this process, so that each of many forks finds it there.

    For a process that does nothing but start children: it reads no model, and its native libraries
    have started no thread when it forks. Where they have, children are fresh interpreters.
    """
    import gc  # noqa: PLC0415 - a single scan does not come here
    import importlib  # noqa: PLC0415

    os.environ.update(environment())  # read by the libraries as they load
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    if is_alone():
        _preloaded.extend(_NATIVE & sys.modules.keys())


def is_alone() -> bool:
    """Whether this process has one thread; the kernel takes a moment to end one just joined."""
    with contextlib.suppress(OSError):  # without /proc there is no way to tell
        for _ in range(_LOOKS):
            if len([*Path("/proc/self/task").iterdir()]) == 1:
                return True
            if threading.active_count() > 1:
                return False
            time.sleep(PAUSE)
    return False


def _needs_other_folders() -> bool:
    """Whether a library is in a folder where a fork does not look.

    A `.pth` file may name such a folder, or PYTHONPATH. It cannot be told from one that the
    caller's program has added; a fresh interpreter reads the `.pth` file.
    """
    allowed = set(module_path())
    others = [path for path in _inherited() if path not in allowed]
    return any(PathFinder.find_spec(name, others) for name in _NEEDED)


def resident_bytes(pid: int) -> int:
    """Return the bytes of memory that a process holds (Linux), 0 if that cannot be read."""
    if sys.platform != "linux":
        return 0
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0  # it has just ended
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Held(NamedTuple):
    """What a process holds.

    Attributes:
        memory: Bytes, its page tables among them.
        threads: How many.
        asked: Bytes of private writable memory that it has asked for, used or not: what the kernel
            limits.
    """

    memory: int = 0
    threads: int = 0
    asked: int = 0


def held(pid: int) -> Held:
    """Return what a process holds.

    Zeros where that cannot be read: it has just ended, or the system is not Linux.
    """
    if sys.platform != "linux":
        return Held()
    facts = {}
    with contextlib.suppress(OSError):
        # Its name is among them, and may be any bytes.
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").split("\n"):
            name, _, value = line.partition(":")
            facts[name] = value
    sizes = {name: 1024 * int(facts.get(name, "0 kB").split()[0]) for name in (*_HELD, _ASKED)}
    return Held(sum(map(sizes.__getitem__, _HELD)), int(facts.get("Threads", 0)), sizes[_ASKED])


def environment() -> dict[str, str]:
    """Return the variables that a child gets."""
    names = (*_PASSED, *(_PASSED_ON_WINDOWS if sys.platform == "win32" else ()))
    passed = {name: os.environ[name] for name in names if name in os.environ}
    if folders := [folder for folder in _library_folders() if _trusted(folder)]:
        passed["LD_LIBRARY_PATH"] = os.pathsep.join(folders)
    return {
        **passed,
        "ORT_DISABLE_TELEMETRY": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _library_folders() -> list[str]:
    """Return the folders of LD_LIBRARY_PATH, where CUDA is often found by no other way."""
    if sys.platform != "linux":
        return []
    return [*filter(None, os.environ.get("LD_LIBRARY_PATH", "").replace(";", ":").split(":"))]


def _foreign_library_folders() -> bool:
    return not all(map(_trusted, _library_folders()))


def _trusted(folder: str) -> bool:
    """Whether a folder is of the installation, or nobody but root may put a library into it."""
    if not Path(folder).is_absolute():
        return False
    real = Path(folder).resolve()
    return f"{real}{os.sep}".startswith(_prefixes()) or all(map(_only_roots, (real, *real.parents)))


def _only_roots(folder: Path) -> bool:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return True  # it could be made by whoever may write to the one above
    except OSError:
        return False
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class Interpreter(Child):
    """A fresh interpreter, with none of the caller's threads, descriptors, memory or modules."""

    def __init__(self, preload: Sequence[str]) -> None:
        import subprocess  # noqa: PLC0415 - a fork needs neither
        import tempfile  # noqa: PLC0415 - as above

        self._temporary = tempfile.TemporaryDirectory(prefix="scan-")
        self.folder = self._temporary.name
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = Spawned(
            interpreter("child", preload),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            cwd=self.folder,
        )
        self.commands, self.answers = self._process.pipes()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it at once, wait for its end, and remove its folder."""
        self._process.kill()
        self._temporary.cleanup()


class Spawned:
    """A program that this process has started, and for which it waits.

    Args:
        command: The program and its arguments.
        options: Passed on to `subprocess.Popen`.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        import subprocess  # noqa: PLC0415 - a fork does not need it

        # A session of its own has no terminal to write on, and leaves Ctrl-C to this side.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            command, env=environment(), start_new_session=True, **options
        )
        self._running = subprocess.TimeoutExpired

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return its standard input and output, which were asked for as pipes."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        assert self._process.stdout is not None  # noqa: S101
        return self._process.stdin, self._process.stdout

    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""
        try:
            return self._process.wait(seconds)
        except self._running:
            return None

    def kill(self) -> None:
        """End it at once, and wait for its end."""
        self._process.kill()
        self._process.wait()


def interpreter(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command by which a fresh interpreter calls `serve` of a module of this package.

    -P keeps the folder of the models, which may hold a hostile numpy.py, out of its module path. No
    variable of Python has an effect (-E), nor has a folder of the user that this process does not
    look into (-s). -B and UTF-8 mode are the caller's own.
    """
    flags = [
        "-E",
        "-P",
        *(() if _user_site() else ("-s",)),
        *(("-B",) if sys.dont_write_bytecode else ()),
        *(("-X", "utf8") if sys.flags.utf8_mode else ()),
    ]
    starter = _STARTER.format(module)
    return [sys.executable, *flags, "-c", starter, os.pathsep.join(_roots), *arguments]


class Forked:
    """A forked process, for which this one waits."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""
        end = time.monotonic() + seconds
        while self._code is None:
            self._look()
            if self._code is None and time.monotonic() >= end:
                return None
            time.sleep(0 if self._code is not None else PAUSE)
        return self._code

    def kill(self) -> None:
        """End it at once, and wait for its end."""
        if self.wait() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(float("inf"))

    def _look(self) -> None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._code = 0  # the caller ignores SIGCHLD, or has waited for the child itself
        else:
            self._code = os.waitstatus_to_exitcode(status) if pid else None


class Fork(Child):
    """A copy of this process that sheds what is the caller's (`scanner.sandbox.fork`)."""

    def __init__(self, preload: Sequence[str], folder: str) -> None:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
            streams = open_streams(self, folder, theirs, undo)
            self._process = Forked(fork(streams, folder, module_path(), lambda: serve(preload)))
            undo.pop_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, seconds: float = 0) -> int | None:
        """Return its exit code, negative for a signal; None if it still runs after the wait."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End it at once, wait for its end, and remove its folder."""
        self._process.kill()
        remove(self.folder)


def open_streams(
    child: Child, folder: str, theirs: contextlib.ExitStack, undo: contextlib.ExitStack
) -> tuple[int, int, int]:
    """Give a child that is to be forked its folder and its streams.

    Args:
        child: Gets this side's ends.
        folder: Its own.
        theirs: Closes the child's ends on this side, once it has them.
        undo: Closes this side's ends, where there will be no child.

    Returns:
        What becomes its standard input, output and error.
    """
    child.folder = folder
    undo.callback(remove, folder)
    child.errors = undo.enter_context(os.fdopen(os.memfd_create("scan-errors"), "r+b"))
    listens, commands = os.pipe()
    theirs.callback(os.close, listens)
    child.commands = undo.enter_context(os.fdopen(commands, "wb"))
    answers, speaks = os.pipe()
    theirs.callback(os.close, speaks)
    child.answers = undo.enter_context(os.fdopen(answers, "rb"))
    return listens, speaks, child.errors.fileno()


def serve(preload: Sequence[str]) -> None:
    """Answer calls, in a forked child."""
    from scanner.sandbox import child  # noqa: PLC0415 - the parent has no use for it

    child.serve(preload)


def fork(
    descriptors: Sequence[int], folder: str, path: Sequence[str], live: Callable[[], None]
) -> int:
    """Fork this process, and return the process id of the child, in the parent alone.

    Args:
        descriptors: What becomes the child's first descriptors; it has no others.
        folder: Its working folder.
        path: Where it looks for modules.
        live: Its whole life.
    """
    parent = os.getpid()
    # None of the caller's signal handlers may run in the child, which accepts signals again once it
    # has reset them all.
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _live(parent, descriptors, folder, path, live)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
    return pid


def _live(
    parent: int,
    descriptors: Sequence[int],
    folder: str,
    path: Sequence[str],
    live: Callable[[], None],
) -> NoReturn:
    """Be the forked child, and never return into the caller's code.

    The caller's module path goes first: a module that lies beside the models must not be imported.
    """
    status = 1
    try:
        try:
            sys.path[:] = path
            from scanner.sandbox import fork as forked  # noqa: PLC0415 - the parent has no use

            forked.shed(parent, descriptors, folder, environment())
            live()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may escape into the caller's code
            import traceback  # noqa: PLC0415 - only for a bug

            traceback.print_exc()
            sys.stderr.flush()
    except MemoryError:  # too little is left to print how it came
        os.write(2, b"MemoryError")
    finally:
        os._exit(status)


def module_path() -> list[str]:
    """Return where a fork looks for modules: the installation, nothing else.

    A fresh interpreter under `-E` and `-P` looks there too, and also in the folders that `.pth`
    files name. Neither looks into PYTHONPATH, which anybody may have set.
    """
    prefixes = _prefixes()
    return [*_roots, *(p for p in _inherited() if f"{p}{os.sep}".startswith(prefixes))]


def _prefixes() -> tuple[str, ...]:
    """Return the folders of the installation, each with a separator at its end."""
    return tuple(
        f"{p}{os.sep}" for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, *_user_site())
    )


def _inherited() -> list[str]:
    """Return the caller's module path without its script's folder."""
    return sys.path if sys.flags.safe_path else sys.path[1:]


def _user_site() -> Sequence[str]:
    site: Any = sys.modules.get("site")
    return (site.USER_SITE,) if site is not None and site.ENABLE_USER_SITE else ()


def empty_folder() -> str | None:
    """Make a folder under a name that cannot be guessed; return None if its parent is not writable.

    The standard library's `tempfile` looks in more places, but takes as long to import as all the
    rest of this side.
    """
    path = Path(os.environ.get("TMPDIR") or "/tmp", f"scan-{os.urandom(8).hex()}")  # noqa: S108 - mkdir follows no link
    try:
        path.mkdir(mode=0o700)
    except OSError:
        return None
    return str(path.absolute())


def remove(folder: str) -> None:
    """Remove a child's folder, if it is still there."""
    try:
        Path(folder).rmdir()
    except FileNotFoundError:
        return
    except OSError:  # it is not empty: without Landlock, the child can write
        import shutil  # noqa: PLC0415 - rarely needed

        shutil.rmtree(folder, ignore_errors=True)
