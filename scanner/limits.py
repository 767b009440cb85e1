"""What one model may ask of this machine, as one frozen value."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on one model, its references and the child process that runs them.

    The defaults let every ONNX file of up to protobuf's 2 GiB pass, external data not counted.

    Attributes:
        memory: Bytes of memory that the child may hold, and that any one tensor may need. A 2 GiB file needs about
            three times its size where the whole graph runs.
        file_size: Bytes of the model file itself.
        nodes: Graph nodes, sub-graphs and function bodies included, after every model-local function is expanded.
        depth: Nesting of sub-graphs and of calls between model-local functions.
        trips: Iterations of a Loop whose end is known before it runs.
    """

    memory: int = 8 * GIB
    file_size: int = 2 * GIB
    nodes: int = 200_000
    depth: int = 32
    trips: int = 10_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one call to a child process may use.

    Attributes:
        seconds: Of wall-clock time; of processor time as much for each thread.
        limits: On memory here; the child applies the others to the model.
        threads: How many threads may compute; 0 is one a core.
        cuda: Whether CUDA may be used, which maps more memory than it holds and needs its devices.
        readable: Files and folders that may be read besides the program's own.
    """

    seconds: float
    limits: Limits = Limits()
    threads: int = 1
    cuda: bool = False
    readable: tuple[str, ...] = ()
