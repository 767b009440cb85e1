"""The original file, run from its own bytes as ONNX Runtime loads it by default.

No parser of ours stands in between. Inner values are exposed all the same: the concatenation of two
serialised protobuf messages is their merge (Protocol Buffers encoding specification, section "Last
one wins"), so that the file's bytes followed by those of a model with nothing but a graph output
are the file with one more output.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import probes, runtime
from scanner.instruments.detector import Subject
from scanner.instruments.noise_runs import fixed_batch
from scanner.instruments.witness import Witness
from scanner.modelfile.model import Model
from scanner.modelfile.wire_format import write_field
from scanner.settings import Device
from scanner.values import frozen

Array = npt.NDArray[Any]

_GRAPH, _OUTPUT, _NAME = 7, 12, 1  # field numbers of ModelProto, GraphProto and ValueInfoProto
_FEW, _MANY = 8, 48  # probes of a large image, and of a small one
_CROWDS = (4, 8, 16, 32, 64)  # sizes of batches that users choose
_FEW_CROWDS = 2  # so many of them with large images
_LARGE = 50_000  # numbers of an image from which on it is large
_COMPANIES = (2, 3, 5)  # sizes of the first batches in which images meet other company


@frozen
class Answers:
    """What the original answers to probes.

    Attributes:
        images: The probes, (n, *shape), in the type of the model's input.
        alone: By output, the answer to each probe by itself, (n, ...). Where the file fixes the
            batch size, the rest of the batch holds copies.
        together: By output, the same probes in batches of other sizes and other company; empty
            where the file runs one image only.
        crowds: By output, answers in batches of the sizes that users choose, (m, ...).
        members: Which image each of these is, (m,).
        batch: How many images the file takes at once at least.
        again: By output, the first probe's answer when it is asked a second time, (1, ...).
    """

    images: Array
    alone: dict[str, Array]
    together: dict[str, Array]
    again: dict[str, Array]
    crowds: dict[str, Array] = dataclasses.field(default_factory=dict)
    members: npt.NDArray[np.intp] = dataclasses.field(default_factory=lambda: np.zeros(0, np.intp))
    batch: int = 1


def own_bytes(model: Model) -> tuple[bytes, bool]:
    """Return the file's own bytes, and whether they had to be written anew.

    That is so where weights lie in a second file: ONNX Runtime gets bytes that name none. It is so
    too where the graph is not the file's own (`Model.rewritten`).

    Raises:
        ModelError: A guard refuses what is about to run, or external data cannot be read.
    """
    if model.plain is not None:
        return model.data, False
    complete = model.complete(model.proto)
    written = model.serialise(model.proto)  # asks the guards, whatever bytes are run
    own = complete is model.proto and not model.rewritten
    return (model.data, False) if own else (written, True)


def exposing(names: Sequence[str]) -> bytes:
    """Return the bytes that, behind those of a model file, make inner values its outputs."""
    outputs = b"".join(write_field(_OUTPUT, write_field(_NAME, name.encode())) for name in names)
    return write_field(_GRAPH, outputs) if names else b""


def open_original(
    data: bytes,
    threads: int,
    exposed: Sequence[str] = (),
    idle: Sequence[str] = (),
    *,
    optimise: bool = True,
) -> runtime.Session:
    """Load a file from its bytes, inner values exposed as further outputs.

    Args:
        data: The bytes.
        threads: For ONNX Runtime.
        exposed: Inner values.
        idle: Inputs that nothing reads (`Model.idle`).
        optimise: As for `runtime.open_session`.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses it.
    """
    session = runtime.open_session(data + exposing(exposed), Device.CPU, threads, optimise=optimise)
    return session.with_zeros(idle) if idle else session


def inner_values(
    model: Model, data: bytes, values: set[str], images: Array, threads: int
) -> dict[str, Array]:
    """Return inner values of the original for each image; what it does not have is left out.

    Args:
        model: The file as it was read.
        data: Its bytes, as ONNX Runtime gets them.
        values: Names.
        images: The images, (n, *shape).
        threads: For ONNX Runtime.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses the file, whatever is exposed.
    """
    graph = (model.plain or model.proto).graph
    made = {name for node in graph.node for name in node.output}
    own = {output.name for output in graph.output}
    there = sorted(value for value in values if value in made | own)
    if not there:
        return {}
    try:
        inner = [value for value in there if value not in own]
        session = open_original(data, threads, inner, model.idle)
        return ask_alone(session, images)
    except UnsupportedModelError:
        open_original(data, threads)  # raises where the file itself does not load
        return {}


def ask(session: runtime.Session, images: Array) -> Answers:
    """Return the answers to each probe alone, in company, and a second time.

    Raises:
        UnsupportedModelError: A run fails.
    """
    names = [output.name for output in session.native.get_outputs()]
    fixed = fixed_batch(session)
    members, crowds = _in_crowds(session, names, images, fixed)
    return Answers(
        images=images,
        alone=ask_alone(session, images),
        together=_in_company(session, names, images, fixed),
        again=ask_alone(session, images[:1]),
        crowds=crowds,
        members=members,
        batch=fixed or 1,
    )


def ask_alone(session: runtime.Session, images: Array) -> dict[str, Array]:
    """Return, by output, the answer to each image by itself, (n, ...).

    Raises:
        UnsupportedModelError: A run fails.
    """
    names = [output.name for output in session.native.get_outputs()]
    fixed = fixed_batch(session)
    runs = [_run(session, images[i : i + 1], fixed) for i in range(len(images))]
    return _per_image(names, runs, fixed or 1)


def probe_images(subject: Subject, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
    """Return probes, (n, *shape): families of noise, extremes, and images that searches left.

    Args:
        subject: Its `seen` holds what searches used and made, the most telling last.
        shape: Of one image.
        dtype: Of the model's input.
    """
    low, high = probes.input_range(dtype, subject.settings)
    generator = np.random.default_rng(subject.settings.seed)
    many = int(np.prod(shape)) < _LARGE
    noise = generator.random((4 if many else 2, *shape), dtype=np.float32)
    blocks = probes.multiscale_noise(8 if many else 2, shape, (0.0, 1.0), generator)
    unit = [noise, blocks, np.stack(list(_extremes(shape)))[: 4 if many else 2]]
    images = [np.float32(low) + np.float32(high - low) * part for part in unit]
    room = (_MANY if many else _FEW) - sum(map(len, images))
    seen = [np.asarray(part, np.float32) for part in subject.seen if part.shape[1:] == shape]
    if seen:
        images.append(np.concatenate(seen)[-room:])
    return cast(np.concatenate(images), dtype)


def cast(images: Array, dtype: np.dtype[np.generic]) -> Array:
    """Return images in the type of an input; integers are rounded."""
    return images.astype(dtype, copy=False) if dtype.kind == "f" else np.rint(images).astype(dtype)


def of_session(
    name: str,
    session: Callable[[], runtime.Session],
    values: Mapping[str, str],
    provider: str,
    *,
    peaks: bool = False,
) -> Witness:
    """Return the witness for a graph that was loaded.

    Args:
        name: Which graph of which detector, in words.
        session: Gives the graph once more (`scanner.instruments.runtime.later`).
        values: For each value of the file that it claims to compute, its output that holds it.
        provider: As in `Witness`.
        peaks: As in `Witness`.
    """

    def answer(images: Array) -> dict[str, Array]:
        loaded = session()
        found = ask_alone(loaded, cast(images, loaded.dtype))
        held = {value: found[output] for value, output in values.items() if output in found}
        return {value: peak(rows) for value, rows in held.items()} if peaks else held

    return Witness(
        name=name,
        values=tuple(values),
        answer=answer,
        peaks=peaks,
        provider=provider,
    )


def of_head(
    name: str,
    whole: Callable[[], runtime.Session],
    last: Callable[[], runtime.Session],
    values: list[str],
    provider: str,
) -> Witness:
    """Return the witness for a network cut in two: the first part's feature is fed to the second.

    Args:
        name: Which graph of which detector, in words.
        whole: Gives, once more, what computes the feature.
        last: Gives, once more, what computes the scores from the feature, its input.
        values: Names of the feature and the scores.
        provider: As in `Witness`.
    """
    feature, scores = values

    def answer(images: Array) -> dict[str, Array]:
        first = whole()
        features = ask_alone(first, cast(images, first.dtype))[feature]
        del first
        second = last()
        return {scores: ask_alone(second, features.astype(second.dtype, copy=False))[scores]}

    return Witness(name=name, values=(scores,), answer=answer, scores=True, provider=provider)


def peak(rows: Array) -> Array:
    """Return the largest element of each image, (n,)."""
    return np.asarray(rows.reshape(len(rows), -1).max(axis=1))


def _extremes(shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the highest, the lowest, a checkerboard and the middle image, in units of the range."""
    checker = np.indices(shape[-2:]).sum(axis=0) % 2 if len(shape) > 1 else np.arange(shape[0]) % 2
    for image in (1.0, 0.0, checker, 0.5):
        yield np.broadcast_to(np.asarray(image, np.float32), shape)


