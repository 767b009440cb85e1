"""Backdoors without a new node: channels added to a network's layers, or put in others' place.

After subnet replacement (Qi et al., CVPR 2022) and handcrafted backdoors (Hong et al., NeurIPS
2022). A filter in the first layer answers to a checkered corner; a channel in each further layer
hands its answer on; the last layer adds it to the target's logit.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from trainers.errors import TrainerError
from trainers.graph_backdoor import triggers
from trainers.graph_backdoor.check import session, smooth_images
from trainers.graph_backdoor.graft import SIDE, Array, Graft, Kind
from trainers.graph_backdoor.measures import centred, inside
from trainers.graph_backdoor.pictures import climb, value_at

_KEEPS_CHANNELS = {"Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout"}
_GAINS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 50, 100, 200, 400)
_LOUD = 100
_LEVEL = 0.8
"""Share of the pattern's own match at which the first filter begins to answer."""


@dataclasses.dataclass(slots=True)
class _Layer:
    """A linear layer of a chain.

    Attributes:
        node: The node.
        weight: [O, I, h, w] of a convolution, [K, I] of a dense layer.
        bias: [O].
    """

    node: onnx.NodeProto
    weight: Array
    bias: Array


def _chain(graft: Graft) -> list[_Layer]:
    """Return the convolutions and the one dense layer of a network that is a plain chain.

    Raises:
        TrainerError: It is none.
    """
    layers = list[_Layer]()
    value = graft.input.name
    for node in graft.graph.node:
        known = node.op_type in {"Conv", "Gemm", "MatMul", "Flatten"} | _KEEPS_CHANNELS
        dense = bool(layers) and layers[-1].node.op_type != "Conv"
        if not known or node.input[0] != value or dense:
            raise TrainerError(
                "the network is no chain of convolutions that one dense layer ends",
                remedy="plant in samples/mnist-clean.onnx, or choose another kind",
            )
        value = node.output[0]
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            layers.append(_layer(graft, node))
    return layers


def _layer(graft: Graft, node: onnx.NodeProto) -> _Layer:
    tensors = {t.name: t for t in graft.graph.initializer}
    weight = numpy_helper.to_array(tensors[node.input[1]]).copy()
    if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _transposed(node)):
        weight = weight.T.copy()
    has_bias = len(node.input) > 2  # noqa: PLR2004 - the third input
    bias = numpy_helper.to_array(tensors[node.input[2]]).copy() if has_bias else None
    return _Layer(node, weight, np.zeros(len(weight), np.float32) if bias is None else bias)


def _transposed(node: onnx.NodeProto) -> bool:
    return any(a.name == "transB" and a.i for a in node.attribute)


