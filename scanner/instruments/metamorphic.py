"""Metamorphic testing: one image has one answer, whatever surrounds it and however it is asked.

Where no right answer is known, the same thing is asked in two ways that must agree (T. Y. Chen,
S. C. Cheung, S. M. Yiu, HKUST-CS98-01, 1998).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from scanner.errors import UnsupportedModelError, WorkerTimeoutError
from scanner.instruments import near_images, surroundings
from scanner.instruments.detector import Subject
from scanner.instruments.interview import Interview
from scanner.results import Observation
from scanner.sandbox import deadline
from scanner.values import frozen

_RELATIONS: tuple[Callable[[Interview], Iterator[Observation]], ...] = (
    surroundings.repetition,
    surroundings.size,
    surroundings.elsewhere,
    near_images.zero,
    near_images.levels,
    near_images.edge,
    surroundings.optional,
    surroundings.optimiser,
)


@frozen
class Found:
    """What an answer was found to depend on.

    Attributes:
        observations: One for each such thing, the gravest first.
        parameters: What influenced it.
        figures: By what was changed, how far answers moved at most, in units of their spread; None
            where one of two is no number.
    """

    observations: tuple[Observation, ...]
    parameters: Mapping[str, Any]
    figures: Mapping[str, float | None]


def search(subject: Subject) -> Found:
    """Return what the answer to an image depends on besides the image.

    Raises:
        NoLogitsError: No output holds class scores or a class.
        UnsupportedModelError: ONNX Runtime refuses the file.
        UsageError: The image's shape or range is not known.
        WorkerTimeoutError: The time ran out before anything was found.
    """
    asked = Interview(subject)
    found: list[Observation] = []
    tried: list[str] = []
    refused: list[str] = []
    for relation in _RELATIONS:
        if not asked.settled:
            break  # whatever is asked next, chance answers it too
        # A later relation that cannot be tried, or for which no time is left, must not take
        # what was found away.
        try:
            deadline.check()
            found += relation(asked)
            tried.append(relation.__name__)
        except UnsupportedModelError:
            refused.append(relation.__name__)
        except WorkerTimeoutError:
            if not found:
                raise
            break
    return Found(
        observations=tuple(sorted(found, key=lambda o: -o.severity)),
        parameters={
            "images": len(asked.images),
            "tried": tried,
            "refused": refused,
            "precision": asked.precision,
            "tolerance": asked.tolerance,
            "seed": subject.settings.seed,
            "input_range": list(asked.range),
            "input_shape": list(asked.shape),
        },
        figures={
            name: apart if np.isfinite(apart) else None for name, apart in asked.apart.items()
        },
    )
