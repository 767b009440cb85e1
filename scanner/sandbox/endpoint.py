"""What a child process can be asked: a function on its side, and the types that cross the pipe."""

import typing
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from scanner.values import (
    LARGEST_INTEGER,
    Count,
    Identifier,
    Index,
    Within,
    from_json,
    frozen,
    to_json,
)

Request = TypeVar("Request")
Answer = TypeVar("Answer")


@frozen
class Step:
    """How far a call has come, and what it is at.

    Attributes:
        done: How much is done, of `total`.
        total: How much there is to do.
        rule: Whose measurement is under way; None where nobody says.
        class_id: The class that it is at.
        model: What the caller calls the model; a child does not say.
    """

    done: Count
    total: Annotated[int, Within(1, LARGEST_INTEGER)]
    rule: Identifier | None = None
    class_id: Index | None = None
    model: str = ""


Progress = Callable[[Step], None]
"""Called as `progress(step)` while work is under way."""


@frozen
class Endpoint(Generic[Request, Answer]):
    """A function that runs in the child only.

    The caller's process never imports it: it is named here, with its types, so that a type checker
    follows a request from the caller to the function and its answer back.

    Attributes:
        function: Where it is, as "module:function". It is called as `function(request, progress)`.
        request: Type of its request: a frozen value, a tuple of these, or None.
        answer: Type of its answer, of the same kinds.
    """

    function: str
    request: type[Request]
    answer: type[Answer]

    def read(self, answer: Any) -> Answer:
        """Rebuild an answer that came back as JSON data.

        Raises:
            UnfitError: The data is not that of an answer.
        """
        return from_json(self.answer, answer)


def carry_out(function: Callable[[Any, Progress], Any], request: Any, progress: Progress) -> Any:
    """Call an endpoint's function, in the child, with a request in JSON; return its answer in JSON.

    The function's own annotation says what the request is. Tests hold it to the endpoint's.
    """
    kind = next(iter(typing.get_type_hints(function).values()))
    return to_json(function(from_json(kind, request), progress))
