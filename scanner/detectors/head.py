"""HEAD: how the last linear layer answers to random latents, class by class; no gradient.

Source: HTell, arXiv 2605.18908 (the abstract: the head of the network alone, fed with random
latents, tells its target). Two choices are ours, made on development models (docs/detection.md).
All channels are drawn on one scale, not each on its own: a channel that noise leaves silent is
where a trigger's answer may hide. And few of them are active in one latent, as behind a ReLU.
"""

import functools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLogitsError, UnsupportedModelError
from scanner.graph.core import extract, flatten
from scanner.graph.core.draft import Proto
from scanner.graph.gradient.float_twin import float_twin
from scanner.graph.layers import head
from scanner.graph.layers.logits import find_logits
from scanner.graph.layers.two_scores import both
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.noise_runs import conditions, fixed_batch, over_noise, run_filled
from scanner.instruments.statistics import class_margins, robust_z
from scanner.modelfile.model import Model
from scanner.results import (
    ByClass,
    ClassRow,
    Contribution,
    Measurement,
    Part,
    Rule,
    Wording,
)
from scanner.settings import Settings

LATENTS = 2_000
DENSITY = 0.1  # share of a latent's channels that are active
_BATCH = 250
_MOST_AHEAD = 1 << 22  # numbers that are drawn before they are needed, and held

Floats64 = npt.NDArray[np.float64]


