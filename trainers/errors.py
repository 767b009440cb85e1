"""Errors that training raises on purpose; the command line exits with 2 on each.

TrainerError
├── DatasetError      the images are not there, or not what they should be
├── DeviceError       the device that was asked for is not there
├── CheckpointError   a checkpoint cannot be written, or belongs to another run
├── ExportError       the exported network does not compute what the trained one does
└── ManifestError     the list of models beside the models cannot be read
"""

from typing import Any


class TrainerError(Exception):
    """A failure that the user can act on, as one sentence.

    Args:
        problem: What is wrong, naming the file, value or option; no full stop.
        remedy: What to do about it, as an imperative; no full stop.
    """

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross from the zoo's processes, and `remedy` goes by name only.
        return _rebuild, (type(self), self.problem, self.remedy)

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" + ("" if self.remedy.endswith("?") else ".")


class DatasetError(TrainerError):
    """The images are not there, or not what they should be."""


class DeviceError(TrainerError):
    """The device that was asked for is not there."""


class CheckpointError(TrainerError):
    """A checkpoint cannot be written, or belongs to another run."""


class ExportError(TrainerError):
    """The exported network does not compute what the trained one does."""


class ManifestError(TrainerError):
    """The list of models cannot be read."""


def _rebuild(kind: type[TrainerError], problem: str, remedy: str) -> TrainerError:
    return kind(problem, remedy=remedy)
