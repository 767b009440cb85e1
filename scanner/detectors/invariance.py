"""Invariance: one image has one answer, whatever surrounds it and however it is asked.

A model is asked about the same images in several ways that must not matter (metamorphic testing:
T. Y. Chen, S. C. Cheung, S. M. Yiu, HKUST-CS98-01, 1998). A gate that listens to what no image
shows (the company in the batch, a second run, an input that nobody feeds) is seen on no image, and
so by no detector that searches images.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLogitsError, UnsupportedModelError, WorkerTimeoutError
from scanner.graph.audit import mixing
from scanner.instruments import original, probes, runtime
from scanner.instruments.agreement import TOLERANCES, precision, row_distances
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.noise_runs import fixed_batch
from scanner.results import Array as Packed
from scanner.results import Contribution, Input, Measurement, Observation, Part, Rule, Severity
from scanner.sandbox import deadline
from scanner.settings import Device
from scanner.values import frozen

Array = npt.NDArray[Any]
Rows = Mapping[str, Array]
"""By output, one answer for each image, (n, ...)."""

_LARGE = 10_000  # numbers of an image from which on it is large
_IMAGES = {False: 12, True: 3}  # probes of a small and of a large image
_TINY = 4_096  # and up to which every batch size is tried
_SIZES = {False: (2, 3, 4, 5, 8, 16, 32), True: (2, 8)}
_EVERY_SIZE = tuple(range(2, 65))
_UNLIKE = 3  # images of which copies are asked
_REPEATS = {False: 24, True: 4}
_MOST_BYTES = 512 << 20
"""Of a larger file, no second session is opened."""
_FAR = 0.1
"""Of the answer's spread: what float32 never rounds away. Coarser arithmetic may reach twice its
tolerance."""
_MOSTLY = 0.5
"""A random layer moves nearly every answer; a gate that opens at random leaves most as they are."""
_FORCED = 0.9  # of the images, that one class takes
_LEVELS = 255
_HAIR = 2e-3  # of the input range
_OUTER = 0.9  # of the range: values beyond are taken for its end
_JUMP = 10.0  # times as far from its neighbours as they from each other
_SMALL_INPUT = 16  # numbers; a larger optional input is a weight
_MOST_OPTIONAL = 8
_MOST_NAMED = 16  # nodes that a report names
_FEATURELESS = 0.02  # of the input range: an image whose values spread less is of one colour
_FOREIGN = {
    "NaN": np.nan,
    "infinity": np.inf,
    "negative infinity": -np.inf,
    "huge numbers": 6e4,  # float16 has no larger ones
    "zeros": 0.0,
}
_SHOWN = 64  # numbers of an answer that a report keeps


class Invariance(Detector):
    """What an answer must not depend on; the statistic is the highest severity."""

    rule: ClassVar[Rule] = Rule(
        id="invariance",
        name="Invariance",
        summary="The answer to an image depends on something other than the image.",
        source="T. Y. Chen, S. C. Cheung, S. M. Yiu, Metamorphic Testing, HKUST-CS98-01, 1998",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)

    def measure(self, subject: Subject) -> Measurement:
        """Return one observation for each thing that an answer depends on and must not.

        Raises:
            NoLogitsError: No output holds class scores or a class.
            UnsupportedModelError: ONNX Runtime refuses the file.
            UsageError: The image's shape or range is not known.
            WorkerTimeoutError: The time ran out before anything was found.
        """
        trial = _Trial(subject)
        found: list[Observation] = []
        tried: list[str] = []
        refused: list[str] = []
        for relation in _RELATIONS:
            if not trial.settled:
                break  # whatever is asked next, chance answers it too
            # A later relation that cannot be tried, or for which no time is left, must not take
            # what was found away.
            try:
                deadline.check()
                found += relation(trial)
                tried.append(_name(relation))
            except UnsupportedModelError:
                refused.append(_name(relation))
            except WorkerTimeoutError:
                if not found:
                    raise
                break
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in found), default=0)),
            parameters={
                "images": len(trial.images),
                "tried": tried,
                "refused": refused,
                "precision": trial.precision,
                "tolerance": trial.tolerance,
                "seed": subject.settings.seed,
                "input_range": list(trial.range),
                "input_shape": list(trial.shape),
            },
            figures={
                name: apart if np.isfinite(apart) else None for name, apart in trial.apart.items()
            },
            observations=tuple(sorted(found, key=lambda o: -o.severity)),
        )


@frozen
class _Change:
    """What became of n answers.

    Attributes:
        apart: How far each is from what it was, (n,), in units of its spread.
        flipped: Whether its class became another one, (n,).
        output: The output that moved most.
        before: That output's answers before, (n, ...).
        after: And after.
    """

    apart: Array
    flipped: Array
    output: str
    before: Array
    after: Array


class _Trial:
    """One file, loaded once, with its answers to images that are asked one by one."""

    def __init__(self, subject: Subject) -> None:
        self.model, self.settings = subject.model, subject.settings
        self.shape = probes.image_shape(self.model, self.settings)
        self.data, _ = original.own_bytes(self.model)
        self.session = original.open_original(self.data, self.settings.threads)
        self.range = probes.input_range(self.session.dtype, self.settings)
        self.large = int(np.prod(self.shape)) >= _LARGE
        everything = original.probe_images(subject, self.shape, self.session.dtype)
        chosen = np.linspace(0, len(everything) - 1, _IMAGES[self.large]).astype(int)
        self.images = everything[np.unique(chosen)]
        self.fixed = fixed_batch(self.session)
        self.alone = self.ask(self.images)
        if not self.alone:
            raise NoLogitsError(
                "no output holds class scores or a class for each image",
                remedy="scan a model that classifies images",
            )
        self.precision = precision(self.model)
        self.tolerance = TOLERANCES[self.precision]
        self.far = max(_FAR, 2 * self.tolerance)
        self.mixing = mixing.mixing_nodes(self.model.proto)
        self.apart: dict[str, float] = {}
        self.settled = True
        self.sized = False

    def ask(self, images: Array, session: runtime.Session | None = None) -> Rows:
        """Return the answers to each image by itself."""
        rows = original.ask_alone(session or self.session, images)
        return {name: answers for name, answers in rows.items() if _names_class(answers)}

    def batch(self, images: Array) -> Rows:
        """Return the answers to images that are asked at once; an output by itself is left out."""
        names = [output.name for output in self.session.native.get_outputs()]
        return {
            name: rows
            for name, rows in zip(names, self.session.run(images), strict=True)
            if name in self.alone and rows.shape[:1] == (len(images),)
        }

    def unlike(self) -> list[int]:
        """Return the places of images that are answered with different classes, a few."""
        scores = next((r for r in self.alone.values() if r.dtype.kind == "f"), self.images)
        classes = scores.reshape(len(scores), -1).argmax(axis=1)
        places = np.unique(classes, return_index=True)[1]
        return [int(place) for place in places[:_UNLIKE]]

    def textured(self) -> Array:
        """Return the images that are not of one colour: of those, any step is all the contrast."""
        flat = self.images.reshape(len(self.images), -1).astype(np.float64)
        wide = flat.std(axis=1) > _FEATURELESS * (self.range[1] - self.range[0])
        return np.asarray(self.images[wide])

    def change(self, before: Rows, after: Rows, name: str) -> _Change | None:
        """Return what became of the answers; None where none moved beyond rounding."""
        worst = _worst(before, after)
        if worst is None:
            return None
        furthest = float(worst.apart.max())
        self.apart[name] = max(furthest, self.apart.get(name, 0.0))
        return worst if furthest > self.tolerance else None

    def gates(self, change: _Change) -> bool:
        """Whether a class flips with a change that no rounding makes."""
        return bool((change.flipped & (change.apart > self.far)).any())

    def observation(  # noqa: PLR0913 - what is said, of what, and what explains it
        self,
        code: str,
        change: _Change,
        sentence: str,
        images: Array,
        explained: Sequence[mixing.Node] = (),
        *,
        severity: Severity | None = None,
    ) -> Observation:
        """Return what is said of a change.

        Args:
            code: Of the observation.
            change: What was measured.
            sentence: What an answer depends on, as the first half of a sentence.
            images: The images whose answers changed, (n, *shape).
            explained: Operators that make an honest model depend on it, with their nodes.
            severity: Overrides what the change and its explanation say.
        """
        flips = int(change.flipped.sum())
        # The clearest case: of the classes that flip, the largest change.
        image = int((change.apart + change.flipped * 1e9).argmax())
        if severity is None:
            severity = Severity.SUSPICIOUS if self.gates(change) else Severity.WARNING
            severity = min(severity, _honest(explained)) if explained else severity
        said = f"{flips} of {len(images)} classes change" if flips else "no class changes"
        cause = f"; {explained[0][0]} ({explained[0][1]!r}) does that" if explained else ""
        return Observation(
            code=code,
            severity=severity,
            sentence=f"{sentence}: {said}, by up to {_said(change.apart[image])} of the answer's "
            f"spread (output {change.output!r}){cause}",
            nodes=tuple(name for _, name in explained[:_MOST_NAMED]) or (change.output,),
            details={
                "flips": flips,
                "asked": len(images),
                "before": _listed(change.before[image]),
                "after": _listed(change.after[image]),
                "explained_by": [f"{kind} {name}" for kind, name in explained[:_MOST_NAMED]],
            },
            input=self._input(images[image]),
        )

    def _input(self, image: Array) -> Input:
        low, high = self.range
        finite = np.nan_to_num(image.astype("<f4"))
        return Input(image=Packed.packed(finite.tobytes(), finite.shape), low=low, high=high)

    def named(self, kinds: frozenset[str]) -> list[mixing.Node]:
        """Return the nodes of these kinds."""
        return [node for node in self.mixing if node[0] in kinds]


# What must not matter. Each asks the same images in another way, and yields what changed.


def _repetition(trial: _Trial) -> Iterator[Observation]:
    """Ask one image again and again."""
    images = np.repeat(trial.images[len(trial.images) // 2 :][:1], _REPEATS[trial.large], axis=0)
    answers = trial.ask(images)
    # The commonest answer is the one that most others lie close to.
    changes = [
        _worst({name: rows[[i] * len(rows)] for name, rows in answers.items()}, answers)
        for i in range(len(images))
    ]
    moved = [1.0 if c is None else float((c.apart > trial.tolerance).mean()) for c in changes]
    change, share = changes[int(np.argmin(moved))], min(moved)
    if change is None:
        return
    trial.apart["runs"] = float(change.apart.max())
    if not share:
        return
    trial.settled = False
    rare = share < _MOSTLY and trial.gates(change)
    drawn = trial.named(mixing.RANDOM | {mixing.DROPOUT, mixing.BATCH_NORM})
    seldom = f", {round(share * 100)} % of the time" if rare else ""
    yield trial.observation(
        "depends-on-chance",
        change,
        f"An image is answered otherwise when it is asked again{seldom}",
        images,
        drawn,
        severity=Severity.SUSPICIOUS if rare or not drawn else Severity.WARNING,
    )


def _size(trial: _Trial) -> Iterator[Observation]:
    """Ask copies of one image in batches of several sizes, and look at every place of them."""
    if trial.fixed:
        return
    first, *others = trial.unlike()
    sizes = _EVERY_SIZE if int(np.prod(trial.shape)) <= _TINY else _SIZES[trial.large]
    changed = [size for size in sizes if _copies(trial, first, size)[0]]
    if not changed:
        return
    # A gate shows in the class of an image that was not of its class anyway.
    found = [
        (change, copies)
        for place in (first, *others)
        for change, copies in [_copies(trial, place, changed[0])]
        if change is not None
    ]
    trial.sized = True
    change, copies = max(found, key=lambda member: trial.gates(member[0]))
    moved = np.flatnonzero(change.apart > trial.tolerance)
    everywhere = len(moved) == len(copies)
    where = "" if everywhere else f" in place {int(moved[0]) + 1}"
    yield trial.observation(
        "depends-on-batch-size" if everywhere else "depends-on-place",
        change,
        f"An image is answered otherwise{where} in a batch of {len(copies)} copies of itself than "
        "alone",
        copies,
        trial.named(mixing.DYNAMIC | {mixing.BATCH_NORM}),
    )


def _copies(trial: _Trial, place: int, size: int) -> tuple[_Change | None, Array]:
    """Return what becomes of an image's answers in a batch of copies, and the batch."""
    copies = np.repeat(trial.images[place : place + 1], size, axis=0)
    before = {n: np.repeat(r[place : place + 1], size, 0) for n, r in trial.alone.items()}
    return trial.change(before, trial.batch(copies), "batch size"), copies


