"""A value that ordinary images move, and that is heard for one class only.

A gate that noise opens does not sleep on noise. It still speaks for one class: held where it is
shut, the images that it answered are of several classes; held where it is open, all are of one.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.dormancy.side_paths import Joint, Paths
from scanner.instruments import confirming, effects, forcing, waking
from scanner.results import Observation, Severity
from scanner.values import frozen

Array = npt.NDArray[Any]

_MOST = 8
"""Values that move, of which it is tried whether the answer follows them."""
_ASKED = 32
_FEW = 3
"""Images that the value must have answered for."""
_ALIKE = 0.95
"""Part of those that it gave one class."""
_OF_SCORES = 0.99
"""Of the network's weights, the part behind a value that follows from the scores themselves."""


@frozen
class Heard:
    """What becomes of ordinary images while a value is held at either end of what it is on them.

    Attributes:
        shut: The end at which the images are of several classes.
        open: The end at which nearly all are of one.
        places: Of the ordinary images that the value brings into that class.
        asked: How many images were asked.
        effect: What the open end does to those held shut.
        model: The model with the value given by hand.
    """

    shut: Array
    open: Array
    places: tuple[int, ...]
    asked: int
    effect: effects.Effect
    model: forcing.Forced


def observe(joints: Sequence[Joint], paths: Paths, rig: forcing.Rig) -> Iterator[Observation]:
    """Yield the side paths of one number that are heard, but for one class only.

    Raises:
        UnsupportedModelError: The model fails on an image.
        WorkerTimeoutError: The time ran out.
    """
    # One of several numbers is heard as a member of an ensemble or a score of its own is, a factor
    # in everything.
    joints = [joint for joint in joints if joint.single]
    for side in list(dict.fromkeys(joint.side for joint in joints))[-_MOST:]:
        rig.check()
        found = heard_for_one_class(rig, side)
        if found is None:
            continue
        yield _observation([j for j in joints if j.side == side], found, paths, rig)
        return


def heard_for_one_class(rig: forcing.Rig, value: str) -> Heard | None:
    """Return at which ends a value makes one class of the images that are of several otherwise.

    None where it does not: holding it shut must change the class of a few images, from one class
    to others, and holding it open that of nearly all to the same one.

    Raises:
        UnsupportedModelError: The model fails on an image.
        WorkerTimeoutError: The time ran out.
    """
    places = np.flatnonzero(rig.patterned)[:_ASKED]
    images = [rig.images[place] for place in places]
    others = rig.of_other_classes()
    session = rig.reader([value])
    states = [rig.read(session, image)[0] for image in images]
    if states[0].dtype.kind not in "fiub" or len({state.shape for state in states}) > 1:
        return None
    numbers = np.stack([state.astype(np.float64).reshape(-1) for state in states])
    if not np.isfinite(numbers).all() or not numbers.size:
        return None
    # The number that moves most stands for all: they belong to one outcome.
    leading = numbers[:, int(np.ptp(numbers, axis=0).argmax())]
    ends = states[int(leading.argmin())], states[int(leading.argmax())]
    model = rig.forced(value, ends[0])
    answers = rig.answers(int(places[-1]) + 1)
    before = [effects.class_of(answers[place]) for place in places]
    middle = (float(leading.min()) + float(leading.max())) / 2
    for shut, opened, on in ((*ends, leading > middle), (*ends[::-1], leading < middle)):
        held = [model.answer(image, shut) for image in images]
        moved = [i for i, answer in enumerate(held) if effects.class_of(answer) != before[i]]
        spoken = [before[i] for i in (moved or np.flatnonzero(on))]
        if len(spoken) < _FEW or np.bincount(spoken).max() < _ALIKE * len(spoken):
            continue
        also = [model.answer(image, shut) for image in others]
        shown = [*images, *others] if len(others) else images
        effect = effects.effect([*held, *also], [model.answer(image, opened) for image in shown])
        class_id = int(np.bincount(spoken).argmax())
        if effect.decisive and effect.class_id == class_id and effects.has_say(held, class_id):
            return Heard(
                shut=shut,
                open=opened,
                places=tuple(int(places[i]) for i in moved),
                asked=len(images),
                effect=effect,
                model=model,
            )
    return None


def _observation(
    joints: Sequence[Joint], found: Heard, paths: Paths, rig: forcing.Rig
) -> Observation:
    """Return the observation of a side path that is heard for one class only."""
    side, trail, effect = joints[0].side, paths.trail(joints[0].side), found.effect
    said = "Held at one end of what it is on ordinary images, it leaves their classes alone"
    if found.places:
        said = (
            f"Held at one end of what it is on {found.asked} ordinary images, it takes "
            f"{effect.outcome} from {len(found.places)} of them"
        )
    observation = Observation(
        code="sleeping-path",
        severity=Severity.SUSPICIOUS,
        sentence=f"{side!r} bypasses the trained weights and reaches "
        f"{joints[0].operator} {joints[0].node!r}. {said}; held at the other end, it "
        f"makes the model answer {effect.outcome} to {effect.share:.0%} of them",
        nodes=paths.labels([*trail, *(joint.output for joint in joints)]),
        details={
            "value": side,
            "moved": len(found.places) / found.asked,
            "joints": [dataclasses.asdict(joint) for joint in joints],
            "typical": confirming.as_data(found.shut),
            "forced": confirming.as_data(found.open),
            "class": effect.class_id,
            "changed": effect.changed,
        },
    )
    if min(joint.shared for joint in joints) >= _OF_SCORES:
        reason = "it follows from the scores, as a rule for answers that are unsure does"
        return confirming.doubted(observation, reason)
    sleeper = waking.Sleeper(
        value=side,
        trail=trail,
        held=found.open,
        channels=None,
        shown=found.places,
        doubt="",
        asleep=lambda image: found.model.answer(image, found.shut),
    )
    return confirming.confirmed(observation, sleeper, paths, rig)
