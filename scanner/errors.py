"""Everything that can go wrong on purpose.

ScannerError
├── UsageError                    the request cannot be carried out as made
├── ModelError                    something about a model file
│   ├── MalformedModelError         it is not a model, or is damaged
│   ├── UnsafeModelError            a guard rejects it
│   └── UnsupportedModelError       it is a model, but one that this tool cannot measure
│       └── TooLargeError               the time or memory that is allowed is too little for it
├── GraphError                    something inside the graph
│   ├── ValueNotFoundError          no such inner value; carries the closest names
│   ├── NoGradientError             an operator without a gradient rule
│   ├── NoLogitsError               no class scores to differentiate
│   └── NoLayerError                no layer of the kind a detector reads
├── WorkerError                   the isolated child did not answer
│   ├── WorkerTimeoutError          it ran past its deadline
│   ├── WorkerCrashedError          it died, or sent something other than an answer
│   └── WorkerLimitError            it needed more than it was allowed
├── BaselineError                 a baseline file cannot be used
└── DeviceError                   the requested device or isolation is not there

Each error is one sentence made of a problem and a remedy. A sentence knows no command line: it says
"the setting `timeout`" for a field of `scanner.settings.Settings` or `scanner.limits.Limits` or a
parameter of a call, and "the function `layers`" for a public function. The command line puts its
own options and commands in their place. Any other exception that escapes is a bug.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypedDict


class ErrorData(TypedDict):
    """An error as JSON data: the name of its class, its two halves, and facts for programs."""

    type: str
    problem: str
    remedy: str
    details: Mapping[str, Any]


class ScannerError(Exception):
    """A failure that the user can act on.

    Args:
        problem: What is wrong, naming the file, value or setting; no full stop.
        remedy: What to do about it, as an imperative; no full stop.
        details: Further facts for programs, by name (JSON-serialisable).
    """

    def __init__(self, problem: str, *, remedy: str, **details: Any) -> None:
        super().__init__(f"{problem}; {remedy}" + ("" if remedy.endswith("?") else "."))
        self.problem = problem
        self.remedy = remedy
        self.details = details

    def to_dict(self) -> ErrorData:
        """Return the error as JSON-serialisable data, the inverse of `from_dict`."""
        return {
            "type": type(self).__name__,
            "problem": self.problem,
            "remedy": self.remedy,
            "details": self.details,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # An error also crosses from a process of a `concurrent.futures` pool.
        return type(self).from_dict, (self.to_dict(),)

    @classmethod
    def from_dict(cls, data: ErrorData) -> Self:
        """Rebuild an error that crossed a process boundary; an unknown type becomes this class."""
        kind = next((k for k in _descendants(cls) if k.__name__ == data["type"]), cls)
        error: Self = Exception.__new__(kind)
        ScannerError.__init__(error, data["problem"], remedy=data["remedy"])
        error.details = {**data["details"]}  # whose names may be those of arguments
        return error


class UsageError(ScannerError):
    """The request cannot be carried out as made."""


class ModelError(ScannerError):
    """Something is wrong with a model file."""


class MalformedModelError(ModelError):
    """The file is not an ONNX model, or it is damaged."""


class UnsafeModelError(ModelError):
    """A guard rejects the file."""


class UnsupportedModelError(ModelError):
    """A valid model that cannot be measured as asked."""


class TooLargeError(UnsupportedModelError):
    """A model is too large for what a detector is allowed, which is no fault of the model."""


class NoTimeError(TooLargeError):
    """The least that a detector does takes more time than it is allowed."""


class NoRoomError(TooLargeError):
    """The least that a detector does takes more memory than it is allowed."""


class GraphError(ScannerError):
    """Something inside the graph is not as needed."""


class ValueNotFoundError(GraphError):
    """No such inner value; the closest existing names are in `details["nearest"]`.

    Args:
        name: The requested name.
        available: The existing names.
    """

    def __init__(self, name: str, available: Iterable[str]) -> None:
        import difflib  # noqa: PLC0415 - only for a name that is not there

        nearest = difflib.get_close_matches(name, list(available), n=3, cutoff=0.4)
        remedy = (
            f"did you mean {' or '.join(map(repr, nearest))}?"
            if nearest
            else "the function `layers` lists the names"
        )
        super().__init__(
            f"the graph has no value or layer named {name!r}",
            remedy=remedy,
            name=name,
            nearest=nearest,
        )


class NoGradientError(GraphError):
    """An operator has no gradient rule."""


class NoLogitsError(GraphError):
    """The graph has no class scores."""


class NoLayerError(GraphError):
    """The graph has no layer of the kind a detector reads."""


class NoHeadError(NoLayerError):
    """No linear layer makes the logits: something else has the last word on the answer."""


class NoImagesError(UsageError):
    """A detector needs clean images, and there are none, or none of the kind that it needs."""


class TooFewImagesError(UsageError):
    """There are too few clean images for the level that is asked for."""

    @classmethod
    def at(cls, alpha: float, *, found: int, needed: int) -> Self:
        """Return the error for a level, the number of images found and that needed."""
        return cls(
            f"{found:,} clean images cannot tell whether an input lies among the {alpha:.3g} of "
            "all clean ones that lie furthest out",
            remedy=f"give at least {needed:,} clean images, or raise the setting `alpha`",
            found=found,
            needed=needed,
        )


class WorkerError(ScannerError):
    """The isolated child process did not answer."""


class WorkerTimeoutError(WorkerError):
    """The child ran past its deadline and was killed."""


class WorkerCrashedError(WorkerError):
    """The child died before it answered, met a bug of ours, or sent something else."""

    @classmethod
    def internal(cls, bug: Exception) -> Self:
        """Return the error for a bug of ours, with its trace."""
        import traceback  # noqa: PLC0415 - only for a bug

        return cls(
            f"internal error: {type(bug).__name__}: {bug}",
            remedy="please report it with the model's SHA-256",
            trace="".join(traceback.format_exception(bug)),
        )

    @classmethod
    def no_answer(cls, field: str = "") -> Self:
        """Return the error for a child that sends something other than an answer.

        Args:
            field: The first part of it that is not as it must be.
        """
        where = f" ({field})" if field else ""
        return cls(
            f"the process that ran the model sent something that is not an answer{where}",
            remedy="the model may have taken it over: do not deploy it, and report it",
        )


class WorkerLimitError(WorkerError):
    """The child needed more memory, processor time or room for a message than it was allowed."""

    @classmethod
    def memory(cls, allowed: int) -> Self:
        """Return the error for a limit on memory, in bytes."""
        return cls(
            f"the model needs more than {allowed / 2**20:,.0f} MiB of memory",
            remedy="raise the setting `memory` if you trust the file",
        )


class BaselineError(ScannerError):
    """A baseline file cannot be used."""


class DeviceError(ScannerError):
    """The requested device is not usable, or the required isolation is not complete."""


def _descendants(kind: type[ScannerError]) -> Iterable[type[Any]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)