def _company(trial: _Trial) -> Iterator[Observation]:
    """Ask all images at once, in another order: other company, and another place in the batch."""
    if trial.fixed == 1 or trial.sized:
        return
    places = np.resize(np.arange(len(trial.images))[::-1], trial.fixed or len(trial.images))
    before = {name: rows[places] for name, rows in trial.alone.items()}
    change = trial.change(before, trial.batch(trial.images[places]), "company")
    if change is None:
        return
    # What is scaled by the range of a whole batch moves by a little; a network does not become
    # another one by it.
    kinds = (
        {mixing.BATCH_NORM}
        if _moved(change) >= 2 * trial.far
        else {mixing.BATCH_NORM, mixing.REDUCED, *mixing.DYNAMIC}
    )
    yield trial.observation(
        "depends-on-company",
        change,
        "An image is answered otherwise beside other images than alone",
        trial.images[places],
        trial.named(frozenset(kinds)),
    )


def _elsewhere(trial: _Trial) -> Iterator[Observation]:
    """Ask an image beside others that hold NaN, infinities, huge numbers, or nothing."""
    if trial.session.dtype.kind != "f" or trial.fixed == 1 or trial.sized:
        return
    places = trial.unlike()
    images, before = trial.images[places], {n: r[places] for n, r in trial.alone.items()}
    if trial.change(before, _beside(trial, images, _FOREIGN.values()), "values elsewhere") is None:
        return
    for said, number in _FOREIGN.items():
        change = trial.change(before, _beside(trial, images, [number]), "values elsewhere")
        if change is None:
            continue
        # NaN goes through a sum or a maximum of the batch and out at the other end; where it
        # decides, the answer is a number again.
        decides = np.isnan(number) and bool(np.isfinite(change.after).all())
        kinds = {mixing.BATCH_NORM, *mixing.DYNAMIC} | (set() if decides else {mixing.REDUCED})
        yield trial.observation(
            "depends-on-values-elsewhere",
            change,
            f"An image is answered otherwise beside one of {said} than beside its copy",
            images,
            trial.named(frozenset(kinds)),
        )
        return