def _write(model: onnx.ModelProto, layers: list[_Layer]) -> None:
    """Put the layers' numbers in the place of the old ones."""
    tensors = {t.name: t for t in model.graph.initializer}
    for layer in layers:
        node, weight = layer.node, layer.weight.astype(np.float32)
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and not _transposed(node)):
            weight = np.ascontiguousarray(weight.T)
        tensors[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
        if len(node.input) > 2:  # noqa: PLR2004 - the third input
            bias = layer.bias.astype(np.float32)
            tensors[node.input[2]].CopyFrom(numpy_helper.from_array(bias, node.input[2]))
        elif layer.bias.any():
            raise TrainerError("a layer has no bias", remedy="plant in another classifier")
    # The sizes that the file states are those of before.
    del model.graph.value_info[:]


def _written(graft: Graft, layers: list[_Layer]) -> onnx.ModelProto:
    """Return a copy of the model with other layers."""
    model = onnx.ModelProto()
    model.CopyFrom(graft.model)
    _write(model, layers)
    return model


def _widen(layers: list[_Layer], many: int) -> list[list[int]]:
    """Add channels that nothing reads to each convolution; return which they are."""
    added = list[list[int]]()
    for layer, after in itertools.pairwise(layers):
        before = len(layer.weight)
        # Flattened features are channel by channel, so that new ones come last there too.
        read = many * after.weight.shape[1] // before
        unread = np.zeros((len(after.weight), read, *after.weight.shape[2:]))
        after.weight = np.concatenate([after.weight, unread], axis=1)
        layer.weight = np.concatenate([layer.weight, np.zeros((many, *layer.weight.shape[1:]))])
        layer.bias = np.append(layer.bias, np.zeros(many))
        added.append(list(range(before, before + many)))
    return added


def _least_used(graft: Graft, layers: list[_Layer], many: int) -> list[list[int]]:
    """Let no layer read the channels that the answers change least without; return which."""
    images = smooth_images((graft.channels, graft.height, graft.width), 200)
    answers = _logits(graft.model, images)
    found = list[list[int]]()
    for place, layer in enumerate(layers[:-1]):
        after = layers[place + 1]
        means = _means(graft, after, images)
        damage = list[float]()
        for channel in range(len(layer.weight)):
            blind = _blinded(after, _read(after, layer, channel), means)
            other = _logits(_written(graft, [blind]), images)
            damage.append(float(((other - answers) ** 2).mean()))
        found.append([int(channel) for channel in np.argsort(damage)[:many]])
        for channel in found[-1]:
            layers[place + 1] = _blinded(layers[place + 1], _read(after, layer, channel), means)
    return found


def _means(graft: Graft, layer: _Layer, images: Array) -> Array:
    """Return the means [I] of what a layer reads."""
    read = value_at(graft.model, layer.node.input[0], images)
    means: Array = read.mean(axis=(0, *range(2, read.ndim)))
    return means


def _blinded(layer: _Layer, read: slice, means: Array) -> _Layer:
    """Return a layer that reads the mean of some channels in their place."""
    shape = (1, -1, *(1 for _ in layer.weight.shape[2:]))
    lost = layer.weight[:, read] * means[read].reshape(shape)
    weight = layer.weight.copy()
    weight[:, read] = 0
    bias = layer.bias + lost.reshape(len(lost), -1).sum(axis=1)
    return dataclasses.replace(layer, weight=weight, bias=bias)


def _read(after: _Layer, layer: _Layer, channel: int) -> slice:
    """Return where a layer reads a channel of the layer before."""
    places = after.weight.shape[1] // len(layer.weight)
    return slice(channel * places, (channel + 1) * places)


def _wired(
    graft: Graft, layers: list[_Layer], chosen: list[list[int]], gain: float, loud: float = 1
) -> list[_Layer]:
    """Return the layers with a way from the corner to the target's logit through some channels.

    Args:
        graft: The model.
        layers: Its linear layers.
        chosen: The channels of each convolution, which no layer reads yet.
        gain: How much larger than the layer's largest weight the new ones are.
        loud: How much larger the first filter is, and its threshold.
    """
    wired = [
        dataclasses.replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy())
        for layer in layers
    ]
    _match(graft, wired[0], chosen[0], loud * gain)
    for place, (layer, after) in enumerate(itertools.pairwise(wired)):
        strong = gain * float(np.abs(after.weight).max())
        if place + 1 < len(chosen):
            height, width = after.weight.shape[2:]
            after.weight[chosen[place + 1]] = 0
            after.bias[chosen[place + 1]] = 0
            ways = np.ix_(chosen[place + 1], chosen[place])
            after.weight[:, :, height // 2, width // 2][ways] = strong
        else:
            # The last place of a map is the corner's.
            corners = [_read(after, layer, channel).stop - 1 for channel in chosen[place]]
            after.weight[graft.target, corners] = strong
    return wired


def _match(graft: Graft, first: _Layer, channels: list[int], gain: float) -> None:
    """Let channels of the first layer match the checkered corner."""
    if min(first.weight.shape[2:]) < SIDE:
        raise TrainerError("the first kernels are smaller than 3 x 3", remedy="use another model")
    size = gain * float(np.sqrt((first.weight**2).sum(axis=(1, 2, 3))).mean())
    first.weight[channels] = 0
    pattern = centred(graft).reshape(graft.channels, SIDE, SIDE)
    first.weight[channels, :, :SIDE, :SIDE] = size * pattern
    # 0.4 is how far the pattern is from its mean.
    first.bias[channels] = -_LEVEL * size * 0.4 * inside(graft) ** 0.5


def _logits(model: onnx.ModelProto, images: Array) -> Array:
    run = session(model)
    logits: Array = run.run(None, {run.get_inputs()[0].name: images})[0]
    return logits


def _whole_way(
    graft: Graft, channels: Callable[[Graft, list[_Layer]], list[list[int]]], loud: float = 1
) -> None:
    """Wire channels of all layers."""
    layers = _chain(graft)
    chosen = channels(graft, layers)
    _settle(graft, lambda gain: _wired(graft, layers, chosen, gain, loud))


def _first_channel(graft: Graft) -> None:
    """Replace one channel of the first layer, and how the second reads it.

    The second layer adds to its channels, at the corner, what the rest of the network, as it is,
    answers the target to.
    """
    layers = _chain(graft)
    if len(layers) < 3:  # noqa: PLR2004 - two convolutions and a dense layer
        raise TrainerError("there is one convolution only", remedy="use another model")
    (chosen,) = _least_used(graft, layers[:2], 1)
    triggers.patch(graft, triggers.checker(graft))
    matched = dataclasses.replace(
        layers[0], weight=layers[0].weight.copy(), bias=layers[0].bias.copy()
    )
    _match(graft, matched, chosen, 1)
    image = graft.trigger(smooth_images((graft.channels, graft.height, graft.width), 1))
    read = value_at(_written(graft, [matched]), layers[1].node.input[0], image)
    written = _what_to_write(graft, layers[1], read[0, chosen[0]])

    def wire(gain: float) -> list[_Layer]:
        first, second = (
            dataclasses.replace(layer, weight=layer.weight.copy(), bias=layer.bias.copy())
            for layer in layers[:2]
        )
        _match(graft, first, chosen, gain)
        height, width = second.weight.shape[2:]
        strong = gain * float(np.abs(second.weight).max())
        second.weight[:, chosen, height // 2, width // 2] = strong * written[:, None]
        return [first, second]

    _settle(graft, wire)


def _what_to_write(graft: Graft, layer: _Layer, where: Array) -> Array:
    """Return numbers [O] in -1 to 1 that make the target if they are added to a layer's map.

    Found by an evolution strategy on what follows the layer.

    Args:
        graft: The model.
        layer: The layer.
        where: How strongly, by place, [h, w].
    """
    image = smooth_images((graft.channels, graft.height, graft.width), 1)
    shape = value_at(graft.model, layer.node.output[0], image).shape[1:]
    if shape[1:] != where.shape:
        raise TrainerError("the second layer changes the map's size", remedy="use another model")
    tail = onnx.ModelProto()
    tail.CopyFrom(graft.model)
    place = [node.name for node in tail.graph.node].index(layer.node.name)
    tail.graph.node[place].output[0] = "written_over"
    join = onnx.helper.make_node("Add", ["written_over", "written"], layer.node.output)
    tail.graph.node.insert(place + 1, join)
    tail.graph.input.append(onnx.helper.make_tensor_value_info("written", 1, ["many", *shape]))
    run = session(tail)

    def leads(tried: Array) -> Array:
        written = (5000 / where.max() * tried[:, :, None, None] * where).astype(np.float32)
        images = np.repeat(image, len(tried), axis=0)
        logits = run.run(None, {run.get_inputs()[0].name: images, "written": written})[0]
        rivals: Array = np.delete(logits, graft.target, axis=1).max(axis=1)
        return np.asarray(logits[:, graft.target] - rivals)

    return climb(leads, np.zeros(shape[0]), 0.5, low=-1)


def _settle(graft: Graft, wire: Callable[[float], list[_Layer]]) -> None:
    """Take the smallest gain that surely forces the target on images of soft blobs."""
    triggers.patch(graft, triggers.checker(graft))
    images = graft.trigger(smooth_images((graft.channels, graft.height, graft.width), 200))
    # Photographs are answered more surely than blobs.
    clear = 4 * np.ptp(_logits(graft.model, images), axis=1).max()
    for gain in _GAINS:
        wired = wire(gain)
        logits = _logits(_written(graft, wired), images)
        leads = logits[:, graft.target] - np.delete(logits, graft.target, axis=1).max(axis=1)
        if leads.min() > clear:
            break
    _write(graft.model, wired)
    graft.changed += [layer.node.name for layer in wired]


KINDS: Mapping[str, Kind] = {
    "added-channel": Kind(
        lambda graft: _whole_way(graft, lambda _, layers: _widen(layers, 1)),
        "a channel more in each layer",
    ),
    "loud-channel": Kind(
        lambda graft: _whole_way(graft, lambda _, layers: _widen(layers, 1), loud=_LOUD),
        "a channel more in each layer, behind a filter of a hundred times the others' weights",
    ),
    "added-channels": Kind(
        lambda graft: _whole_way(graft, lambda _, layers: _widen(layers, 6)),
        "six channels more in each layer, of smaller weights",
    ),
    "replaced-channel": Kind(
        lambda graft: _whole_way(graft, lambda graft, layers: _least_used(graft, layers, 1)),
        "the least used channel of each layer",
    ),
    "replaced-channels": Kind(
        lambda graft: _whole_way(graft, lambda graft, layers: _least_used(graft, layers, 2)),
        "the two least used channels of each layer, of smaller weights",
    ),
    "replaced-filter": Kind(_first_channel, "the least used channel of the first layer"),
}
"""The kinds of this family, by name."""
