"""Planted graph logic cut out: the trunk past the gate is kept, and the gate is gone.

A test of the input leads to a value that mixes its outcome with what the network computes. All that
depends on the test passes through that value, and what it was mixed from is still there: the
carrier, which depends on the trained weights and not on the test. While the gate is closed both are
equal, so on ordinary images the carrier can take the value's place unnoticed. Where no such pair is
found, the outcome of the test is held at what it is on ordinary images.

Images that nobody took, noise, can open a gate: a near black corner is near to many triggers. There
the numbers need to be the same on most of them only. That most are equal to four digits, and a few
are not, is what a gate does.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from scanner.detectors import load
from scanner.errors import GraphError, ModelError
from scanner.graph.core import flatten
from scanner.graph.core.draft import Proto
from scanner.graph.core.structure import label
from scanner.graph.surgery import excision, parameters
from scanner.instruments import probes, runtime
from scanner.instruments.detector import Subject
from scanner.mending.forward import Forward, reader
from scanner.modelfile.model import Model
from scanner.results import Observation, Severity
from scanner.sandbox import deadline
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]
Rewritten = Callable[[Proto], Model]
"""Returns a model with another graph."""

_DETECTORS = ("graph_logic", "dormant", "invariance")
_MOST_CUTS = 8
_ASKED = 16  # images by which it is told whether a value stands still
_MOST_TRIED = 60  # pairs of value and carrier for one test
_SAME = 1e-4  # relative: what rounding may change of an answer
# Likewise: what a gate that is never quite closed may add to it, where no class changes; and what
# is said of it then. The last takes no part of the network away: the carriers behind most weights
# are tried first.
_SLACKS = {
    _SAME: "the same answers",
    0.25: "the same classes, and scores that differ by less than a quarter",
    math.inf: "the same classes, though other scores",
}
_MOST = 0.6  # share of made-up images whose numbers must be the same
_SCORES = 2  # axes of scores: images, classes


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """A gate that was removed, or could not be.

    Attributes:
        model: The model after it; None where it could not be removed.
        sentence: What was done and why.
        changed: Names of the nodes that are gone.
        exact: Whether the answers have the same numbers as before, not the same classes only.
    """

    model: Model | None
    sentence: str
    changed: tuple[str, ...] = ()
    exact: bool = False


def findings(model: Model, settings: Settings) -> list[Observation]:
    """Return what the graph's detectors find suspicious, the gravest first.

    A detector that cannot look finds nothing; the scans before and after say so.
    """
    found: list[Observation] = []
    for detector in load(_DETECTORS):
        try:
            measured = detector.measure(Subject(model=model, settings=settings))
        except (GraphError, ModelError):
            continue
        found += [o for o in measured.observations if o.severity >= Severity.SUSPICIOUS]
    return sorted(found, key=lambda o: -o.severity)


def cuts(model: Model, settings: Settings, images: Floats, rebuilt: Rewritten) -> Iterator[Cut]:
    """Yield one cut after the other, each of the model that the last one left.

    Args:
        model: The model.
        settings: How it was scanned.
        images: Ordinary ones, on which a cut must go unnoticed.
        rebuilt: Returns the model with another graph.
    """
    trial = _Trial(settings, images, rebuilt, _answers(model, settings, images))
    hopeless: set[str] = set()
    for _ in range(_MOST_CUTS):
        deadline.check()
        waiting = [o for o in findings(model, settings) if o.sentence not in hopeless]
        if not waiting:
            return
        cut = _without(model, waiting[0], trial)
        yield cut
        if cut.model is None:
            hopeless.add(waiting[0].sentence)
        else:
            model = cut.model


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    """What a changed graph is tried with.

    Attributes:
        settings: How the model was scanned.
        images: Ordinary ones.
        rebuilt: Returns the model with another graph.
        before: What the model answers to the images, by output.
    """

    settings: Settings
    images: Floats
    rebuilt: Rewritten
    before: Sequence[npt.NDArray[np.generic]]

    def passed(self, proto: Proto, slack: float) -> Model | None:
        """Return a changed model if its answers to ordinary images are the same, up to a slack."""
        found, same = self.tried(proto, slack)
        return found if same == len(self.images) else None

    def tried(self, proto: Proto, slack: float) -> tuple[Model | None, int]:
        """Return a changed model, and to how many ordinary images it gives the same answers."""
        try:
            found = self.rebuilt(proto)
            after = _answers(found, self.settings, self.images)
        except (GraphError, ModelError):
            return None, 0
        same = np.ones(len(self.images), dtype=bool)
        for pair in zip(self.before, after, strict=True):
            rows = _same(*pair, slack)
            same &= rows if rows.shape == same.shape else rows.all()
        return found, int(same.sum())


def _without(model: Model, seen: Observation, trial: _Trial) -> Cut:
    """Return the model without the test that a finding is about."""
    flat = flatten.flatten(model.proto)
    inlined = "" if flat is model.proto else "; its functions are written out for that"
    count = len(trial.images)
    roots = _roots(seen, flat)
    pairs = [(r, *pair) for r in roots for pair in excision.bypasses(flat, r)[:_MOST_TRIED]]
    by_size = sorted(pairs, key=lambda pair: _left(flat, *pair[1:]))
    for slack, least, how in _attempts(trial):
        for root, value, carrier in by_size if slack == _SAME else pairs:
            deadline.check()
            found, same = trial.tried(excision.bypassed(flat, value, carrier), slack)
            past = same == count or excision.is_past(flat, root, value, carrier)
            if found is None or same < least or not past or _remains(found, root):
                continue
            gone, opened = _gone(model.proto, found.proto), count - same
            which = f"{same} of {count}" if opened else f"all {count}"
            others = f" (noise seems to open the gate on {opened})" if opened else ""
            return Cut(
                model=found,
                sentence=f"{value!r} is made of {carrier!r} and of a test of the input; with "
                f"{carrier!r} in its place the model gives {which} ordinary images "
                f"{how}{others}, and {len(gone)} nodes of the gate are gone{inlined}",
                changed=gone,
                exact=slack == _SAME,
            )
    for root in roots:
        found = _held(model, flat, root, trial)
        if found is not None:
            gone = _gone(model.proto, found.proto)
            return Cut(
                model=found,
                sentence=f"{root!r}, on which the test hangs, is the same on all {count} "
                f"ordinary images: it is a constant now, and {len(gone)} nodes of the test are "
                f"gone{inlined}",
                changed=gone,
            )
    silent = _silenced(model, flat, seen, trial)
    if silent is not None:
        return silent
    return Cut(
        model=None,
        sentence="no value without the test equals one behind it on ordinary images, so nothing "
        f"was cut ({seen.code})",
    )


def _attempts(trial: _Trial) -> Iterator[tuple[float, int, str]]:
    """Yield how far answers may differ, for how many images they must not, and how that is said."""
    for slack, how in _SLACKS.items():
        yield slack, len(trial.images), how
        if slack == _SAME and not trial.settings.has_images:
            yield slack, math.ceil(_MOST * len(trial.images)), how


def _left(flat: Proto, value: str, carrier: str) -> int:
    """Return how many nodes are left once a carrier has taken a value's place."""
    return len(excision.bypassed(flat, value, carrier).graph.node)


