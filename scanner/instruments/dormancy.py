"""The search for sleeping paths: silent on all that is shown, reachable, and decisive.

Three stages, so that an ordinary network costs next to nothing. The graph alone says where a value
that passed few of the trained weights joins the network (`scanner.graph.dormancy.side_paths`), and
which channels of its layers read almost nothing of what their siblings read
(`scanner.graph.dormancy.odd_channels`). Only these are watched on ordinary images, and only those
that stand still are forced to what they can reach (`scanner.graph.dormancy.bounds`). Where that
decides the answer, an input is searched that wakes them (`scanner.instruments.waking`).
"""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import (
    NoLogitsError,
    UnsupportedModelError,
    UsageError,
    WorkerTimeoutError,
)
from scanner.graph.core import flatten, sparse, unrolled
from scanner.graph.core.ancestors import ancestors
from scanner.graph.core.draft import Proto
from scanner.graph.dormancy import odd_channels
from scanner.graph.dormancy.side_paths import MOST_SHARED, WHOLE, Joint, Paths
from scanner.graph.layers.logits import find_logits
from scanner.instruments import (
    confirming,
    effects,
    forced_channels,
    forcing,
    heard,
    matched_filters,
    probes,
    waking,
)
from scanner.instruments.detector import Subject
from scanner.results import Observation, Severity
from scanner.values import frozen

Array = npt.NDArray[Any]

_MOST_SIDES = 200
"""Values that are watched; those nearest to the answer come first."""
_MOST_PATHS = 16
"""Sleeping paths that are forced."""
_MOST_HEARD = 8
"""Values that move, of which it is tried whether the answer follows them."""
_NARROW = 8
"""By this factor they hold fewer numbers than the input: they are outcomes, not pictures."""
_MOST_SWITCHES = 8
"""Values of one path that are forced."""
_MOST_LAYERS = 4
"""Layers whose lone channels are forced."""
_PLAIN_CONTRAST, _LARGER = 0.1, 1.5
"""Times the width of the input range: how wide that of a corrected image is."""
_MEMBER = 0.25
"""From this part of the weights of what it meets on, a side path is a network of its own."""
_SECONDS, _TO_MATCH = 20.0, 15.0
"""Of wall-clock time for the search, and for filters."""


@frozen
class Found:
    """What a search found.

    Attributes:
        observations: One for each sleeping path, the heaviest first.
        parameters: What influenced it.
    """

    observations: tuple[Observation, ...]
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class _Path:
    """Side values that hang together, and where they join the network."""

    joints: tuple[Joint, ...]
    trail: tuple[str, ...]
    habits: Mapping[str, forcing.Habit]

    @property
    def sides(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(joint.side for joint in self.joints))


@dataclasses.dataclass(frozen=True, slots=True)
class _Sleeping:
    """A value that decides the answer when it is moved.

    Attributes:
        value: Its name.
        typical: What it is on most images.
        held: What it was forced to.
        proven: Whether its bounds are known.
        moved: The share of ordinary images that move it.
        shown: The places of those images.
        effect: What the model then answers.
        model: The model with the value given by hand.
        images: What it was shown.
        before: What it answers to them.
    """

    value: str
    typical: Array
    held: Array
    proven: bool
    moved: float
    shown: tuple[int, ...]
    effect: effects.Effect
    model: forcing.Forced
    images: Sequence[Array]
    before: Sequence[Array]


def search(subject: Subject) -> Found:
    """Return the sleeping paths of a model.

    Raises:
        MalformedModelError: The graph contradicts itself.
        NoLogitsError: The model answers nothing that names a class.
        UnsupportedModelError: The model has several inputs, or fails when it runs.
        UsageError: The input's shape is open, or its range is not known.
    """
    shape = probes.image_shape(subject.model, subject.settings)
    flat = subject.model.complete(flatten.flatten(subject.model.proto))
    flat = unrolled.unrolled(sparse.written_out(flat))
    answer = answer_of(flat, subject.settings.logits)
    paths = Paths(flat, answer)
    joints, odd = _watched(paths), odd_channels.find(flat, paths.facts)[:_MOST_LAYERS]
    parameters: dict[str, Any] = {
        "answer": answer,
        "joints": len(joints),
        "odd_channels": sum(len(layer.channels) for layer in odd),
        "seed": subject.settings.seed,
        "input_shape": list(shape),
    }
    labels = _labels(flat, paths)
    found: list[Observation] = []
    try:
        rig = _rig(subject, flat, shape, answer, paths)
        parameters |= {"images": len(rig.images), "input_range": list(rig.span)}
        found.extend(_side_paths(joints, paths, rig))
        found.extend(forced_channels.observe(odd, paths, rig))
        for label, watched in labels.items():
            named = forcing.Rig(subject, flat, shape, label)
            named.until = rig.until
            if effects.names_class(named.answers(1)[0], named.batch):
                found.extend(_side_paths(watched, Paths(flat, label), named))
        rig.until = time.monotonic() + _TO_MATCH
        found.extend(matched_filters.observe(rig, paths))
    except WorkerTimeoutError:
        parameters["stopped"] = "the time ran out before every candidate was forced"
    except (NoLogitsError, UsageError, UnsupportedModelError):
        # Where nothing is odd, there is nothing that could not be looked at.
        if joints or odd:
            raise
    found.sort(key=lambda o: -o.severity)
    return Found(observations=tuple(found), parameters=parameters)


