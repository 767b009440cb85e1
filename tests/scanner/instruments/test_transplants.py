"""Windows pasted: arrival and leaving by hand, in any layout, and large images in parts."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 16), st.sampled_from([(1, 8, 8), (1, 16, 16), (3,)]), st.integers(0, 9))
def test_no_more_is_shown_than_is_told(hosts: int, shape: tuple[int, ...], seed: int) -> None:
    generator, asked = np.random.default_rng(seed), []

    def watched(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        return bright(images)

    clean = generator.random((hosts, *shape), np.float32)
    tried = Transplants(watched, clean, np.zeros(hosts, np.int64))
    found = tried.of(generator.random(shape, np.float32), 1)
    assert sum(asked) <= tried.passes
    assert 1 <= len(found.regions) <= 2


def test_a_window_that_fails_on_the_first_clean_image_may_win_on_the_others() -> None:
    """On the first clean image the window at the top left does nothing; another one does more."""

    def stubborn(images: np.ndarray) -> np.ndarray:
        own = images.reshape(len(images), 64)
        share = np.where(own[:, 63] > 0.9, 0.1 * own[:, 8], own[:, 0])
        return np.stack([1 - share, share], axis=1)

    hosts = np.zeros((12, 1, 8, 8), np.float32)
    hosts[0, 0, 7, 7] = 1
    image = np.zeros((1, 8, 8), np.float32)
    image[0, :2, 0] = 1
    found = Transplants(stubborn, hosts, np.zeros(12, np.int64)).of(image, 1)
    assert found.most(found.arrival)[0] > 0.9


def test_each_thread_keeps_its_own_last_input() -> None:
    tried = Transplants(bright, np.zeros((4, 1, 8, 8), np.float32), np.zeros(4, np.int64))
    inputs = [np.full((1, 8, 8), share, np.float32) for share in np.linspace(0, 1, 40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: tried.of(image, 1), inputs))
    assert [each.most(each.arrival)[0] for each in found] == pytest.approx(np.linspace(0, 1, 40))


def test_no_host_of_another_class() -> None:
    tried = Transplants(bright, np.zeros((4, 1, 8, 8), np.float32), np.ones(4, np.int64))
    found = tried.of(np.ones((1, 8, 8), np.float32), class_id=1)
    assert found.most(found.arrival) == (0.0, None)
