"""The command `scan` without its child, to measure isolation against.

Never for models from strangers.
"""

import importlib
from collections.abc import Sequence
from typing import Self

from scanner.__main__ import main
from scanner.limits import Allowance
from scanner.sandbox import twins, worker
from scanner.sandbox.endpoint import Answer, Endpoint, Progress, Request, carry_out
from scanner.values import to_json


class InProcess:
    """Stands in for `scanner.sandbox.worker.Worker`: the same calls, answered in this process."""

    def __init__(self, preload: Sequence[str] = (), child: None = None) -> None:
        self._preload, self._child = preload, child

    def ask(
        self,
        endpoint: Endpoint[Request, Answer],
        request: Request,
        _allowance: Allowance,
        progress: Progress | None = None,
    ) -> Answer:
        """Call the endpoint's function in this process."""
        module, name = endpoint.function.split(":")
        function = getattr(importlib.import_module(module), name)
        report = progress or (lambda _: None)
        return endpoint.read(carry_out(function, to_json(request), report))

    def kill(self) -> None:
        """Do nothing; there is no child."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    worker.Worker = InProcess  # type: ignore[misc,assignment]
    twins.start = lambda _preload, count: count * [None]  # type: ignore[assignment,return-value]
    main()
