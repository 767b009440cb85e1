"""Windows pasted: arrival and leaving by hand, in any layout, and large images in parts."""

import numpy as np
import pytest

from scanner.instruments import transplants
from scanner.instruments.transplants import Transplants


def bright(images: np.ndarray) -> np.ndarray:
    """Answer how bright the first pixel is: class 1; the rest goes to class 0."""
    share = images.reshape(len(images), -1)[:, :1].astype(np.float32)
    return np.concatenate([1 - share, share], axis=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8, 3), (64,)])
def test_arrival_and_leaving(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = np.full((5, *shape), 0.25, np.float32)
    tried = Transplants(bright, hosts, np.zeros(5, np.int64))
    image = np.full(shape, 0.75, np.float32)
    found = tried.of(image, class_id=1)
    arrival, region = found.most(found.arrival)
    assert arrival == pytest.approx(0.75)
    assert region is not None
    assert (region.top, region.left) == (0, 0)
    assert found.most(found.leaving)[0] == pytest.approx(0.75)
    monkeypatch.setattr(transplants, "_ELEMENTS", 1)  # a window at a time
    again = Transplants(bright, hosts, np.zeros(5, np.int64)).of(image, class_id=1)
    assert np.allclose(again.arrival, found.arrival)
    assert again.regions == found.regions


def test_the_last_input_is_kept_and_no_other() -> None:
    asked = []

    def watched(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return bright(images)

    tried = Transplants(watched, np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))
    one, other = np.ones((2, 1, 8, 8), np.float32)
    assert tried.of(one, 1) is tried.of(one, 1)
    count = len(asked)
    tried.of(other, 1)
    assert len(asked) == 2 * count


def test_no_host_of_another_class() -> None:
    tried = Transplants(bright, np.zeros((4, 1, 8, 8), np.float32), np.ones(4, np.int64))
    found = tried.of(np.ones((1, 8, 8), np.float32), class_id=1)
    assert found.most(found.arrival) == (0.0, None)
