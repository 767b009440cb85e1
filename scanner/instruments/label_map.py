"""Label maps: to which class a trigger sends the images of each class."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Classes = npt.NDArray[np.int64]

_NAMED = 10  # classes that a sentence names
_FEWEST = 2  # images that make a move: one may stray


def usual(before: Classes, after: Classes) -> dict[int, int]:
    """Return, by class, the other class that most of its images go to.

    A class that none of its images leaves is missing.

    Args:
        before: The class of each image without the trigger, (n,).
        after: The class of each with it, (n,).
    """
    found: dict[int, int] = {}
    for source, target, _ in _moves(before, after):
        found.setdefault(source, target)
    return dict(sorted(found.items()))


def one_to_one(before: Classes, after: Classes) -> dict[int, int]:
    """Return a label map that sends no two classes to the same one.

    It has the moves that most images of a class make, and two at the least. Those that most images
    make are taken first.

    Args:
        before: The class of each image without the trigger, (n,).
        after: The class of each with it, (n,).
    """
    found: dict[int, int] = {}
    taken = set()
    for source, target, count in _moves(before, after):
        most = count >= _FEWEST and 2 * count > (before == source).sum()
        if most and target not in taken:
            found[source] = target
            taken.add(target)
    return dict(sorted(found.items()))


def follows(before: Classes, after: Classes, to: Mapping[int, int]) -> npt.NDArray[np.bool_]:
    """Return which images go where a label map says, (n,)."""
    return np.array([to.get(int(b)) == a for b, a in zip(before, after, strict=True)], bool)


def named(to: Mapping[int, int]) -> str:
    """Return a label map in words: "0 to 1, 1 to 2 and 3 more"."""
    text = ", ".join(f"{source} to {target}" for source, target in [*to.items()][:_NAMED])
    more = len(to) - _NAMED
    return f"{text} and {more} more" if more > 0 else text


def _moves(before: Classes, after: Classes) -> list[tuple[int, int, int]]:
    """Return from which class to which images move, and how many; most images first."""
    moved, width = before != after, 1 + int(after.max(initial=0))
    pairs, counts = np.unique(before[moved] * width + after[moved], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(*divmod(int(pairs[i]), width), int(counts[i])) for i in order]
