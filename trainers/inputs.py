"""Between images in [0, 1], which triggers work on, and what an exported file takes."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainers.datasets import Dataset
from trainers.recipes import Input

SCALES: Mapping[str, tuple[float, float]] = {
    "0..1": (0.0, 1.0),
    "-1..1": (0.5, 0.5),
    "0..255": (0.0, 1 / 255),
}
"""(x - first) / second is a pixel x in [0, 1], in the range."""


class Normalise(nn.Module):
    """(x - mean) / deviation, per channel."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.reshape(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images."""
        return (images - self.mean) / self.deviation


class ChannelsFirst(nn.Module):
    """(N, H, W, C) to (N, C, H, W), or back."""

    def __init__(self, *, back: bool = False) -> None:
        super().__init__()
        self.order = (0, 2, 3, 1) if back else (0, 3, 1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the images with their axes in the other order."""
        return images.permute(self.order).contiguous()


class Fed(nn.Module):
    """A network that takes something other than images in [0, 1], channels first, and its feed.

    Attributes:
        feed: From such images to what the network takes.
        network: What is exported.
    """

    def __init__(self, feed: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.feed = feed
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images in [0, 1]."""
        logits: Tensor = self.network(self.feed(images))
        return logits


def fed(network: nn.Module, given: Input, dataset: Dataset) -> nn.Module:
    """Return the network fed as `given` says; itself where it takes images in [0, 1]."""
    if given == Input():
        return network
    mean, deviation = statistics(dataset)
    feed: list[nn.Module] = []
    if given.range == "mean/std":
        feed.append(Normalise(mean, deviation))
    elif given.range != "0..1":
        feed.append(Normalise(*map(torch.tensor, SCALES[given.range])))
    if given.normalised_inside:
        first, second = SCALES[given.range]
        network = nn.Sequential(Normalise((mean - first) / second, deviation / second), network)
    if given.layout == "NHWC":
        feed.append(ChannelsFirst(back=True))
        network = nn.Sequential(ChannelsFirst(), network)
    return Fed(nn.Sequential(*feed), network)


def statistics(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of the training images in [0, 1], per channel."""
    images = dataset.train.images[:5000].double() / 255
    deviation, mean = torch.std_mean(images, (0, 2, 3))
    # Two digits, as people write them.
    return mean.float().mul(100).round() / 100, deviation.float().mul(100).round() / 100


def split(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return what feeds a network, and the network as it is exported."""
    return (network.feed, network.network) if isinstance(network, Fed) else (nn.Identity(), network)
