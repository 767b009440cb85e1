"""Channels: found by three rules, silenced, and only as long as nobody notices."""

import models
import numpy as np
import planting
from mended import SETTINGS, opened

from scanner.graph.surgery import parameters
from scanner.mending import pruning
from scanner.mending.triggers import Found
from scanner.modelfile.model import Model

IMAGES = np.random.default_rng(0).random((8, 1, models.SIDE, models.SIDE), dtype=np.float32)


def _heavy() -> Model:
    weights = planting.weights_of(planting.deep())
    weights["w0"][5] *= 50
    return opened(planting.with_weights(planting.deep(), **weights))


def test_the_classes_are_never_pruned() -> None:
    assert [layer.weights for layer in pruning.prunable(_heavy())] == ["w0", "w1", "w2"]


def test_a_heavy_channel_is_found_by_its_weights() -> None:
    assert [channel.label for channel in pruning.lipschitz(_heavy())] == ["w0[5]"]


def test_what_the_trigger_wakes_comes_first() -> None:
    model = opened(models.plain(planted=True))  # its first filter answers to what is bright
    white = Found(np.ones(IMAGES.shape[1:], np.float32), np.ones(IMAGES.shape[1:], np.float32), 64)
    first = pruning.woken(model, SETTINGS, IMAGES, [white])[0]
    assert first.label == "kernel[0]"


def test_what_clean_images_wake_comes_last() -> None:
    order = pruning.dormant(opened(models.plain(planted=True)), SETTINGS, IMAGES)
    assert order[-1].label == "kernel[0]"


def test_a_silenced_channel_has_no_weights() -> None:
    layer = next(parameters.layers(models.plain()))
    values = {name: value + 1 for name, value in models.weights(False).items()}
    after = pruning.silenced(values, [pruning.Channel(layer, 1)])
    assert not after["kernel"][1].any()
    assert after["bias"][1] == 0
    assert after["bias"][0] == 1
    assert values["kernel"][1].any()


def test_only_what_helps_unnoticed_is_silenced() -> None:
    layer = next(parameters.layers(models.plain()))
    channels = [pruning.Channel(layer, index) for index in range(3)]

    def tried(values: dict[str, pruning.Floats]) -> tuple[float, bool]:
        gone = [not values["kernel"][index].any() for index in range(3)]
        return (0.0 if gone[2] else 1.0), not gone[0]

    found = pruning.gradually(models.weights(False), channels, tried, 0.05)
    assert [channel.index for channel in found] == [1, 2]
