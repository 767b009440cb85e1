"""What the isolation of a scan lacked, in words."""

from scanner.limits import Confinement
from scanner.results import Runtime
from scanner.values import UnfitError, from_json


def lacking(runtime: Runtime | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what nothing else stood in for, and what another defence held as well.

    Nothing where no model was opened, or that was not noted.
    """
    if runtime is None or not runtime.isolation:
        return (), ()
    try:
        given = from_json(Confinement, runtime.isolation)
    except UnfitError:  # a saved result of another version
        return ("not known to this version",), ()
    return given.missing(), given.lesser()
