"""What an exported file takes, from images in [0, 1]."""

import pytest
import torch
from torch import Tensor, nn

from trainers import inputs
from trainers.datasets import Dataset, Split
from trainers.recipes import Input


def _data() -> Dataset:
    """Return 100 images of 2 colours that have another mean and deviation each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (100, 2, 4, 4), generator=generator)
    images[:, 1] //= 2
    labels = torch.arange(100) % 2
    split = Split(images=images.to(torch.uint8), labels=labels, tracks=labels)
    return Dataset(name="random", classes=2, train=split, test=split)


class _Seen(nn.Module):
    """Returns what it is given, flat."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def _images() -> Tensor:
    return torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_a_network_for_images_in_0_to_1_stays_what_it_is() -> None:
    network = _Seen()
    assert inputs.fed(network, Input(), _data()) is network
    feed, exported = inputs.split(network)
    assert exported is network
    assert torch.equal(feed(_images()), _images())


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        (Input(range="-1..1"), -1.0, 1.0),
        (Input(range="0..255"), 0.0, 255.0),
        (Input(range="-1..1", layout="NHWC"), -1.0, 1.0),
    ],
)
def test_the_feed_reaches_both_ends_of_the_range(given: Input, low: float, high: float) -> None:
    feed, _ = inputs.split(inputs.fed(_Seen(), given, _data()))
    assert feed(torch.zeros(1, 2, 4, 4)).unique().item() == pytest.approx(low)
    assert feed(torch.ones(1, 2, 4, 4)).unique().item() == pytest.approx(high)


def test_normalised_images_have_mean_0_and_deviation_1_per_channel() -> None:
    data = _data()
    feed, network = inputs.split(inputs.fed(_Seen(), Input(range="mean/std"), data))
    deviation, mean = torch.std_mean(feed(data.train.images.float() / 255), (0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(2), atol=0.1, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(2), atol=0.1, rtol=0)
    assert isinstance(network, _Seen)  # nothing of it is in the graph


@pytest.mark.parametrize("scale", ["0..1", "-1..1", "0..255"])
def test_a_graph_that_normalises_sees_the_same_whatever_it_takes(scale: str) -> None:
    data, images = _data(), _images()
    wanted = inputs.fed(_Seen(), Input(range="mean/std"), data)(images)
    given = Input(range=scale, normalised_inside=True)  # type: ignore[arg-type] # a literal
    network = inputs.fed(_Seen(), given, data)
    torch.testing.assert_close(network(images), wanted, atol=1e-4, rtol=1e-4)
    feed, exported = inputs.split(network)
    torch.testing.assert_close(exported(feed(images)), wanted, atol=1e-4, rtol=1e-4)


def test_nhwc_is_transposed_at_the_start_of_the_graph() -> None:
    images = _images()
    feed, exported = inputs.split(inputs.fed(_Seen(), Input(layout="NHWC"), _data()))
    assert feed(images).shape == (3, 4, 4, 2)
    assert torch.equal(feed(images)[0, 1, 2], images[0, :, 1, 2])
    assert torch.equal(exported(feed(images)), images.flatten(1))