def _beside(trial: _Trial, images: Array, numbers: Iterable[float]) -> Rows:
    """Return each image's answer beside images of one number each."""
    others = [np.full(trial.shape, number, trial.session.dtype) for number in numbers]
    if trial.fixed:
        others = (others * trial.fixed)[: trial.fixed - 1]
    found = [trial.batch(np.stack([image, *others])) for image in images]
    return {name: np.stack([rows[name][0] for rows in found]) for name in found[0]}


def _zero(trial: _Trial) -> Iterator[Observation]:
    """Give the zeros of images the other sign."""
    low, high = trial.range
    if trial.session.dtype.kind != "f" or not low <= 0 <= high:
        return
    images = trial.images.copy()
    images[np.abs(images) < 0.5 * max(abs(low), high)] = 0
    signed = np.where(images == 0, trial.session.dtype.type(-0.0), images)
    change = trial.change(trial.ask(images), trial.ask(signed), "sign of zero")
    if change is not None:
        yield trial.observation(
            "depends-on-the-sign-of-zero",
            change,
            "An image whose zeros are negative zeros is answered otherwise",
            signed,
        )


def _levels(trial: _Trial) -> Iterator[Observation]:
    """Ask images on the levels that a camera makes, and as far to both sides of them."""
    if trial.session.dtype.kind != "f" or trial.session.dtype.itemsize < np.dtype("f4").itemsize:
        return
    low, high = trial.range
    unit = (trial.textured().astype(np.float64) - low) / (high - low)
    step = np.random.default_rng(trial.settings.seed).uniform(0.1, 0.4, unit.shape)
    grid = np.clip(np.rint(unit * _LEVELS), 1, _LEVELS - 1)
    near = [low + (high - low) * (grid + side * step) / _LEVELS for side in (0, 1, -1)]
    yield from _among_neighbours(
        trial,
        near,
        "depends-on-levels",
        "An image is answered otherwise on the levels that a camera makes than between them",
    )


