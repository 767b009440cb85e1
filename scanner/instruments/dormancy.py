"""The search for sleeping paths: silent on all that is shown, reachable, and decisive.

Two stages, so that an ordinary network costs next to nothing. The graph alone says where a value
that passed few of the trained weights joins the network (`scanner.graph.dormancy.side_paths`).
Only these values are watched on ordinary images; only those that stand still are forced to what
they can reach (`scanner.graph.dormancy.bounds`); and only for those that then decide the answer is
an input searched that wakes them.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from scanner.errors import NoLogitsError, UnsupportedModelError, WorkerTimeoutError
from scanner.graph.core import flatten
from scanner.graph.dormancy import bounds
from scanner.graph.dormancy.side_paths import Joint, Paths
from scanner.graph.layers.logits import find_logits
from scanner.instruments import forcing, probes
from scanner.instruments.detector import Subject
from scanner.results import Observation, Severity
from scanner.sandbox import deadline
from scanner.values import frozen

Array = npt.NDArray[Any]
Reach = Mapping[str, tuple[Array, Array]]

_MOST_SIDES = 200
"""Values that are watched; those nearest to the answer come first."""
_MOST_GROUPS = 16
"""Sleeping paths that are forced."""
_MOST_SWITCHES = 8
"""Values of one path that are forced."""
_ASKED = 24
"""Ordinary images that a forced value is shown with."""


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

    @property
    def sides(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(joint.side for joint in self.joints))


def search(subject: Subject) -> Found:
    """Return the sleeping paths of a model.

    Raises:
        MalformedModelError: The graph contradicts itself.
        NoLogitsError: The model answers nothing that names a class.
        UnsupportedModelError: The model has several inputs, or fails when it runs.
        UsageError: The input's shape is open.
    """
    shape = probes.image_shape(subject.model, subject.settings)
    flat = flatten.flatten(subject.model.proto)
    answer = answer_of(flat, subject.settings.logits)
    paths = Paths(flat, answer)
    joints = _watched(paths)
    found: list[Observation] = []
    parameters = {
        "answer": answer,
        "joints": len(joints),
        "seed": subject.settings.seed,
        "input_shape": list(shape),
    }
    if joints:
        rig = forcing.Rig(subject, flat, shape, answer)
        span = probes.input_range(rig.dtype, subject.settings)
        parameters |= {"images": len(rig.images), "input_range": list(span)}
        for path in _dormant(joints, paths, rig, span):
            try:
                deadline.check()
                observation = _forced(path, paths, rig, span)
            except WorkerTimeoutError:
                parameters["stopped"] = "the time ran out before every sleeping path was forced"
                break
            if observation is not None:
                found.append(observation)
    found.sort(key=lambda o: -o.severity)
    return Found(observations=tuple(found), parameters=parameters)


def answer_of(flat: onnx.ModelProto, asked: str | None) -> str:
    """Return the value that holds what a model answers: its logits, else its first output.

    A model whose output is a class number has no logits that a later node could not overrule.

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
        return flat.graph.output[0].name


def _watched(paths: Paths) -> list[Joint]:
    """Return the joints whose side value is worth watching, those nearest to the answer first."""
    found = [joint for joint in paths.joints() if joint.side not in paths.inputs]
    sides = list(dict.fromkeys(joint.side for joint in reversed(found)))[:_MOST_SIDES]
    return [joint for joint in found if joint.side in sides]


def _dormant(
    joints: Sequence[Joint], paths: Paths, rig: forcing.Rig, span: tuple[float, float]
) -> list[_Path]:
    """Return the side paths that ordinary images leave alone."""
    sides = list(dict.fromkeys(joint.side for joint in joints))
    quiet = rig.habits(sides, {})
    wide = {name: name for name in sides if name not in quiet}
    # What moves may still stand still beside the way that it could go.
    reach, _ = reachable(rig, list(wide), span)
    quiet |= rig.habits(list(reach), reach) if reach else {}
    groups: list[list[Joint]] = []
    trails: list[set[str]] = []
    for joint in (joint for joint in joints if joint.side in quiet):
        trail = set(paths.trail(joint.side))
        near = [i for i, other in enumerate(trails) if trail & other]
        merged = [joint]
        for i in reversed(near):
            merged = groups.pop(i) + merged
            trail |= trails.pop(i)
        groups.append(merged)
        trails.append(trail)
    made = paths.uses.producer_position
    return [
        _Path(tuple(group), tuple(sorted(trail, key=lambda name: made[name])))
        for group, trail in zip(groups, trails, strict=True)
    ][:_MOST_GROUPS]


