"""An observation, with an input that wakes what it is about where one is found."""

import dataclasses
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import WorkerTimeoutError
from scanner.graph.dormancy.side_paths import Paths
from scanner.graph.logic.unfold import unfold
from scanner.instruments import forcing, kept, probes, waking
from scanner.results import Input, Observation, Severity

Array = npt.NDArray[Any]

_ASKED, _FEWER = 24, 10
"""Ordinary images that a forced value is shown with, and how many of them if they are large."""
_PLAIN = 9
"""Plain images that are tried, from the lowest value to the highest."""
_TO_WAKE = 5.0
"""Seconds for an input that wakes one value."""


def asked(rig: forcing.Rig) -> int:
    """Return how many ordinary images a forced value is shown with."""
    return _FEWER if forcing.is_large(rig.images.shape[1:]) else _ASKED


def as_data(value: Array) -> list[Any]:
    """Return the first numbers of a value as plain JSON data."""
    numbers = value.reshape(-1)[:16].tolist()
    return [n if not isinstance(n, float) or np.isfinite(n) else str(n) for n in numbers]


def doubted(observation: Observation, reason: str) -> Observation:
    """Return an observation as a warning, with the reason why it is no more."""
    return dataclasses.replace(
        observation,
        severity=Severity.WARNING,
        sentence=f"{observation.sentence}; but {reason}",
    )


def confirmed(
    observation: Observation,
    sleeper: waking.Sleeper,
    paths: Paths,
    rig: forcing.Rig,
    *,
    honest: bool = True,
) -> Observation:
    """Return the observation with an input that wakes the value, where one is found.

    Honest guards against empty pictures wake on those, and on no others.

    Args:
        observation: Of the value.
        sleeper: The value.
        paths: The graph.
        rig: The model.
        honest: Whether it may be such a guard at all.
    """
    ends, rig.until = rig.until, time.monotonic() + _TO_WAKE
    guards, woken, shown, how = False, None, None, "none was found"
    try:
        guards = honest and _is_guard(sleeper, rig)
        flow = unfold(rig.flat) if sleeper.channels is None else None
        woken = waking.wake(rig, paths, sleeper, flow, textured=guards)
        shown = None if woken is None else _pictured(woken, sleeper, rig)
    except WorkerTimeoutError:
        # Forcing has already shown what the path does: the end of the time takes no finding away.
        how = "the time ran out"
    finally:
        rig.until = ends
    if woken is not None and not woken.decides:
        reason = "the images that were found to move it are answered by themselves"
        return doubted(observation, reason)
    if woken is not None:
        how, shown = woken.how, shown or kept.pictured(woken.image, rig.span)
    outcome = {"woken": woken is not None, "how": how, "empty_images_wake_it": guards}
    observation = dataclasses.replace(
        observation, details={**observation.details, "confirmation": outcome}
    )
    if shown is not None:
        return _with_input(observation, shown)
    if guards:
        reason = "only empty images were found to wake it, as if it guards against those"
        return doubted(observation, reason)
    if sleeper.doubt:
        return doubted(observation, f"{sleeper.doubt}, and no image was found that wakes it")
    return observation


def _is_guard(sleeper: waking.Sleeper, rig: forcing.Rig) -> bool:
    """Whether an empty image wakes it, or half of the plain ones: a bright one alone does not."""
    plain = forcing.plain(rig.images.shape[1:], rig.span, _PLAIN)
    images = [probes.rounded(image, rig.dtype) for image in plain]
    reached = sleeper.reaches or (lambda _: False)
    woken = [reached(image) or waking.wakes(rig, sleeper, image) for image in images]
    return woken[0] or sum(woken) >= _PLAIN / 2


def _pictured(woken: waking.Woken, sleeper: waking.Sleeper, rig: forcing.Rig) -> Input:
    """Return an image that wakes a value with its classes, and what the same change does to others.

    Raises:
        WorkerTimeoutError: The time ran out.
    """
    image, original = woken.image, woken.original
    after = rig.answer_to(image)
    share = None
    if original is not None:
        others = rig.images[waking.STARTS :][: asked(rig)]
        alike = kept.changed_alike(others, original, image)
        if alike is not None:
            before, then = ([rig.answer_to(each) for each in part] for part in (others, alike))
            share = kept.success(before, then, kept.class_in(after))
    answered = kept.Answered(
        after=after,
        without=sleeper.asleep(image),
        original=original,
        before=None if original is None else rig.answer_to(original),
        success=share,
    )
    return kept.pictured(image, rig.span, answered)


def _with_input(observation: Observation, shown: Input) -> Observation:
    return dataclasses.replace(
        observation,
        severity=Severity.CONFIRMED,
        sentence=f"{observation.sentence}. Confirmed: an input wakes it, and the model answers "
        "that input differently while it is held constant",
        input=shown,
    )
