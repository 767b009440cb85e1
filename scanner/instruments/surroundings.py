"""What surrounds an image and must not matter: chance, the batch, other inputs, the optimiser.

Each function asks the same images in another way, and yields what changed. That ordinary images in
one batch do not matter to one another is checked with every scan, where what was measured in
batches is compared with the file (`scanner.detectors.translation`).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.graph.audit import mixing
from scanner.instruments import original, runtime
from scanner.instruments.interview import MOSTLY, Change, Interview, Rows, most_changed
from scanner.results import Observation, Severity

Array = npt.NDArray[Any]

_TINY = 4_096  # numbers of an image up to which every batch size is tried
_SIZES = {False: (2, 3, 4, 5, 8, 16, 32), True: (2, 8)}  # of a small and of a large image
_EVERY_SIZE = tuple(range(2, 65))
_MOST_NUMBERS = 1 << 23
"""Numbers of a batch whose size the file itself names."""
_MOST_SIZES = 16
_REPEATS = {False: 24, True: 4}
_MOST_BYTES = 512 << 20
"""Of a larger file, no second session is opened."""
_FORCED = 0.9  # of the images, that one class takes
_SMALL_INPUT = 16  # numbers; a larger optional input is a weight
_MOST_OPTIONAL = 8
_FOREIGN = {
    "NaN": np.nan,
    "infinity": np.inf,
    "negative infinity": -np.inf,
    "huge numbers": 6e4,  # float16 has no larger ones
    "zeros": 0.0,
}


def repetition(asked: Interview) -> Iterator[Observation]:
    """Ask one image again and again."""
    images = np.repeat(asked.images[len(asked.images) // 2 :][:1], _REPEATS[asked.large], axis=0)
    answers = asked.ask(images)
    # The commonest answer is the one that most others lie close to.
    changes = [
        most_changed({name: rows[[i] * len(rows)] for name, rows in answers.items()}, answers)
        for i in range(len(images))
    ]
    moved = [1.0 if c is None else float((c.apart > asked.tolerance).mean()) for c in changes]
    change, share = changes[int(np.argmin(moved))], min(moved)
    if change is None:
        return
    asked.apart["runs"] = float(change.apart.max())
    if not share:
        return
    asked.settled = False
    rare = share < MOSTLY and asked.gates(change)
    drawn = asked.named(mixing.RANDOM | {mixing.DROPOUT, mixing.BATCH_NORM})
    seldom = f", in {round(share * 100)} % of the runs" if rare else ""
    yield asked.observation(
        "depends-on-chance",
        change,
        f"The same image gets another answer when it is run again{seldom}",
        images,
        drawn,
        severity=Severity.SUSPICIOUS if rare or not drawn else Severity.WARNING,
    )


def size(asked: Interview) -> Iterator[Observation]:
    """Ask copies of one image in batches of several sizes, and look at every place of them."""
    if asked.fixed:
        return
    first, *others = asked.unlike()
    own = int(np.prod(asked.shape))
    usual = _EVERY_SIZE if own <= _TINY else _SIZES[asked.large]
    counted = mixing.counted(asked.model.proto)
    further = {size for n in counted for size in (n, n + 1) if 1 < size <= _MOST_NUMBERS // own}
    sizes = [*usual, *sorted(further.difference(usual))[:_MOST_SIZES]]
    changed = [size for size in sizes if _copies(asked, first, size)[0]]
    if not changed:
        return
    # A gate shows in the class of an image that was not of its class anyway.
    found = [
        (change, copies)
        for place in (first, *others)
        for change, copies in [_copies(asked, place, changed[0])]
        if change is not None
    ]
    asked.sized = True
    change, copies = max(found, key=lambda member: asked.gates(member[0]))
    moved = np.flatnonzero(change.apart > asked.tolerance)
    everywhere = len(moved) == len(copies)
    where = "" if everywhere else f", in place {int(moved[0]) + 1}"
    observation = asked.observation(
        "depends-on-batch-size" if everywhere else "depends-on-place",
        change,
        f"An image gets another answer in a batch of {len(copies)} copies of itself than "
        f"alone{where}",
        copies,
        asked.named(mixing.DYNAMIC | {mixing.BATCH_NORM}),
    )
    telling = [name for n, name in counted.items() if len(copies) in (n, n + 1)]
    yield dataclasses.replace(observation, nodes=(*telling, *observation.nodes))


def _copies(asked: Interview, place: int, size: int) -> tuple[Change | None, Array]:
    """Return what becomes of an image's answers in a batch of copies, and the batch."""
    copies = np.repeat(asked.images[place : place + 1], size, axis=0)
    before = {n: np.repeat(r[place : place + 1], size, 0) for n, r in asked.alone.items()}
    return asked.change(before, asked.batch(copies), "batch size"), copies


