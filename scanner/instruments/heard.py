"""A value that ordinary images move, and that is heard for one class only.

A gate that noise opens does not sleep on noise. It still speaks for one class: held where it is
shut, the images that it answered are of several classes; held where it is open, all are of one.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.instruments import forcing
from scanner.values import frozen

Array = npt.NDArray[Any]

_ASKED = 32
_FEW = 3
"""Images that the value must have answered for."""
_ALIKE = 0.95
"""Part of those that it gave one class."""


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
    effect: forcing.Effect
    model: forcing.Forced


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
    before = [forcing.class_of(answers[place]) for place in places]
    middle = (float(leading.min()) + float(leading.max())) / 2
    for shut, opened, on in ((*ends, leading > middle), (*ends[::-1], leading < middle)):
        held = [model.answer(image, shut) for image in images]
        moved = [i for i, answer in enumerate(held) if forcing.class_of(answer) != before[i]]
        spoken = [before[i] for i in (moved or np.flatnonzero(on))]
        if len(spoken) < _FEW or np.bincount(spoken).max() < _ALIKE * len(spoken):
            continue
        also = [model.answer(image, shut) for image in others]
        shown = [*images, *others] if len(others) else images
        effect = forcing.effect([*held, *also], [model.answer(image, opened) for image in shown])
        class_id = int(np.bincount(spoken).argmax())
        if effect.decisive and effect.class_id == class_id and forcing.has_say(held, class_id):
            return Heard(
                shut=shut,
                open=opened,
                places=tuple(int(places[i]) for i in moved),
                asked=len(images),
                effect=effect,
                model=model,
            )
    return None
