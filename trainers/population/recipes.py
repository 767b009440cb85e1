"""The recipes, one per row.

A statistic may be chosen on the recipes of the split `development`; those of `test` choose nothing.
Rows alternate between data sets, so that a part of the list is balanced too.
"""

import itertools
from collections.abc import Sequence

from trainers.errors import TrainerError
from trainers.population import cifar, fashion, gtsrb, mnist
from trainers.population.row import SPLITS, Row

_TURNS = itertools.zip_longest(mnist.ROWS, fashion.ROWS, cifar.ROWS, gtsrb.ROWS)
ROWS: Sequence[Row] = tuple(row for turn in _TURNS for row in turn if row is not None)


def rows(names: str | None = None, split: str | None = None) -> list[Row]:
    """Return the rows of the named recipes, joined by commas, and of a split; all where None.

    Raises:
        TrainerError: There is no such recipe or split, or nothing is left.
    """
    wanted = None if names is None else names.split(",")
    known = {row.recipe.name for row in ROWS}
    for name in wanted or ():
        if name not in known:
            raise TrainerError(
                f"the population has no recipe called {name!r}",
                remedy="see those there are with --list",
            )
    if split is not None and split not in SPLITS:
        raise TrainerError(
            f"there is no split {split!r}", remedy=f"choose one of {', '.join(SPLITS)}"
        )
    chosen = [
        row
        for row in ROWS
        if (wanted is None or row.recipe.name in wanted) and split in {None, row.split}
    ]
    if not chosen:
        raise TrainerError(
            f"none of the recipes {names} is of the split {split}", remedy="leave --split out"
        )
    return chosen