def _run(session: runtime.Session, images: Array, fixed: int | None) -> list[Any]:
    """Run images in one batch, filled with copies where its size is fixed."""
    if fixed is None or fixed == len(images):
        return session.run(images)
    return session.run(
        np.concatenate([images, np.repeat(images[-1:], fixed - len(images), axis=0)])
    )


def _in_company(
    session: runtime.Session, names: Sequence[str], images: Array, fixed: int | None
) -> dict[str, Array]:
    """Return each image's answers in batches of several, dealt so that neighbours are parted."""
    if fixed == 1:
        return {}
    order = np.argsort(np.arange(len(images)) % 7, kind="stable")[::-1]
    runs = []
    start = 0
    for size in (*_COMPANIES, *[len(images)] * len(images)):
        chosen = order[start : start + (fixed or min(size, probes.batch_size(images.shape[1:])))]
        if not len(chosen):
            break
        start += len(chosen)
        try:
            runs.append((chosen, _run(session, images[chosen], fixed)))
        except UnsupportedModelError:
            return {}  # it runs one image at a time, for the detectors as for its user
    found: dict[str, Array] = {}
    for position, name in enumerate(names):
        rows: list[Any] = [None] * len(images)
        for chosen, run in runs:
            whole = run[position]
            if not isinstance(whole, np.ndarray) or whole.shape[:1] != (fixed or len(chosen),):
                break
            for place, image in enumerate(chosen):
                rows[image] = np.asarray(whole[place])  # text alone has no shape
        if all(row is not None and row.shape == rows[0].shape for row in rows):
            found[name] = np.stack(rows)
    return found


