"""What a model may ask of this machine, and what the process that reads it has given up."""

import dataclasses

from scanner.values import frozen

GIB = 2**30
_LANDLOCK_TCP = 4  # the version that knows TCP


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
        lenient: Whether to measure a file that can be read in several ways.
    """

    memory: int = 8 * GIB
    file_size: int = 2 * GIB
    nodes: int = 200_000
    depth: int = 32
    trips: int = 10_000_000
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
    """

    seconds: float
    limits: Limits = Limits()
    threads: int = 1
    cuda: bool = False
    readable: tuple[str, ...] = ()


@frozen
class Confinement:
    """What a process has really given up.

    Attributes:
        limits: Names of the resource limits in force.
        memory: What limits the memory: "kernel", or "parent" (which watches, because CUDA needs the
            kernel's limit off), or "nothing".
        no_new_privs: Whether programs that it starts are kept from gaining privileges.
        landlock: Version of the Landlock interface that confines its files, or 0.
        seccomp: Whether new sockets, processes and programs are refused.
    """

    limits: tuple[str, ...] = ()
    memory: str = "nothing"
    no_new_privs: bool = False
    landlock: int = 0
    seccomp: bool = False

    def granted(self) -> tuple[str, ...]:
        """Return what is in force, in words."""
        tcp = ", no TCP" if self.landlock >= _LANDLOCK_TCP else ""
        files = f"Landlock {self.landlock} (reads the models' folders and its own libraries{tcp})"
        return (
            "a process of its own with a deadline",
            *((f"limits on {', '.join(self.limits)}",) if self.limits else ()),
            *(("no new privileges",) if self.no_new_privs else ()),
            *((files,) if self.landlock else ()),
            *(("seccomp (no sockets, no new processes)",) if self.seccomp else ()),
        )

    def missing(self) -> tuple[str, ...]:
        """Return what this system does not offer, in words."""
        held = {
            "files are not confined (no Landlock)": self.landlock > 0,
            "sockets and new processes are not refused (no seccomp filter)": self.seccomp,
            "new privileges are not refused": self.no_new_privs,
            "memory is not limited": self.memory != "nothing",
        }
        return tuple(words for words, holds in held.items() if not holds)
