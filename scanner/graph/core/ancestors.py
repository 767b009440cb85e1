"""What values derive from: the one walk against the arrows of a graph."""

from collections.abc import Callable, Iterable


def ancestors(
    values: Iterable[str], sources: Callable[[str], Iterable[str]]
) -> dict[str, str | None]:
    """Return every value that `values` derive from, themselves included, the nearest first.

    The walk is breadth first and visits each value once, so circles do no harm.

    Args:
        values: Where to start.
        sources: Returns what a value is computed from directly; nothing for inputs and constants.
            A walk that is to stop early returns nothing there either.

    Returns:
        Each value with the value, one step nearer to the start, through which it was first reached;
        None for the start itself.
    """
    found: dict[str, str | None] = {name: None for name in values if name}
    waiting = list(found)
    for name in waiting:  # the list grows while it is walked
        for source in sources(name):
            if source and source not in found:
                found[source] = name
                waiting.append(source)
    return found