def elsewhere(asked: Interview) -> Iterator[Observation]:
    """Ask an image beside others that hold NaN, infinities, huge numbers, or nothing."""
    if asked.session.dtype.kind != "f" or asked.fixed == 1 or asked.sized:
        return
    places = asked.unlike()
    images, before = asked.images[places], {n: r[places] for n, r in asked.alone.items()}
    if asked.change(before, _beside(asked, images, _FOREIGN.values()), "values elsewhere") is None:
        return
    for said, number in _FOREIGN.items():
        change = asked.change(before, _beside(asked, images, [number]), "values elsewhere")
        if change is None:
            continue
        # NaN goes through a sum or a maximum of the batch and out at the other end; where it
        # decides, the answer is a number again.
        decides = np.isnan(number) and bool(np.isfinite(change.after).all())
        kinds = {mixing.BATCH_NORM, *mixing.DYNAMIC} | (set() if decides else {mixing.REDUCED})
        yield asked.observation(
            "depends-on-values-elsewhere",
            change,
            f"The answer to an image changes when another image in the batch is all {said}",
            images,
            asked.named(frozenset(kinds)),
        )
        return


def _beside(asked: Interview, images: Array, numbers: Iterable[float]) -> Rows:
    """Return each image's answer beside images of one number each."""
    others = [np.full(asked.shape, number, asked.session.dtype) for number in numbers]
    if asked.fixed:
        others = (others * asked.fixed)[: asked.fixed - 1]
    found = [asked.batch(np.stack([image, *others])) for image in images]
    return {name: np.stack([rows[name][0] for rows in found]) for name in found[0]}


def optional(asked: Interview) -> Iterator[Observation]:
    """Feed inputs that have a default, and that nobody need feed."""
    native = asked.session.native
    inputs = native.get_overridable_initializers()
    # Where every weight may be fed, as older files ask for, a small one is a bias.
    if not inputs or len(inputs) >= len(asked.model.proto.graph.initializer):
        return
    for given in inputs[:_MOST_OPTIONAL]:
        sizes = [size if isinstance(size, int) else 1 for size in given.shape]
        if int(np.prod(sizes)) > _SMALL_INPUT:
            continue
        dtype = runtime.numpy_dtype(given.type)
        if dtype.kind not in "fiub":
            continue
        yield from _fed(asked, given.name, sizes, dtype)


def _fed(
    asked: Interview, name: str, sizes: Sequence[int], dtype: np.dtype[np.generic]
) -> Iterator[Observation]:
    """Yield what feeding one optional input does."""
    changes = []
    for number in (1, 0, -1, 7):
        value = np.full(sizes, number).astype(dtype)
        feeds = [{asked.session.input_name: _filled(asked, i), name: value} for i in asked.images]
        outputs = [output.name for output in asked.session.native.get_outputs()]
        runs = [dict(zip(outputs, asked.session.feed(f), strict=True)) for f in feeds]
        after = {
            n: np.stack([run[n][0] for run in runs])
            for n in outputs
            if all(np.ndim(run[n]) for run in runs)
        }
        change = asked.change(asked.alone, after, f"optional input {name!r}")
        if change is not None:
            changes.append((number, change))
    if not changes:
        yield Observation(
            code="optional-input",
            severity=Severity.WARNING,
            sentence=f"The input {name!r} has a default, so nobody has to feed it. It changed no "
            "answer that was tried, but may change others",
            nodes=(name,),
        )
        return
    number, change = max(changes, key=lambda c: (_forces(c[1]), float(c[1].flipped.mean())))
    # A scale or a mean that is fed wrongly spoils an answer too; a switch is off by default.
    off = not np.any(mixing.default_numbers(asked.model.proto, name))
    observation = asked.observation(
        "depends-on-an-optional-input",
        change,
        f"The optional input {name!r}, which nobody has to feed, changes answers when it is "
        f"{number}",
        asked.images,
        severity=Severity.SUSPICIOUS
        if off and _forces(change) and asked.gates(change)
        else Severity.WARNING,
    )
    yield dataclasses.replace(observation, nodes=(name,))


def _filled(asked: Interview, image: Array) -> Array:
    return np.repeat(image[None], asked.fixed or 1, axis=0)


def optimiser(asked: Interview) -> Iterator[Observation]:
    """Run the file node by node, as it is written."""
    if len(asked.data) > _MOST_BYTES:
        return
    plain = original.open_original(
        asked.data, asked.settings.threads, idle=asked.model.idle, optimise=False
    )
    change = asked.change(asked.alone, asked.ask(asked.images, plain), "optimiser")
    # A picture of one colour may lie on a rounding edge everywhere at once: one is no evidence.
    if change is not None and np.sort(change.apart)[-2:].min() > asked.tolerance:
        codes = (
            mixing.DYNAMIC | mixing.RANDOM | {"QuantizeLinear", mixing.DROPOUT, mixing.BATCH_NORM}
        )
        yield asked.observation(
            "depends-on-the-optimiser",
            change,
            "The answer to an image changes when ONNX Runtime does not optimise the graph",
            asked.images,
            asked.named(codes),
        )


def _forces(change: Change) -> bool:
    """Whether nearly all answers became one class, and were not one."""
    if change.after.ndim < 2 or change.after[0].size < 2:  # noqa: PLR2004 - rows of scores
        return False
    first, last = (
        np.bincount(rows.reshape(len(rows), -1).argmax(1)) for rows in (change.before, change.after)
    )
    forced = int(last.argmax())
    there = first[forced] if forced < len(first) else 0
    return bool(last.max() >= _FORCED * len(change.after) and there < _FORCED * len(change.before))
