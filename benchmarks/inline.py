"""The command `scan` without its child, to measure isolation against.

Never for models from strangers.
"""

import importlib
from collections.abc import Sequence
from typing import Any, Self

from scanner.__main__ import main
from scanner.limits import Allowance
from scanner.sandbox import worker


class InProcess:
    """Stands in for `scanner.sandbox.worker.Worker`: the same calls, answered in this process."""

    def __init__(self, preload: Sequence[str] = ()) -> None:
        self._preload = preload

    def call(
        self, function: str, argument: Any, _allowance: Allowance, progress: Any = None
    ) -> Any:
        """Call the function in this process."""
        module, name = function.split(":")
        return getattr(importlib.import_module(module), name)(
            argument, progress or (lambda _done, _total: None)
        )

    def kill(self) -> None:
        """Do nothing; there is no child."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    worker.Worker = InProcess  # type: ignore[misc,assignment]
    main()