def _labels(flat: Proto, paths: Paths) -> dict[str, list[Joint]]:
    """Return outputs that name a class beside the scores, with what joins them past the scores."""
    seen = ancestors([paths.answer], paths.uses.sources)
    found = {}
    for output in flat.graph.output:
        if output.name in seen or paths.facts.elem_types.get(output.name) not in WHOLE:
            continue
        joints = _watched(Paths(flat, output.name))
        if past := [joint for joint in joints if joint.output not in seen]:
            found[output.name] = past
    return found


def _rig(
    subject: Subject, flat: Proto, shape: tuple[int, ...], answer: str, paths: Paths
) -> forcing.Rig:
    """Return the model, ready to be forced, if it names classes.

    Raises:
        NoLogitsError: It names none.
        UnsupportedModelError: It fails when it runs.
        UsageError: The range of its input is not known.
    """
    rig = forcing.Rig(subject, flat, shape, answer)
    rig.until = time.monotonic() + _SECONDS
    if not (_may_name_class(paths, answer) and effects.names_class(rig.answers(1)[0], rig.batch)):
        raise NoLogitsError(
            f"{answer!r} holds no class scores, so nothing tells whether they were forced",
            remedy="name the logits with the setting `logits`",
        )
    return rig


def answer_of(flat: Proto, asked: str | None) -> str:
    """Return the value that holds what a model answers: its logits, else its first output.

    What the user names as logits comes second: a gate may stand behind it.

    Raises:
        NoLogitsError: There is no output.
        ValueNotFoundError: There is no value of the name asked for.
    """
    try:
        return find_logits(flat).value
    except NoLogitsError:
        if asked is not None:
            return find_logits(flat, asked).value
        if not flat.graph.output:
            raise
        return str(flat.graph.output[0].name)


def _may_name_class(paths: Paths, answer: str) -> bool:
    """Whether the shape of an answer, as far as it is known, is one of class scores."""
    shape = paths.facts.shapes.get(answer)
    return shape is None or all(size == 1 or isinstance(size, str) for size in shape[2:])


def _watched(paths: Paths) -> list[Joint]:
    """Return the joints whose side value is worth watching, those nearest to the answer first."""
    found = [joint for joint in paths.joints() if joint.side not in paths.inputs]
    sides = list(dict.fromkeys(joint.side for joint in reversed(found)))[:_MOST_SIDES]
    return [joint for joint in found if joint.side in sides]


def _side_paths(joints: Sequence[Joint], paths: Paths, rig: forcing.Rig) -> Iterator[Observation]:
    """Yield what comes of each side path that ordinary images leave alone."""
    found = []
    for path in _dormant(joints, paths, rig) if joints else ():
        rig.check()
        sleeping = _forced(path, paths, rig)
        if sleeping is not None:
            found.append(path)
            yield _confirmed(path, sleeping, paths, rig)
    told = {name for path in found for name in path.trail}
    yield from heard.observe([joint for joint in joints if joint.side not in told], paths, rig)


def _dormant(joints: Sequence[Joint], paths: Paths, rig: forcing.Rig) -> list[_Path]:
    """Return the side paths that ordinary images leave alone."""
    sides = list(dict.fromkeys(joint.side for joint in joints))
    quiet = rig.habits(sides, {})
    # What moves may still stand still beside the way that it could go.
    reach, _ = rig.reachable([name for name in sides if name not in quiet])
    quiet |= rig.habits(list(reach), reach) if reach else {}
    quiet |= _unheard([name for name in sides if name not in quiet], paths, rig)
    asleep = [joint for joint in joints if joint.side in quiet]
    trails = {joint.side: set(paths.trail(joint.side)) for joint in asleep}
    # A joint within a side path gates nothing by itself: the path's own end does.
    ends = [j for j in asleep if not any(j.output in trail for trail in trails.values())]
    groups: list[tuple[list[Joint], set[str]]] = []
    for joint in ends:
        merged, trail = [joint], trails[joint.side]
        for group in [group for group in groups if group[1] & trail]:
            groups.remove(group)
            merged, trail = group[0] + merged, group[1] | trail
        groups.append((merged, trail))
    return [
        _Path(tuple(group), paths.ordered(trail), {j.side: quiet[j.side] for j in group})
        for group, trail in groups[:_MOST_PATHS]
    ]


