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

    def asleep(self, image: forcing.Array) -> forcing.Array:
        """Return what the model answers to an image while the value is held asleep."""
        return self.rig.forced(self.value, self.typical).answer(image, self.typical)

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
            asleep=self.asleep,
        )


@pytest.mark.parametrize(
    ("kind", "way"),
    [("patch-equals", "solved backwards"), ("pixel-equals", "solved backwards")],
)
def test_equalities_are_solved_backwards(kind: str, way: str, tmp_path: Path) -> None:
    asleep = Asleep(kind, tmp_path)
    flow = unfold(asleep.rig.flat)
    woken = wake(asleep.rig, asleep.paths, asleep.sleeper(), flow, textured=False)
    assert woken is not None
    assert woken.how == way
    assert woken.image.shape == (1, SIDE, SIDE)
    assert asleep.moves(woken.image)
    assert woken.original is not None
    assert not asleep.moves(woken.original)


def test_a_smooth_match_is_climbed_to(tmp_path: Path) -> None:
    asleep = Asleep("relu-arithmetic", tmp_path)
    woken = wake(asleep.rig, asleep.paths, asleep.sleeper(), None, textured=True)
    assert woken is not None
    assert woken.how == "climbed to"
    assert asleep.read(woken.image).max() > 0
    assert 0 <= woken.image.min() <= woken.image.max() <= 1


def test_an_image_that_was_shown_needs_no_search(tmp_path: Path) -> None:
    asleep = Asleep("mean-threshold", tmp_path)
    rig = asleep.rig
    bright = [i for i, image in enumerate(rig.images) if image.min() > 0.97]
    assert bright
    woken = wake(rig, asleep.paths, asleep.sleeper(bright), None, textured=False)
    assert woken is not None
    assert woken.how == "shown"
    assert woken.original is None
    assert woken.image.min() > 0.97


def test_where_nothing_wakes_it_that_is_said(tmp_path: Path) -> None:
    asleep = Asleep("patch-equals", tmp_path)
    assert wake(asleep.rig, asleep.paths, asleep.sleeper(), None, textured=False) is None
