"""What a model may ask of this machine, and what the process that reads it has given up."""

import dataclasses
import os

from scanner.values import frozen

MIB = 2**20
GIB = 2**30
# The versions of Landlock that brought these.
_LANDLOCK_TRUNCATION, _LANDLOCK_TCP, _LANDLOCK_SIGNALS = 3, 4, 6
_CAPABILITIES = {
    "none": ("no capabilities",),
    "read": ("no capability but root's to read files",),
}


@frozen
class Limits:
    """Limits on one model, its references and the child process that runs them.

    The defaults accept every ONNX file up to protobuf's 2 GiB, external data not counted.

    Attributes:
        memory: Bytes of memory that the child may hold, and that any one tensor may need. Opening a
            file takes up to three times its size; a detector that runs the whole graph needs as
            much again.
        file_size: Bytes of the model file itself.
        nodes: Graph nodes, sub-graphs and function bodies included, after every model-local
            function is expanded.
        depth: Nesting of sub-graphs and of calls between model-local functions.
        trips: Iterations of a Loop whose trip count is known before it runs.
        parts: Messages and texts of which the file's description is made: nodes and their
            attributes, names, dimensions, entries of metadata, and fields that ONNX does not know.
            Numbers are not counted. 200,000 ordinary nodes have some three million.
        interface: Inputs and outputs of the graph, which a report lists one by one.
        lenient: Whether to measure a file that can be read in several ways.
    """

    memory: int = 8 * GIB
    file_size: int = 2 * GIB
    nodes: int = 200_000
    depth: int = 32
    trips: int = 10_000_000
    parts: int = 4_000_000
    interface: int = 4096
    lenient: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "lenient" and getattr(self, field.name) < 1:
                raise ValueError(
                    f"{field.name} must be at least 1, not {getattr(self, field.name)}"
                )


@frozen
class Allowance:
    """What one call to a child process may use.

    Attributes:
        seconds: Wall-clock time, and as much processor time for each thread.
        limits: On memory here; the child applies the others to the model.
        threads: How many threads may compute; 0 means one per core.
        cuda: Whether CUDA may be used. It needs its device files, and maps more memory than it
            holds.
        readable: Files and folders that may be read in addition to the program's own.
        models: Files of the models that are opened. The larger they are, the more memory may be
            asked for at once.
        unconfined: Whether the process keeps its rights.
    """

    seconds: float
    limits: Limits = Limits()
    threads: int = 1
    cuda: bool = False
    readable: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    unconfined: bool = False

    @property
    def most_threads(self) -> int:
        """How many threads the child may have: far more than it needs, far fewer than hurt.

        Every open session of ONNX Runtime has threads of its own.
        """
        return 256 + 32 * (self.threads or os.cpu_count() or 1)


@frozen
class Confinement:
    """What a process has really given up.

    Attributes:
        limits: Names of the resource limits in force.
        memory: What limits the memory: "kernel", or "parent" (which watches, because CUDA needs the
            kernel's limit off), or "nothing".
        threads: What limits the number of threads: "kernel", "parent" or "nothing".
        no_new_privs: Whether programs that it starts are kept from gaining privileges.
        capabilities: Which capabilities of Linux are left: "none", "read" (root's right to read any
            file, where a model could not be read without it), or "kept".
        landlock: Version of the Landlock interface that confines its files, or 0.
        seccomp: Whether all system calls but those that a scan needs are refused.
        namespaces: Which namespaces it has of its own.
        processes_hidden: Whether it has a /proc of its own, without other processes.
        cuda: Whether the devices of CUDA are open, with the system calls that its driver needs.
    """

    limits: tuple[str, ...] = ()
    memory: str = "nothing"
    threads: str = "nothing"
    no_new_privs: bool = False
    capabilities: str = "kept"
    landlock: int = 0
    seccomp: bool = False
    namespaces: tuple[str, ...] = ()
    processes_hidden: bool = False
    cuda: bool = False

    def granted(self) -> tuple[str, ...]:
        """Return what is in force, in words."""
        tcp = ", no TCP" if self.landlock >= _LANDLOCK_TCP else ""
        files = f"Landlock {self.landlock} (reads the models' folders and its own libraries{tcp})"
        return (
            "a process of its own with a deadline",
            *((f"limits on {', '.join(self.limits)}",) if self.limits else ()),
            *((f"threads limited by the {self.threads}",) if self.threads != "nothing" else ()),
            *(("no new privileges",) if self.no_new_privs else ()),
            *_CAPABILITIES.get(self.capabilities, ()),
            *((files,) if self.landlock else ()),
            *(("seccomp (no sockets, no new processes, no file written)",) if self.seccomp else ()),
            *(
                (f"namespaces of its own ({', '.join(self.namespaces)})",)
                if self.namespaces
                else ()
            ),
            *(("no other process in /proc",) if self.processes_hidden else ()),
        )

    def missing(self) -> tuple[str, ...]:
        """Return what this system does not offer, in words.

        What one defence lacks is not missing where another has it: the filter of system calls also
        refuses to truncate files and to send signals.
        """
        landlock, known = self.landlock, self.landlock > 0
        held = {
            "files are not confined (no Landlock)": known,
            f"files can be truncated (Landlock {landlock})": self.seccomp
            or not known
            or landlock >= _LANDLOCK_TRUNCATION,
            f"other processes can be sent signals (Landlock {landlock})": self.seccomp
            or not known
            or landlock >= _LANDLOCK_SIGNALS,
            "sockets and new processes are not refused (no seccomp filter)": self.seccomp,
            "new privileges are not refused": self.no_new_privs,
            "privileges of the account are kept": self.capabilities != "kept",
            "memory is not limited": self.memory != "nothing",
            "threads are not limited": self.threads != "nothing",
            "the devices of CUDA are open, and memory is only watched": not self.cuda,
        }
        return tuple(words for words, holds in held.items() if not holds)

    def lesser(self) -> tuple[str, ...]:
        """Return what this system does not offer, in words, where another defence holds as well.

        Landlock refuses to read of other processes, and seccomp to open sockets; only that a
        process exists can still be told.
        """
        held = {
            "it has no namespaces of its own": bool(self.namespaces),
            "which other processes exist can be told from /proc": self.processes_hidden,
        }
        return tuple(words for words, holds in held.items() if not holds)