class Head(Detector):
    """The mean margin z_t - max z_k of each class over random latents.

    It is in standard deviations of a latent's logits.
    """

    rule: ClassVar[Rule] = Rule(
        id="head",
        name="Head response (HEAD)",
        summary="The last layer prefers a class on random latents, more than a clean model's does.",
        source="HTell, arXiv 2605.18908, 2026",
    )
    needs: ClassVar[Needs] = Needs.LOGITS
    copies: ClassVar[float] = 5
    contribution: ClassVar[Contribution] = Contribution(
        part=Part.COMBINED, beside_one=1.28, alone=0.81
    )
    wording: ClassVar[Wording] = Wording(
        one="on random latents class {target} lies {difference:.2f} standard deviations nearer to "
        "winning than in the references, and wins {share:.0%} of them",
        alone="on random latents class {target} is the nearest to winning",
        leading="on random latents class {target} is the nearest to winning, by {lead:.2f} "
        "standard deviations",
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return, for each class, its share of the decisions, its mean logit and its mean margin.

        A class's figure is its margin; `share` and `logit` are those of random latents too,
        `noise_share` and `noise_margin` those of the noise images that set the latents' scale. The
        statistic is the largest robust z of a margin over classes.

        Raises:
            NoLogitsError: There are no logits, or fewer than two classes.
            NoLayerError: No linear layer makes the logits.
            UnsupportedModelError: Several inputs, or a value is not a number.
        """
        model, settings = subject.model, subject.settings
        shape = probes.image_shape(model, settings)
        flat = _flat(model)
        found = find_logits(flat, settings.logits)
        logits, single = found.value, found.single is not None
        feature = head.head_input(flat, logits)
        whole = _cut(model, flat, settings, [feature, logits])
        drawing = _Drawing(whole, feature, settings.seed)
        features, answers = over_noise(whole, shape, subject)
        noise = _by_class(_rows(both(answers) if single else answers, logits))
        scale = float(np.sqrt(np.mean(np.square(features, dtype=np.float64))))
        signed = bool(features.min() < 0)
        batch = fixed_batch(whole)
        opened = extract.between(flat, head.as_input(feature, features, batch), [logits])
        data = model.serialise(opened)
        load = functools.partial(runtime.open_session, data, settings.device, settings.threads)
        session = load()
        responses = _over_latents(
            session, features, scale, drawing, signed=signed, batch=batch or _BATCH
        )
        latent = _by_class(_rows(both(responses) if single else responses, logits))
        ends = {name: name for name in (feature, logits)}
        first = runtime.later(whole, lambda: _cut(model, _flat(model), settings, [feature, logits]))
        last = runtime.later(session, load)
        subject.witnesses.extend(
            [
                original.of_session("HEAD's cut", first, ends, whole.provider),
                original.of_head("HEAD's last layer", first, last, [*ends], session.provider),
            ]
        )
        statistic = float(robust_z(latent["margin"]).max())
        return Measurement(
            rule=self.rule.id,
            statistic=statistic,
            parameters={
                **conditions(whole, shape, subject),
                "logits": logits,
                "asked_logits": settings.logits,
                "classes": len(latent["margin"]),
                "latents": LATENTS,
                "density": DENSITY,
                "signed": signed,
            },
            figures={"margin_z": statistic, "latent_scale": scale},
            by_class=_profile(latent, noise),
        )


def _flat(model: Model) -> Proto:
    return float_twin(flatten.flatten(model.proto))


def _cut(model: Model, flat: Proto, settings: Settings, values: Sequence[str]) -> runtime.Session:
    """Load what computes some values."""
    cut = model.serialise(extract.upstream(flat, values))
    return runtime.open_session(cut, settings.device, settings.threads)


def _profile(latent: dict[str, Floats64], noise: dict[str, Floats64]) -> ByClass:
    margins = latent["margin"].tolist()
    further = {
        "share": latent["share"],
        "logit": latent["logit"],
        "noise_share": noise["share"],
        "noise_margin": noise["margin"],
    }
    rows = tuple(
        ClassRow(
            class_id=class_id,
            figure=margin,
            course=(margin,),
            figures={name: float(values[class_id]) for name, values in further.items()},
        )
        for class_id, margin in enumerate(margins)
    )
    return ByClass(classes=len(margins), rows=rows)


class _Drawing:
    """Latents that a thread draws while ONNX Runtime is at work: neither holds the interpreter.

    Args:
        session: What computes the feature: it tells how large a latent is.
        feature: Its name.
        seed: Of the random numbers.
    """

    def __init__(self, session: runtime.Session, feature: str, seed: int) -> None:
        shapes = {output.name: output.shape for output in session.native.get_outputs()}
        sizes = (shapes[feature] or ())[1:]
        self._seed, self._batches = seed, list[npt.NDArray[np.float32]]()
        self._thread: threading.Thread | None = None
        known = all(isinstance(size, int) for size in sizes)
        if known and LATENTS * math.prod(sizes) <= _MOST_AHEAD:
            self._thread = threading.Thread(target=self._draw, args=(sizes,), daemon=True)
            self._thread.start()

    def _draw(self, sizes: Sequence[int]) -> None:
        self._batches.extend(sparse_normal(sizes, self._seed))

    def batches(self, sizes: Sequence[int]) -> Iterable[npt.NDArray[np.float32]]:
        """Return what `sparse_normal` yields; drawn now where that was not done before."""
        if self._thread is not None:
            self._thread.join()
        drawn = [len(batch) for batch in self._batches if batch.shape[1:] == tuple(sizes)]
        return self._batches if sum(drawn) == LATENTS else sparse_normal(sizes, self._seed)


def sparse_normal(sizes: Sequence[int], seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield batches of sparse normal numbers, (n, *sizes)."""
    generator = np.random.default_rng(seed)
    for start in range(0, LATENTS, _BATCH):
        values = generator.standard_normal((min(_BATCH, LATENTS - start), *sizes), dtype=np.float32)
        values *= generator.random(values.shape, dtype=np.float32) < DENSITY
        yield values


def scaled(
    values: npt.NDArray[np.float32], scale: float, *, signed: bool
) -> npt.NDArray[np.float32]:
    """Return sparse normal numbers as latents of mean square `scale` squared, (n, *sizes).

    Unless they are signed, they are half-normal.
    """
    latents = values if signed else np.abs(values)
    return latents * np.float32(scale / np.sqrt(DENSITY))


def _over_latents(  # noqa: PLR0913 - what is drawn, and how it is fed
    session: runtime.Session,
    features: npt.NDArray[Any],
    scale: float,
    drawing: _Drawing,
    *,
    signed: bool,
    batch: int,
) -> npt.NDArray[Any]:
    """Return the head's answers, (latents, ...)."""
    parts = []
    for values in drawing.batches(features.shape[1:]):
        cast = scaled(values, scale, signed=signed).astype(features.dtype, copy=False)
        parts += [
            run_filled(session, cast[i : i + batch], batch)[0] for i in range(0, len(cast), batch)
        ]
    return np.concatenate(parts)


def _rows(logits: npt.NDArray[Any], name: str) -> Floats64:
    """Return logits as (n, classes).

    Raises:
        NoLogitsError: They have another shape, or there are fewer than two classes.
        UnsupportedModelError: A logit is not a number.
    """
    rows = logits.reshape(len(logits), -1).astype(np.float64)
    if rows.shape[1] < 2 or rows.shape[1] != logits.shape[1]:  # noqa: PLR2004 - one class leaves nothing to prefer
        raise NoLogitsError(
            f"the logits {name!r} are of shape {logits.shape[1:]} for each image, and one number "
            "for each of two or more classes is needed",
            remedy="name the logits with the setting `logits`",
        )
    if not np.isfinite(rows).all():
        raise UnsupportedModelError(
            f"the logits {name!r} are not finite numbers on random latents",
            remedy="export the model again",
        )
    return rows


def _by_class(logits: Floats64) -> dict[str, Floats64]:
    """Return each class's share of the decisions, mean logit and mean margin, each (classes,).

    Logits are centred for each row; logit and margin are in standard deviations of a row's logits,
    on average.
    """
    centred = logits - logits.mean(axis=1, keepdims=True)
    return {
        "share": np.bincount(logits.argmax(axis=1), minlength=logits.shape[1]) / len(logits),
        "logit": centred.mean(axis=0) / (float(logits.std(axis=1).mean()) or 1.0),
        "margin": class_margins(logits),
    }
