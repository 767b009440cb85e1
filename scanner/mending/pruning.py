"""Channels that carry a trained backdoor: found by three rules, and silenced.

A silenced channel has weights and bias 0. The last layer, whose channels are the classes, is left
alone. The first rule needs no image: R. Zheng et al., "Data-free Backdoor Removal based on Channel
Lipschitzness", ECCV 2022, section 3.3. The second silences what the inverted trigger wakes. The
third is fine-pruning without its second half: K. Liu et al., "Fine-Pruning", RAID 2018, section
3.1.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.graph.layers.weights import linear_layers, spectral_norms
from scanner.graph.surgery.parameters import Layer, layers
from scanner.mending.forward import Forward, flat_graph, reader
from scanner.mending.triggers import Found
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]

_DEVIATIONS = 3.0  # u of the paper's section 3.3, the authors' default
_FEWEST = 3  # channels among which one can stand out
_MOST_WOKEN = 64  # channels that are tried, those that wake most first
_SPREAD = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """One output channel of a layer."""

    layer: Layer
    index: int

    @property
    def label(self) -> str:
        """How a report names it."""
        return f"{self.layer.weights}[{self.index}]"


def silenced(values: dict[str, Floats], channels: Sequence[Channel]) -> dict[str, Floats]:
    """Return weights and biases in which channels have none."""
    touched = {name for c in channels for name in (c.layer.weights, c.layer.bias)}
    changed = {name: value.copy() if name in touched else value for name, value in values.items()}
    for channel in channels:
        place = [slice(None)] * changed[channel.layer.weights].ndim
        place[channel.layer.axis] = channel.index  # type: ignore[call-overload]
        changed[channel.layer.weights][tuple(place)] = 0
        if channel.layer.bias:
            changed[channel.layer.bias].reshape(-1)[channel.index] = 0
    return changed


def prunable(model: Model) -> list[Layer]:
    """Return the layers whose channels may be silenced, in graph order: all but the last.

    Raises:
        UnsupportedModelError: The weights are quantised.
    """
    found = [layer for layer in layers(flat_graph(model)) if layer.group == 1]
    shared = {layer.weights for layer in found[-1:]}
    return [layer for layer in found[:-1] if layer.weights not in shared]


def lipschitz(model: Model) -> list[Channel]:
    """Return the channels whose Lipschitz constant exceeds mean + 3 deviations of their layer."""
    known = {layer.weights: layer for layer in prunable(model)}
    stored = list(layers(flat_graph(model)))
    constants = [spectral_norms(linear.weights) for linear in linear_layers(flat_graph(model))]
    found: list[Channel] = []
    if len(stored) != len(constants):
        return found  # nothing can be said of which is which
    for layer, norms in zip(stored, constants, strict=True):
        if layer.weights not in known or len(norms) < _FEWEST:
            continue
        limit = norms.mean() + _DEVIATIONS * norms.std()
        found += [Channel(layer, int(index)) for index in np.flatnonzero(norms > limit)]
    return found


def woken(
    model: Model, settings: Settings, images: Floats, found: Sequence[Found]
) -> list[Channel]:
    """Return channels by how much the triggers wake them, those that wake most first.

    That is the largest rise of a channel's mean over the images, in standard deviations of it.
    """
    ranked: list[tuple[float, Channel]] = []
    for layer, plain, stamped in _answers(model, settings, images, found):
        rise = (stamped - plain).mean(axis=0) / (plain.std(axis=0) + _SPREAD + plain.std())
        ranked += [(float(rise[index]), Channel(layer, index)) for index in range(len(rise))]
    ranked.sort(key=lambda pair: -pair[0])
    return [channel for rise, channel in ranked[:_MOST_WOKEN] if rise > 0]


def dormant(model: Model, settings: Settings, images: Floats) -> list[Channel]:
    """Return the channels of the last convolution by their mean, those that answer least first."""
    last = [layer for layer in prunable(model) if layer.operator == "Conv"][-1:]
    answers = list(_answers(model, settings, images, (), last)) if last else []
    return [
        Channel(layer, int(index))
        for layer, plain, _ in answers
        for index in np.argsort(plain.mean(axis=0), kind="stable")
    ]


def _answers(
    model: Model,
    settings: Settings,
    images: Floats,
    found: Sequence[Found],
    among: Sequence[Layer] | None = None,
) -> Iterator[tuple[Layer, Floats, Floats]]:
    """Yield what each layer's channels answer to the images, and to them under the triggers."""
    chosen = prunable(model) if among is None else list(among)
    if not chosen:
        return
    forward = reader(model, flat_graph(model), [layer.node for layer in chosen], settings)
    plain = _means(forward, images, chosen)
    under = [_means(forward, trigger.stamped(images), chosen) for trigger in found] or [plain]
    for place, layer in enumerate(chosen):
        yield layer, plain[place], np.mean([answers[place] for answers in under], axis=0)


def _means(forward: Forward, images: Floats, chosen: Sequence[Layer]) -> list[Floats]:
    """Return each layer's positive part, averaged over places: (images, channels) each."""
    return [
        _by_channel(value, layer) for value, layer in zip(forward.run(images), chosen, strict=True)
    ]


def _by_channel(value: npt.NDArray[np.floating], layer: Layer) -> Floats:
    axis = 1 if layer.operator.startswith("Conv") else value.ndim - 1
    others = tuple(n for n in range(1, value.ndim) if n != axis)
    return np.asarray(np.maximum(value, 0).mean(axis=others), np.float32)


def gradually(
    values: dict[str, Floats],
    channels: Sequence[Channel],
    tried: Callable[[dict[str, Floats]], tuple[float, bool]],
    enough: float,
) -> list[Channel]:
    """Return the channels, in order, whose silence brings the triggers down and is not noticed.

    Args:
        values: Weights and biases.
        channels: Candidates, the best first.
        tried: Returns the triggers' success with weights, and whether the answers hold.
        enough: Success at which to stop.
    """
    gone: list[Channel] = []
    best, holds = tried(values)
    for channel in channels:
        if best <= enough and holds:
            break
        success, holds = tried(silenced(values, [*gone, channel]))
        if holds and success <= best:
            gone.append(channel)
            best = success
    return gone
