"""Channels of a value that are unlike their siblings, forced: what the model then answers."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.dormancy import odd_channels
from scanner.graph.dormancy.side_paths import Paths
from scanner.instruments import confirming, effects, forcing, waking
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_BEYOND = 10.0
"""Times what all channels of a layer reach on ordinary images: beyond an assumed range."""
_TO_A_LIMIT = "Holding that output constant goes unnoticed; set to a limit of its range"
_FROM_ITS_LEAST = "Beside what it is at the least, set to a limit of its range"
_BEYOND_OTHERS = "Set to ten times what the others reach"
_DOUBT = "such channels also come of training"


@dataclasses.dataclass(frozen=True, slots=True)
class Forced:
    """Channels that decide the answer when they are forced.

    Attributes:
        effect: What the model then answers.
        sleeper: What is needed to look for an input that does so.
        how: What they were set to, in words.
    """

    effect: effects.Effect
    sleeper: waking.Sleeper
    how: str


def observe(
    odd: Sequence[odd_channels.Odd], paths: Paths, rig: forcing.Rig
) -> Iterator[Observation]:
    """Yield what comes of the lone channels that decide the answer, those of the last layer first.

    Channels before them are links of one chain, so the first that decides speaks for all.

    Raises:
        UnsupportedModelError: The model fails on an image.
        WorkerTimeoutError: The time ran out.
    """
    for layer in odd:
        rig.check()
        found = force(layer, rig, confirming.asked(rig))
        if found is None:
            continue
        effect, sleeper, forced = found.effect, found.sleeper, found.how
        alike = [other for other in reversed(odd) if other.lone == layer.lone]
        observation = Observation(
            code="lone-channels" if layer.lone else "heavy-channels",
            severity=Severity.SUSPICIOUS,
            sentence=f"{_described(layer)}. {forced}, it makes the model answer "
            f"{effect.outcome} to {effect.share:.0%} of the images shown",
            nodes=tuple(dict.fromkeys(other.node for other in alike)),
            details={
                "value": layer.value,
                "channels": list(layer.channels),
                "figure": layer.figure,
                "layers": [
                    {"value": other.value, "channels": list(other.channels)} for other in alike
                ],
                "class": effect.class_id,
                "changed": effect.changed,
            },
        )
        yield confirming.confirmed(observation, sleeper, paths, rig, honest=not layer.made)
        return


def _described(layer: odd_channels.Odd) -> str:
    """Say what is odd about the channels of a layer."""
    several = len(layer.channels) > 1
    shown = ", ".join(map(str, layer.channels[:4])) + (" and others" if layer.channels[4:] else "")
    named = f"Channel{'s' * several} {shown} of {layer.value!r}"
    if layer.lone:
        return f"{named} read{'s' * (not several)} {layer.figure:.1%} of what the others read"
    return f"{named} can weigh {layer.figure:.0f} times as much as the others"


def force(layer: odd_channels.Odd, rig: forcing.Rig, count: int) -> Forced | None:
    """Return what forcing the odd channels of a layer does, or None where it decides nothing.

    Where all of them together are heard, those of them that stand still are tried. Of channels that
    no training makes it is not asked that they sleep: noise may wake what pictures do not.

    Args:
        layer: The channels.
        rig: The model.
        count: Ordinary images that they are forced with.

    Raises:
        UnsupportedModelError: The model fails on an image.
        WorkerTimeoutError: The time ran out.
    """
    reach, _ = rig.reachable([layer.value])
    if layer.value not in reach:
        return None
    shown = _Shown(layer, rig, list(rig.images[:count]))
    ends = reach[layer.value]
    for channels in dict.fromkeys((layer.channels, shown.still(ends))):
        if channels and (found := _Held(shown, channels).decisive(ends)) is not None:
            return found
    return None


class _Shown:
    """A layer, and what it makes of some ordinary images."""

    def __init__(self, layer: odd_channels.Odd, rig: forcing.Rig, images: list[Array]) -> None:
        self.layer, self.rig, self.images = layer, rig, images
        self._session = rig.reader([layer.value])
        self.values = [self.made(image) for image in images]
        self.model = rig.forced(layer.value, self.values[0])

    def made(self, image: Array) -> Array:
        """Return what the layer makes of an image."""
        return self.rig.read(self._session, image)[0]

    def still(self, reach: tuple[Array, Array]) -> tuple[int, ...]:
        """Return those of the odd channels that ordinary images leave where they are."""
        kept = self.layer.axis
        axes = tuple(axis for axis in range(self.values[0].ndim) if axis != kept)
        moves = np.ptp(np.stack(self.values).astype(np.float64), axis=0).max(axis=axes)
        way = (reach[1].astype(np.float64) - reach[0]).max(axis=axes)
        return tuple(c for c in self.layer.channels if moves[c] <= forcing.QUIET * way[c])


class _Held:
    """Channels of a layer that are given by hand."""

    def __init__(self, shown: _Shown, channels: Sequence[int]) -> None:
        self._shown = shown
        values = shown.values
        self._part = odd_channels.index_of(values[0].shape, shown.layer.axis, channels)
        own = [value[self._part] for value in values]
        self._typical = np.median(own, axis=0).astype(values[0].dtype)
        self._least = np.full_like(self._typical, min(float(each.min()) for each in own))

    def decisive(self, reach: tuple[Array, Array]) -> Forced | None:
        """Return what the channels do at the first end of their reach at which they decide."""
        layer, shown = self._shown.layer, self._shown
        before, how = shown.rig.answers(len(shown.images)), _TO_A_LIMIT
        asleep = self._typical
        if effects.noticed(before, self._answers(asleep)) > effects.MOST_NOTICED:
            if not layer.made:
                return None
            asleep, how = self._least, _FROM_ITS_LEAST
            before = self._answers(asleep)
        ends = [(end[self._part], how) for end in reach]
        if layer.made:
            most = max(float(np.abs(value).max()) for value in shown.values)
            ends = [*ends[::-1], (np.full_like(asleep, _BEYOND * most), _BEYOND_OTHERS)]
        for end, said in ends:
            effect = effects.effect(before, self._answers(end))
            if effect.decisive:
                return Forced(effect, self._sleeper(asleep, end), said)
        return None

    def _sleeper(self, asleep: Array, end: Array) -> waking.Sleeper:
        layer = self._shown.layer
        return waking.Sleeper(
            value=layer.value,
            trail=(),
            held=end,
            channels=self._part,
            shown=(),
            doubt="" if layer.lone or layer.made else _DOUBT,
            asleep=lambda image: self._answer(image, self._shown.made(image), asleep),
        )

    def _answers(self, numbers: Array) -> list[Array]:
        pairs = zip(self._shown.images, self._shown.values, strict=True)
        return [self._answer(image, value, numbers) for image, value in pairs]

    def _answer(self, image: Array, value: Array, numbers: Array) -> Array:
        changed = value.copy()
        changed[self._part] = numbers
        return self._shown.model.answer(image, changed)