def _unheard(sides: Sequence[str], paths: Paths, rig: forcing.Rig) -> dict[str, forcing.Habit]:
    """Return the habits of narrow values that move, but that the answer does not follow."""
    narrow = [name for name in sides if paths.room(name) <= _narrow(paths)][-_MOST_HEARD:]
    found = {name: rig.unheard(name) for name in narrow}
    return {name: habit for name, habit in found.items() if habit is not None}


def _forced(path: _Path, paths: Paths, rig: forcing.Rig) -> _Sleeping | None:
    """Return the value of a path that decides the answer when it is forced, or None."""
    reach, estimated = rig.reachable(path.trail)
    habits = {**_unheard_before(path, paths, rig), **path.habits, **rig.habits(path.trail, reach)}
    for switch in _switches(path, paths, habits):
        rig.check()
        habit = habits[switch]
        model = rig.forced(switch, habit.typical)
        # What hardly moves may still be heard: then it does not sleep. Of the images made for other
        # classes there may be one, so that the ordinary ones are asked by themselves.
        if _is_heard(model, habit.typical, *_left_alone(habit, rig)):
            continue
        images, before = _shown_to(habit, model, rig)
        if _is_heard(model, habit.typical, images, before):
            continue
        ends, proven = reach.get(switch), switch not in estimated and switch in reach
        for held in forcing.extremes(habit.typical, ends, proven=proven):
            try:
                after = [model.answer(image, held) for image in images]
            except UnsupportedModelError:
                continue  # no such value can be, such as an index past the end
            effect = effects.effect(before, after)
            if effect.decisive:
                shown = tuple(map(int, np.flatnonzero(~habit.usual)))
                return _Sleeping(
                    value=switch,
                    typical=habit.typical,
                    held=held,
                    proven=proven,
                    moved=habit.moved,
                    shown=shown,
                    effect=effect,
                    model=model,
                    images=images,
                    before=before,
                )
    return None


def _left_alone(habit: forcing.Habit, rig: forcing.Rig) -> tuple[list[Array], list[Array]]:
    """Return ordinary images that leave a value alone, with their answers."""
    usual = np.flatnonzero(habit.usual)[: confirming.asked(rig)]
    return [rig.images[p] for p in usual], [rig.answers(int(p) + 1)[p] for p in usual]


def _is_heard(
    model: forcing.Forced, typical: Array, images: Sequence[Array], before: Sequence[Array]
) -> bool:
    """Whether answers follow a value: they change while it is held where it mostly is."""
    held_still = [model.answer(image, typical) for image in images]
    return effects.noticed(before, held_still) > effects.MOST_NOTICED


def _shown_to(
    habit: forcing.Habit, model: forcing.Forced, rig: forcing.Rig
) -> tuple[list[Array], list[Array]]:
    """Return images that leave a value alone, with their answers, of several classes if possible.

    A class that all noise has anyway cannot be seen to be forced.
    """
    images, before = _left_alone(habit, rig)
    others = [(image, rig.answer_to(image)) for image in rig.of_other_classes()]
    left = [
        (image, answer)
        for image, answer in others
        if not effects.differ_in_class(answer, model.answer(image, habit.typical))
    ]
    if not left:
        return images, before
    return (
        images[: len(left)] + [image for image, _ in left],
        before[: len(left)] + [answer for _, answer in left],
    )


def _unheard_before(path: _Path, paths: Paths, rig: forcing.Rig) -> dict[str, forcing.Habit]:
    """Return the narrow values before a path that moves unheard: they move as unheard as it does.

    Whether that is so is looked at when they are forced.
    """
    usual = np.logical_and.reduce([habit.usual for habit in path.habits.values()])
    names = [name for name in path.trail if paths.room(name) <= _narrow(paths)]
    if not names or not usual.any():
        return {}
    values = rig.read(rig.reader(names), rig.images[int(np.flatnonzero(usual)[0])])
    return {name: forcing.Habit(v, usual) for name, v in zip(names, values, strict=True)}


def _narrow(paths: Paths) -> float:
    """Return how many numbers the outcome of a test may have, and no picture has."""
    return max(paths.room(name) for name in paths.inputs) / _NARROW


def _switches(path: _Path, paths: Paths, habits: Mapping[str, forcing.Habit]) -> list[str]:
    """Return the sleeping values that a whole path hangs on: single numbers, the last ones first.

    What several numbers can be, each by itself, they need not be together. Forced one by one,
    values that belong together may say what no image can make them say.
    """
    trails = [set(paths.trail(side)) for side in path.sides]
    common = [name for name in path.trail if all(name in trail for trail in trails)]
    asleep = [name for name in reversed(common) if name in habits]
    return sorted(asleep, key=lambda name: paths.room(name) > 1)[:_MOST_SWITCHES]


