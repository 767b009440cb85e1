"""Inputs that wake what sleeps."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from models import SIDE, plain, save

from scanner.graph.core import flatten
from scanner.graph.dormancy.side_paths import Paths
from scanner.graph.logic.unfold import unfold
from scanner.instruments import forcing
from scanner.instruments.detector import Subject
from scanner.instruments.waking import Sleeper, wake
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings
from trainers.graph_backdoor import plant


class Asleep:
    """A planted gate whose value sleeps, and the model around it."""

    def __init__(self, kind: str, folder: Path) -> None:
        path = save(plant(plain(), kind, target=1).model, folder / "model.onnx")
        subject = Subject(model=open_model(path), settings=Settings(device=Device.CPU))
        flat = flatten.flatten(subject.model.proto)
        self.rig = forcing.Rig(subject, flat, (1, SIDE, SIDE), "logits")
        self.paths = Paths(flat, "logits")
        (joint,) = self.paths.joints()
        self.value = joint.side
        session = self.rig.reader([self.value])
        self.read: Callable[[forcing.Array], forcing.Array] = lambda image: self.rig.read(
            session, image
        )[0]
        self.typical = self.read(self.rig.images[0])

    def moves(self, image: forcing.Array) -> bool:
        """Whether an image moves the value."""
        return not np.array_equal(self.read(image), self.typical)

    def sleeper(self, shown: Sequence[int] = ()) -> Sleeper:
        """Return the value, with the ordinary images that move it."""
        held = (
            ~self.typical
            if self.typical.dtype == np.bool_
            else self.rig.reachable([self.value])[0][self.value][1]
        )
        return Sleeper(
            value=self.value,
            trail=self.paths.trail(self.value),
            held=held,
            channels=None,
            shown=tuple(shown),
            doubt="",
            wakes=self.moves,
            reaches=self.moves,
        )


@pytest.mark.parametrize(
    ("kind", "way"),
    [("patch-equals", "solved backwards"), ("pixel-equals", "solved backwards")],
)
def test_equalities_are_solved_backwards(kind: str, way: str, tmp_path: Path) -> None:
    asleep = Asleep(kind, tmp_path)
    flow = unfold(asleep.rig.flat)
    image, how = wake(asleep.rig, asleep.paths, asleep.sleeper(), flow, textured=False)
    assert how == way
    assert image is not None
    assert image.shape == (1, SIDE, SIDE)
    assert not np.array_equal(asleep.read(image), asleep.typical)


def test_a_smooth_match_is_climbed_to(tmp_path: Path) -> None:
    asleep = Asleep("relu-arithmetic", tmp_path)
    image, how = wake(asleep.rig, asleep.paths, asleep.sleeper(), None, textured=True)
    assert how == "climbed to"
    assert image is not None
    assert asleep.read(image).max() > 0
    assert 0 <= image.min() <= image.max() <= 1


def test_an_image_that_was_shown_needs_no_search(tmp_path: Path) -> None:
    asleep = Asleep("mean-threshold", tmp_path)
    rig = asleep.rig
    bright = [i for i, image in enumerate(rig.images) if image.min() > 0.97]
    assert bright
    image, how = wake(rig, asleep.paths, asleep.sleeper(bright), None, textured=False)
    assert how == "shown"
    assert image is not None
    assert image.min() > 0.97


def test_where_nothing_wakes_it_that_is_said(tmp_path: Path) -> None:
    asleep = Asleep("patch-equals", tmp_path)
    image, how = wake(asleep.rig, asleep.paths, asleep.sleeper(), None, textured=False)
    assert (image, how) == (None, "none was found")