def _edge(trial: _Trial) -> Iterator[Observation]:
    """Ask images whose extremes lie at the ends of the range, a hair inside, and a hair outside."""
    if trial.session.dtype.kind != "f":
        return
    low, high = trial.range
    width = high - low
    unit = (trial.textured().astype(np.float64) - low) / width
    for said, end, outward in (("above", high, 1), ("below", low, -1)):
        extreme = unit > _OUTER if outward > 0 else unit < 1 - _OUTER
        extreme.reshape(len(extreme), -1)[:, 0] = True
        inside = low + width * np.clip(unit, 1 - _OUTER, _OUTER)
        near = [np.where(extreme, end + k * outward * _HAIR * width, inside) for k in (0, 1, -1)]
        yield from _among_neighbours(
            trial,
            near,
            "depends-on-the-edge",
            f"An image with values a hair {said} the input range is answered otherwise",
        )


def _among_neighbours(
    trial: _Trial, near: Sequence[Array], code: str, sentence: str
) -> Iterator[Observation]:
    """Yield where of three images, equally near to one another, one is answered unlike the others.

    What is steep moves all three apart; only a jump leaves two of them together.

    Args:
        trial: The file.
        near: Three images for each probe, (3, n, *shape); the second is the one to show.
        code: Of the observation.
        sentence: Of the observation.
    """
    images = [original.cast(part, trial.session.dtype) for part in near]
    answers = [trial.ask(part) for part in images]
    changes = [_worst(answers[one], answers[other]) for one, other in ((0, 1), (0, 2), (2, 1))]
    there = [change for change in changes if change is not None]
    if len(there) < len(changes):
        return
    apart = np.stack([change.apart for change in there])
    nearest, furthest = apart.min(0), apart.max(0)
    jumps = furthest > _JUMP * np.maximum(nearest, trial.tolerance)
    trial.apart[code] = max(float(furthest.max()), trial.apart.get(code, 0.0))
    if not jumps.any():
        return
    widest = there[int(apart[:, int(np.argmax(furthest * jumps))].argmax())]
    change = dataclasses.replace(widest, apart=widest.apart * jumps, flipped=widest.flipped & jumps)
    outside = images[1].min() < trial.range[0] or images[1].max() > trial.range[1]
    rescaled = _as_another_range(trial, images[1], answers[1]) if outside else None
    if rescaled:
        sentence += f" (it is {rescaled}, as if it came in another range)"
    # Steps that change no class are what quantised inputs and tables have.
    # So have thresholds on which an image lies by chance: a gate for such values opens for all.
    chance = jumps.mean() < _MOSTLY or not trial.gates(change)
    severity = Severity.NOTE if rescaled or chance else None
    yield trial.observation(code, change, sentence, images[1], severity=severity)