def _observation(path: _Path, paths: Paths, sleeping: _Sleeping) -> Observation:
    joints = ", ".join(f"{joint.operator} {joint.node!r}" for joint in path.joints[:3])
    limit = (
        "the limit of its range"
        if sleeping.proven
        else "a value that it may never take (its range is unknown)"
    )
    return Observation(
        code="sleeping-path",
        severity=Severity.SUSPICIOUS,
        sentence=f"{sleeping.value!r} bypasses the trained weights and reaches {joints}. Holding "
        f"it constant goes unnoticed on {1 - sleeping.moved:.0%} of the images shown; set to "
        f"{limit}, it makes the model answer {sleeping.effect.outcome} to "
        f"{sleeping.effect.share:.0%} of them",
        nodes=paths.labels([*path.trail, *(joint.output for joint in path.joints)]),
        details={
            "value": sleeping.value,
            "moved": sleeping.moved,
            "joints": [dataclasses.asdict(joint) for joint in path.joints],
            "typical": confirming.as_data(sleeping.typical),
            "forced": confirming.as_data(sleeping.held),
            "class": sleeping.effect.class_id,
            "changed": sleeping.effect.changed,
        },
    )


def _confirmed(path: _Path, sleeping: _Sleeping, paths: Paths, rig: forcing.Rig) -> Observation:
    """Return the observation of a path, with an input that wakes it where one is found."""

    def asleep(image: Array) -> Array:
        return sleeping.model.answer(image, sleeping.typical)

    session = rig.reader([sleeping.value])

    def reaches(image: Array) -> bool:
        return forcing.reaches(rig.read(session, image)[0], sleeping.typical, sleeping.held)

    observation, doubt = _observation(path, paths, sleeping), ""
    several = forcing.directions(sleeping.typical, sleeping.held) > 1
    member = several and _is_member(path, sleeping.value, paths)
    early = all(paths.mass(joint.carrier) == 0 for joint in path.joints)
    if early:
        if several:
            return confirming.doubted(observation, "it corrects the image place by place")
        if _corrects(path, sleeping, paths, rig):
            return confirming.doubted(
                observation, "it does no more than brighten, darken or invert the image"
            )
        doubt = "it changes the image itself, before any weights"
    elif several:
        doubt = "its numbers may never take these values together"
    elif not sleeping.proven and sleeping.moved > effects.MOST_NOTICED:
        doubt = "images of one colour move it"
    elif min(joint.shared for joint in path.joints) > MOST_SHARED:
        doubt = "it reads what the network has computed"

    def decides(image: Array) -> bool:
        state = rig.read(session, image)[0]
        after = [sleeping.model.answer(other, state) for other in sleeping.images]
        found = effects.effect(sleeping.before, after)
        return found.decisive and found.class_id == sleeping.effect.class_id

    sleeper = waking.Sleeper(
        value=sleeping.value,
        trail=paths.trail(sleeping.value),
        held=sleeping.held,
        channels=None,
        shown=sleeping.shown,
        doubt=doubt,
        asleep=asleep,
        reaches=reaches,
        # Any image moves a member of an ensemble: what tells is one that drives it to its end.
        must_reach=member,
        # A value that it may never take proves nothing of those that it does; and what an image is
        # moved by, as in recentring, moves others too.
        decides=None if sleeping.proven and not early else decides,
        gives_own_class=sleeping.effect.class_id is not None
        and effects.has_say(sleeping.before, sleeping.effect.class_id),
    )
    return confirming.confirmed(observation, sleeper, paths, rig)


def _corrects(path: _Path, sleeping: _Sleeping, paths: Paths, rig: forcing.Rig) -> bool:
    """Whether a forced value leaves the image what it is, but for its brightness and contrast.

    What it makes must be of about the size of an image: far out, any network says one class.
    """
    made = paths.picture_behind(path.joints[-1].output)
    line = forcing.scaling(rig, sleeping.value, sleeping.held, made, sleeping.images)
    if line is None or line[0] == 0:
        return False
    low, high = rig.span
    ends = [line[0] * end + line[1] for end in rig.span]
    width = high - low
    return (
        _PLAIN_CONTRAST * width <= abs(ends[1] - ends[0]) <= _LARGER * width
        and min(ends) >= low - width
        and max(ends) <= high + width
    )


def _is_member(path: _Path, value: str, paths: Paths) -> bool:
    """Whether a value comes of a network beside the one it meets, as a member of an ensemble."""
    carried = max(paths.mass(joint.carrier) for joint in path.joints)
    return carried > 0 and paths.mass(value) >= _MEMBER * carried
