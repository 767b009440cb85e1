"""Measuring on the workers of a dask cluster; this machine reads the list of models, and judges.

A worker opens a model itself, in a sandbox on its own machine, so it must find the file under the
same path. Records come back as Python objects: a scheduler and its workers are trusted as this
machine is (docs/threat-model.md).
"""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from scanner.errors import UsageError
from scanner.version import PROGRAM, VERSION

_SECONDS = 5  # to reach a scheduler
_SILENT = {"distributed": "critical", "distributed.client": "critical"}


@contextlib.contextmanager
def workers(address: str, example: str) -> Iterator[Executor]:
    """Measure on the workers of a scheduler, for as long as the context lasts.

    Args:
        address: Of the scheduler, such as "tcp://10.0.0.1:8786".
        example: A model, by which it is tested that workers see what is seen here.

    Raises:
        UsageError: dask is not installed, there is no scheduler or it has no workers, or a worker
            runs another version or does not see the example.
    """
    with _client(address) as client:
        _check(client, address, Path.cwd() / example)
        # The same file may be scanned again after it has changed, so no task is another's equal.
        yield client.get_executor(pure=False)


def _client(address: str) -> Any:
    try:
        import dask  # noqa: PLC0415 - an extra

        with dask.config.set({"logging": _SILENT}):  # what goes wrong is said by the scan itself
            import distributed  # noqa: PLC0415 - an extra
            from distributed import comm  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError(
            "to measure on a cluster, dask must be installed",
            remedy=f"run: pip install '{PROGRAM}[cluster]'",
        ) from error
    connect: Any = distributed.Client  # dask's own modules are not typed
    addresses: Any = comm
    try:
        # What cannot be an address would take its time to be refused.
        addresses.get_address_host_port(address, strict=True)
        addresses.registry.get_backend(addresses.parse_address(address)[0])
        return connect(address, timeout=_SECONDS, set_as_default=False)
    except Exception as error:  # dask raises what its transports do
        raise UsageError(
            f"there is no dask scheduler at {address!r}",
            remedy="start one with 'dask scheduler', and give the address that it prints as the "
            "setting `scheduler`",
        ) from error


def _check(client: Any, address: str, example: Path) -> None:
    """Refuse a cluster that could not do the work, or would do another.

    Raises:
        UsageError: For what `workers` says.
    """
    seen = client.run(_seen, str(example), on_error="return")
    if not seen:
        raise UsageError(
            f"the scheduler at {address!r} has no workers",
            remedy=f"start some with 'dask worker {address}'",
        )
    for worker, answer in seen.items():
        if isinstance(answer, Exception):
            raise UsageError(
                f"the worker {worker} cannot run {PROGRAM} ({answer})",
                remedy=f"install {PROGRAM} {VERSION} there",
            ) from answer
        version, found = answer
        if version != VERSION:
            raise UsageError(
                f"the worker {worker} runs {PROGRAM} {version}, and this machine {VERSION}",
                remedy="install the same version, or figures would not be comparable",
            )
        if not found and example.exists():
            raise UsageError(
                f"the worker {worker} does not see {str(example)!r}",
                remedy="share the folder, so that workers find models under the same paths",
            )


def _seen(example: str) -> tuple[str, bool]:
    """Return which version a worker runs, and whether it sees a model."""
    return VERSION, Path(example).exists()