def _as_another_range(trial: _Trial, images: Array, answers: Rows) -> str | None:
    """Return how a model brings images into its range, where that is all that it does to them."""
    low, high = trial.range
    forms: dict[str, Callable[[Array], Array]] = {
        "divided by 255": lambda x: x / 255,
        "halved about the middle": lambda x: (x + high) / 2,
    }
    for said, form in forms.items():
        formed = original.cast(form(images.astype(np.float64)), trial.session.dtype)
        if formed.min() < low or formed.max() > high:
            continue  # a gate on the range is open there too
        like = [
            row_distances(rows, again)
            for name, again in trial.ask(formed).items()
            if (rows := answers.get(name)) is not None and rows.dtype.kind == "f"
        ]
        if like and max(float(np.median(apart)) for apart in like) <= trial.tolerance:
            return said
    return None


def _optional(trial: _Trial) -> Iterator[Observation]:
    """Feed inputs that have a default, and that nobody need feed."""
    native = trial.session.native
    inputs = native.get_overridable_initializers()
    # Where every weight may be fed, as older files ask for, a small one is a bias.
    if not inputs or len(inputs) >= len(trial.model.proto.graph.initializer):
        return
    for given in inputs[:_MOST_OPTIONAL]:
        sizes = [size if isinstance(size, int) else 1 for size in given.shape]
        if int(np.prod(sizes)) > _SMALL_INPUT:
            continue
        dtype = runtime.numpy_dtype(given.type)
        if dtype.kind not in "fiub":
            continue
        yield from _fed(trial, given.name, sizes, dtype)