def _roots(seen: Observation, flat: Proto) -> list[str]:
    """Return the values that the test's outcome passes, as the finding names them.

    A finding about how the model is called names no value, but an input that has a default, or
    nodes: those that draw numbers, or compare how many images there are.
    """
    names = [seen.details.get(key) for key in ("switch", "decision", "value")]
    if seen.code.startswith("depends-on-"):
        names = [tensor.name for tensor in flat.graph.initializer if tensor.name in seen.nodes]
        names += [node.output[0] for node in flat.graph.node if label(node) in seen.nodes]
    return list(dict.fromkeys(str(name) for name in names if name))


def _answers(model: Model, settings: Settings, images: Floats) -> list[npt.NDArray[np.generic]]:
    """Return all outputs of the file as it is."""
    session = runtime.open_session(model.serialise(model.proto), settings.device, settings.threads)
    names = tuple(value.name for value in session.native.get_outputs())
    return list(Forward(session, names).run(images))


def _same(
    one: npt.NDArray[np.generic], other: npt.NDArray[np.generic], slack: float
) -> npt.NDArray[np.bool_]:
    """Return which rows of answers are equal, in class and, up to a slack, in their numbers."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return np.zeros(1, dtype=bool)
    if one.dtype.kind != "f":
        return _rows(one == other)
    mine, theirs = one.astype(np.float64), other.astype(np.float64)
    same = _rows(np.abs(mine - theirs) <= slack * np.abs(theirs).max(initial=1e-6))
    if one.ndim == _SCORES:
        same &= mine.argmax(axis=1) == theirs.argmax(axis=1)
    return same


def _rows(equal: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which rows are equal throughout; of a single number, whether it is."""
    return np.asarray(equal.reshape(len(equal) if equal.ndim else 1, -1).all(axis=1))


def _remains(model: Model, root: str) -> bool:
    return any(root in {*node.input, *node.output} for node in model.proto.graph.node)


def _gone(before: Proto, after: Proto) -> tuple[str, ...]:
    """Return the labels of the nodes that are there no more."""
    kept = {name for node in after.graph.node for name in (node.name, *node.output) if name}
    return tuple(
        node.name or node.output[0]
        for node in before.graph.node
        if (node.name or node.output[0]) not in kept
    )


def _silenced(model: Model, flat: Proto, seen: Observation, trial: _Trial) -> Cut | None:
    """Let no layer read the channels that the finding names: a test was put into them."""
    named = {row["value"]: row["channels"] for row in seen.details.get("layers", ())}
    whole = model.complete(flat)
    readers = [layer for layer in parameters.layers(whole) if layer.source in named]
    stored = parameters.values(whole, [layer.weights for layer in readers])
    values = {name: numbers.copy() for name, numbers in stored.items()}
    for layer in readers:
        across = np.moveaxis(values[layer.weights], layer.inputs, 0)
        across[[n for n in named[layer.source] if n < len(across)]] = 0
    found = trial.passed(parameters.replaced(whole, values), math.inf)
    if not readers or found is None:
        return None
    return Cut(
        model=found,
        sentence=f"{sum(map(len, named.values()))} channels before {readers[0].weights!r} are "
        f"read no more, and all {len(trial.images)} ordinary images keep their class",
        changed=tuple(values),
    )


def _held(model: Model, flat: Proto, root: str, trial: _Trial) -> Model | None:
    """Return the model in which a value is what it is on every ordinary image."""
    try:
        (value,) = reader(model, model.complete(flat), [root], trial.settings).run(
            trial.images[:_ASKED]
        )
    except (GraphError, ModelError):
        return None
    if not (value == value[:1]).all():
        return None
    return trial.passed(excision.held(flat, root, value[:1]), _SAME)


def ordinary(model: Model, settings: Settings) -> Floats:
    """Return images on which no gate is expected to open.

    Raises:
        UsageError: The images cannot be read, or do not fit the input.
    """
    dtype = runtime.numpy_dtype(model.identity.inputs[0].dtype)
    return probes.varied(settings, probes.image_shape(model, settings), dtype)