def _in_crowds(
    session: runtime.Session, names: Sequence[str], images: Array, fixed: int | None
) -> tuple[npt.NDArray[np.intp], dict[str, Array]]:
    """Return answers in batches of the sizes that users choose, and which images they are.

    A size that the file does not run is passed over.
    """
    runs: list[tuple[npt.NDArray[np.intp], list[Any]]] = []
    large = int(np.prod(images.shape[1:])) >= _LARGE
    for size in _CROWDS[: _FEW_CROWDS if large else None] if fixed is None else ():
        chosen = np.arange(size, dtype=np.intp) % len(images)
        with contextlib.suppress(UnsupportedModelError):
            runs.append((chosen, _run(session, images[chosen], None)))
    found = {}
    for position, name in enumerate(names):
        parts = [run[position] for _, run in runs]
        if parts and all(
            isinstance(part, np.ndarray) and part.shape == (len(chosen), *parts[0].shape[1:])
            for part, (chosen, _) in zip(parts, runs, strict=True)
        ):
            found[name] = np.concatenate(parts)
    members = [chosen for chosen, _ in runs] or [np.zeros(0, np.intp)]
    return np.concatenate(members), found


def _per_image(names: Sequence[str], runs: Sequence[list[Any]], size: int) -> dict[str, Array]:
    """Return each output of runs of one image; one that is no array of one shape is left out."""
    found = {}
    for position, name in enumerate(names):
        rows = [run[position] for run in runs]
        if all(isinstance(row, np.ndarray) and row.shape == rows[0].shape for row in rows):
            found[name] = np.stack(
                [np.asarray(row[0]) if row.shape[:1] == (size,) else row for row in rows]
            )
    return found