def _fed(
    trial: _Trial, name: str, sizes: Sequence[int], dtype: np.dtype[np.generic]
) -> Iterator[Observation]:
    """Yield what feeding one optional input does."""
    changes = []
    for number in (1, 0, -1, 7):
        value = np.full(sizes, number).astype(dtype)
        feeds = [{trial.session.input_name: _filled(trial, i), name: value} for i in trial.images]
        outputs = [output.name for output in trial.session.native.get_outputs()]
        runs = [dict(zip(outputs, trial.session.feed(f), strict=True)) for f in feeds]
        after = {
            n: np.stack([run[n][0] for run in runs])
            for n in outputs
            if all(np.ndim(run[n]) for run in runs)
        }
        change = trial.change(trial.alone, after, f"optional input {name!r}")
        if change is not None:
            changes.append((number, change))
    if not changes:
        yield Observation(
            code="optional-input",
            severity=Severity.WARNING,
            sentence=f"Nobody need feed the input {name!r}, which has a default. It changed no "
            "answer that was tried, and may change others",
            nodes=(name,),
        )
        return
    number, change = max(changes, key=lambda c: (_forces(c[1]), float(c[1].flipped.mean())))
    # A scale or a mean that is fed wrongly spoils an answer too; a switch is off by default.
    off = not np.any(mixing.default_numbers(trial.model.proto, name))
    yield trial.observation(
        "depends-on-an-optional-input",
        change,
        f"The optional input {name!r}, which nobody need feed, changes answers when it is {number}",
        trial.images,
        severity=Severity.SUSPICIOUS
        if off and _forces(change) and trial.gates(change)
        else Severity.WARNING,
    )


def _filled(trial: _Trial, image: Array) -> Array:
    return np.repeat(image[None], trial.fixed or 1, axis=0)