def reachable(
    rig: forcing.Rig, values: Sequence[str], span: tuple[float, float]
) -> tuple[dict[str, tuple[Array, Array]], frozenset[str]]:
    """Return bounds of values over the input range, and which of them are estimates.

    Values that have none are missing.
    """
    if not values:
        return {}, frozenset()
    try:
        graph = bounds.bounded(rig.subject.model.complete(rig.flat), values)
        if not graph.values:
            return {}, frozenset()
        session = rig.opened(graph.proto)
        feeds = {}
        for pair in graph.box.values():
            for name, end in ((pair.low, span[0]), (pair.high, span[1])):
                feeds[name] = rig.filled(np.full(rig.images.shape[1:], end).astype(rig.dtype))
        names = [output.name for output in session.native.get_outputs()]
        made = dict(zip(names, session.feed(feeds), strict=True))
    except UnsupportedModelError:
        # Bounds are a second opinion: where they cannot be computed a search has to show the way.
        return {}, frozenset()
    return {n: (made[p.low], made[p.high]) for n, p in graph.values.items()}, graph.estimated


def _forced(
    path: _Path, paths: Paths, rig: forcing.Rig, span: tuple[float, float]
) -> Observation | None:
    """Return what forcing a sleeping path shows, or None where it decides nothing."""
    reach, estimated = reachable(rig, path.trail, span)
    habits = rig.habits(path.trail, reach)
    for switch in _switches(path, paths, habits):
        habit = habits[switch]
        usual = np.flatnonzero(habit.usual)[:_ASKED]
        before = [rig.answers(int(usual.max()) + 1)[i] for i in usual]
        model = rig.forced(switch, habit.typical)
        for held in _extremes(habit.typical, reach.get(switch), proven=switch not in estimated):
            deadline.check()
            try:
                after = model.answers(rig.images[usual], held)
            except UnsupportedModelError:
                continue  # no such value can be, such as an index past the end
            effect = forcing.effect(before, after)
            if effect.decisive:
                return _observation(path, paths, switch, habit, held, effect)
    return None


def _switches(path: _Path, paths: Paths, habits: Mapping[str, forcing.Habit]) -> list[str]:
    """Return the sleeping values that a whole path hangs on, those nearest to its end first."""
    trails = [set(paths.trail(side)) for side in path.sides]
    common = [name for name in path.trail if all(name in trail for trail in trails)]
    asleep = [name for name in reversed(common) if name in habits]
    return asleep[:_MOST_SWITCHES]


def _extremes(
    typical: Array, reach: tuple[Array, Array] | None, *, proven: bool
) -> Iterator[Array]:
    """Yield what a value is to be forced to: the ends of its reach, as far as it has one."""
    ends = [] if reach is None else [end for end in reach if end.shape == typical.shape]
    if typical.dtype == np.bool_:
        fixed = len(ends) == 2 and proven and bool((ends[0] == ends[1]).all())  # noqa: PLR2004 - low and high
        return iter([] if fixed else [np.asarray(~typical)])
    if not proven or not ends:
        steps = (0, 1, -1) if typical.dtype.kind in "iu" else (0, 1, -1, 10, 1000)
        ends += [typical + np.array(step).astype(typical.dtype) for step in steps]
        ends += [np.full_like(typical, number) for number in (0, 1)]
    return (
        np.asarray(end, typical.dtype)
        for end in ends
        if not np.allclose(end, typical, rtol=1e-6, atol=0) and not np.isnan(end).any()
    )


def _observation(
    path: _Path,
    paths: Paths,
    switch: str,
    habit: forcing.Habit,
    held: Array,
    effect: forcing.Effect,
) -> Observation:
    joints = ", ".join(f"{j.operator} {j.node!r}" for j in path.joints[:3])
    outcome = f"class {effect.class_id}" if effect.class_id is not None else "another class"
    return Observation(
        code="sleeping-path",
        severity=Severity.SUSPICIOUS,
        sentence=f"The value {switch!r}, which goes past the trained weights to {joints}, stands "
        f"still on {1 - habit.moved:.0%} of the ordinary images; moved to where an input can take "
        f"it, it turns their answers into {outcome}",
        nodes=paths.labels(iter([*path.trail, *(j.output for j in path.joints)])),
        details={
            "switch": switch,
            "moved": habit.moved,
            "joints": [dataclasses.asdict(joint) for joint in path.joints],
            "typical": _shown(habit.typical),
            "forced": _shown(held),
            "class": effect.class_id,
            "changed": effect.changed,
        },
    )


def _shown(value: Array) -> list[Any]:
    """Return the first numbers of a value as plain JSON data."""
    numbers = value.reshape(-1)[:16].tolist()
    return [n if not isinstance(n, float) or np.isfinite(n) else str(n) for n in numbers]
