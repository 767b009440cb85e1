"""What a child has finished, handed over before its answer, in case that it dies on the way to it.

Whoever asked keeps these parts unread, and looks at them only where no answer comes
(`Worker.parts`).
"""

from collections.abc import Callable
from typing import Any

from scanner.values import to_json

Send = Callable[[Any], None]

_send: Send | None = None  # of the call that is being answered; None outside a child


def by(send: Send) -> None:
    """Have `part` send what it gets by this, as JSON data, from now on."""
    global _send  # noqa: PLW0603 - a child answers one call after the other
    _send = send


def part(finished: Any) -> None:
    """Hand over a value; does nothing outside a child."""
    if _send is not None:
        _send(to_json(finished))