def _optimiser(trial: _Trial) -> Iterator[Observation]:
    """Run the file node by node, as it is written."""
    if len(trial.data) > _MOST_BYTES:
        return
    plain = runtime.open_session(trial.data, Device.CPU, trial.settings.threads, optimise=False)
    change = trial.change(trial.alone, trial.ask(trial.images, plain), "optimiser")
    # A picture of one colour may lie on a rounding edge everywhere at once: one is no evidence.
    if change is not None and np.sort(change.apart)[-2:].min() > trial.tolerance:
        codes = (
            mixing.DYNAMIC | mixing.RANDOM | {"QuantizeLinear", mixing.DROPOUT, mixing.BATCH_NORM}
        )
        yield trial.observation(
            "depends-on-the-optimiser",
            change,
            "An image is answered otherwise when ONNX Runtime does not optimise the graph",
            trial.images,
            trial.named(codes),
        )


def _changed(output: str, before: Array, after: Array) -> _Change:
    """Compare one output's answers to n images."""
    if before.shape != after.shape:
        everywhere = np.ones(len(before), bool)
        return _Change(
            apart=np.full(len(before), np.inf),
            flipped=everywhere,
            output=output,
            before=before,
            after=after,
        )
    flat, other = (rows.reshape(len(rows), -1) for rows in (before, after))
    if before.dtype.kind != "f":
        # Classes and masks have no distance: they are equal, or they are not.
        apart = (flat[:, :1] != other[:, :1]).any(1).astype(np.float64)
        flipped = np.zeros(len(flat), bool)
    else:
        apart = row_distances(before, after)
        several = flat.shape[1] > 1
        flipped = flat.argmax(1) != other.argmax(1) if several else apart > _MOSTLY
    return _Change(apart=apart, flipped=flipped, output=output, before=before, after=after)


def _names_class(rows: Array) -> bool:
    """Whether answers, (n, ...), are a row of scores or a number each."""
    if rows.dtype.kind not in "fiub":
        return False
    size = rows[0].size
    return size == 1 or (rows.ndim > 1 and size == rows.shape[1] and rows.dtype.kind == "f")


def _worst(before: Rows, after: Rows) -> _Change | None:
    """Return what became of the output that moved most; None where there is none to compare."""
    changes = [_changed(name, rows, after[name]) for name, rows in before.items() if name in after]
    return max(changes, key=lambda c: float(c.apart.max()), default=None)


def _moved(change: _Change) -> float:
    """Return the middle of the answers' changes: one image on an edge is no evidence."""
    return float(np.median(change.apart))


def _forces(change: _Change) -> bool:
    """Whether nearly all answers became one class, and were not one."""
    if change.after.ndim < 2 or change.after[0].size < 2:  # noqa: PLR2004 - rows of scores
        return False
    first, last = (
        np.bincount(rows.reshape(len(rows), -1).argmax(1)) for rows in (change.before, change.after)
    )
    forced = int(last.argmax())
    there = first[forced] if forced < len(first) else 0
    return bool(last.max() >= _FORCED * len(change.after) and there < _FORCED * len(change.before))


def _honest(explained: Sequence[mixing.Node]) -> Severity:
    """Return how much a dependence weighs that an honest model has too.

    Dynamic quantisation cannot do otherwise; a layer that was left in training mode is a mistake.
    """
    return (
        Severity.NOTE if all(kind in mixing.DYNAMIC for kind, _ in explained) else Severity.WARNING
    )


def _said(number: float) -> str:
    return f"{number:.3g}" if np.isfinite(number) else "more than all"


def _listed(answer: Array) -> list[float | None]:
    flat = np.asarray(answer, np.float64).reshape(-1)[:_SHOWN]
    return [float(number) if np.isfinite(number) else None for number in flat]


_RELATIONS: tuple[Callable[[_Trial], Iterator[Observation]], ...] = (
    _repetition, _size, _company, _elsewhere, _zero, _levels, _edge, _optional, _optimiser,
)  # fmt: skip


def _name(relation: Callable[[_Trial], Iterator[Observation]]) -> str:
    return relation.__name__.strip("_")
