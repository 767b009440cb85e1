"""Translation validation: what detectors measured must be what the file computes.

Detectors measure graphs that were parsed, inlined, folded, widened or cut; the user runs the file.
Each of these graphs is compared with the original, run by ONNX Runtime from its own bytes, on the
same inputs (A. Pnueli, M. Siegel, E. Singerman, "Translation Validation", TACAS 1998: not the
translator is proved, but each of its results is checked).
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import company, half_range, kept, original, own_reading, probes, runtime
from scanner.instruments.agreement import (
    TOLERANCES,
    precision,
    row_distances,
)
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.statistics import median
from scanner.instruments.witness import Witness
from scanner.results import (
    Contribution,
    Measurement,
    Observation,
    Part,
    Rule,
    Severity,
)
from scanner.values import frozen

Array = npt.NDArray[Any]
Measured = tuple[Witness, Mapping[str, Array]]
"""A witness and its answers to the probes."""

_CUDA = 0.03  # convolutions on CUDA may round their factors to TF32, 11 bits
_INNER = 6  # probes on which inner values are compared
_MOST_BYTES = 256 << 20
"""A larger file is not run whole in order to check one layer of it."""


class Translation(Detector):
    """Each measured graph against the file; the statistic is the highest severity."""

    rule: ClassVar[Rule] = Rule(
        id="not-the-file",
        name="Translation validation",
        summary="What was measured is not what the file computes when ONNX Runtime loads it.",
        source="A. Pnueli, M. Siegel, E. Singerman, Translation Validation, TACAS 1998",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    copies: ClassVar[float] = 7
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)
    after_searches: ClassVar[bool] = True

    def measure(self, subject: Subject) -> Measurement:
        """Return what is not the file, and answers that depend on the batch.

        Raises:
            ModelError: ONNX Runtime refuses the file, or it cannot be compared with anything.
            UsageError: The image's shape or range is not known.
            UnsupportedModelError: Several outputs may be the class scores, and only one was
                measured; or the file answers one image differently each time.
        """
        check = _Check(subject)
        observations = tuple(check.observations())
        if not any(o.severity >= Severity.SUSPICIOUS for o in observations):
            check.refuse_doubt()
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in observations), default=0)),
            parameters=check.parameters(),
            figures={
                name: apart if np.isfinite(apart) else None
                for name, apart in check.distances.items()
            },
            observations=observations,
        )


@frozen
class _Gap:
    """Where a witness and the file are furthest apart."""

    witness: str
    value: str
    image: int
    distance: float
    file: Array
    measured: Array


class _Check:
    """One file beside the graphs that were measured in its place."""

    def __init__(self, subject: Subject) -> None:
        self.subject, self.model, self.settings = subject, subject.model, subject.settings
        self.witnesses = list(subject.witnesses)
        self.shape = probes.image_shape(self.model, self.settings)
        kind = runtime.numpy_dtype(f"tensor({self.model.identity.inputs[0].dtype})")
        self.range = probes.input_range(kind, self.settings)
        self.precision = precision(self.model)
        self.tolerance = TOLERANCES[self.precision]
        self.distances: dict[str, float] = {}
        self.rewritten = False
        self.count = 0
        self._random: float | None = None
        self._saturated: float | None = None
        self._several: list[str] = []
        self._drawn: str | None = None
        self._sized: str | None = None
        self._crowd: company.Crowd | None = None

    def parameters(self) -> dict[str, Any]:
        """Return what the comparison depended on."""
        return {
            "witnesses": [witness.name for witness in self.witnesses],
            "probes": self.count,
            "precision": self.precision,
            "tolerance": self.tolerance,
            "rewritten": self.rewritten,
            "seed": self.settings.seed,
            "input_range": list(self.range),
            "input_shape": list(self.shape),
        }

    def observations(self) -> Iterator[Observation]:
        """Yield what was found, the gravest first."""
        layers_only = bool(self.witnesses) and all(w.peaks for w in self.witnesses)
        if layers_only and self.model.size > _MOST_BYTES:
            yield Observation(
                code="layer-not-compared",
                severity=Severity.NOTE,
                sentence=f"The model has more than {_MOST_BYTES >> 20} MiB: it is not run whole to "
                "check the layer that was measured",
            )
            return
        self.data, self.rewritten = original.own_bytes(self.model)
        if self.model.rewritten:
            yield Observation(
                code="not-its-bytes",
                severity=Severity.WARNING,
                sentence=f"The file was run in another form ({self.model.rewritten}), so that what "
                "programs make of its own bytes was not compared",
            )
        gaps = list(self._layers() if layers_only else self._everything())
        if gaps:
            yield self._disagreement(max(gaps, key=lambda gap: gap.distance), gaps)
        if not layers_only:
            if self._random is None:
                self._crowd = company.Crowd(
                    self.model, self.data, self.answers, self.settings, self.tolerance
                )
                yield from self._crowd.observations(self.range)
                self.distances |= self._crowd.distances
            yield from half_range.beyond(self.model, self.data, self.answers.images, self.settings)

    def refuse_doubt(self) -> None:
        """Refuse to pass a file of which something could not be compared."""
        if self._random is not None:
            raise UnsupportedModelError(
                f"the file answers one image differently each time, by {self._random:.3g} times "
                "the answer's spread, so nothing that was measured can be compared with it",
                remedy="export the model without random operators",
            )
        if self._saturated is not None:
            raise UnsupportedModelError(
                "quantised activations reach the end of their codes on most images: without these "
                f"ends, as MM-BD measures it, answers differ by {self._saturated:.3g} times their "
                "spread",
                remedy="scan the model that it was quantised from",
            )
        if self._crowd is not None and self._crowd.scaled is not None:
            raise UnsupportedModelError(
                f"in a batch the answer to an image differs by {self._crowd.scaled:.3g} times its "
                "spread; the model computes its quantisation scales from the batch, so that this "
                "neither shows a backdoor nor rules one out",
                remedy="scan the model that it was quantised from",
            )
        if self._drawn is not None:
            raise UnsupportedModelError(
                f"the node {self._drawn!r} draws random numbers, so later runs may give other "
                "answers than the runs of this scan",
                remedy="export the model without random operators",
            )
        if self._sized is not None:
            raise UnsupportedModelError(
                f"the node {self._sized!r} computes with the size of the batch, so batches of "
                "other sizes may get other answers than the batches of this scan",
                remedy="export the model for a batch of one size",
            )
        if self._several:
            names = ", ".join(map(repr, self._several))
            raise UnsupportedModelError(
                f"several outputs may be the class scores, and not all were measured ({names})",
                remedy="name the one that decides with the setting `logits`",
            )

    def _everything(self) -> Iterator[_Gap]:
        session = original.open_original(self.data, self.settings.threads, idle=self.model.idle)
        images = original.probe_images(self.subject, self.shape, session.dtype)
        self.count = len(images)
        self.answers = original.ask(session, images)
        del session
        self._random = self._apart_from_itself()
        if self._random is not None:
            return
        answers = ((w, _answer(w, images)) for w in self.witnesses if not w.peaks)
        measured = [(witness, found) for witness, found in answers if found is not None]
        yield from self._outputs(measured)
        yield from self._inner_values(measured, images)
        self._several = self._unmeasured_scores(measured)
        self._look_at_use()

    def _look_at_use(self) -> None:
        """Note by what else than the image the file answers."""
        from scanner.graph.audit import usage  # noqa: PLC0415 - onnx
        from scanner.graph.core import flatten  # noqa: PLC0415 - as above

        flat = flatten.flatten(self.model.proto)
        self._drawn = usage.drawn(flat)
        if self.answers.together or self.answers.crowds:
            self._sized = usage.asks_for_batch_size(flat, self.shape)

    def _layers(self) -> Iterator[_Gap]:
        """Compare layers only, on a few probes; the file is run once, the layers exposed."""
        dtype = runtime.numpy_dtype(f"tensor({self.model.identity.inputs[0].dtype})")
        low, high = self.range
        unit = np.random.default_rng(self.settings.seed).random((2, *self.shape), dtype=np.float32)
        images = original.cast(np.float32(low) + np.float32(high - low) * unit, dtype)
        self.count = len(images)
        yield from self._inner_values([], images)

    def _apart_from_itself(self) -> float | None:
        """Return how far two answers to one image are apart, None where they agree."""
        again = self.answers.again
        apart = [
            float(row_distances(rows[:1], again[name]).max())
            for name, rows in self.answers.alone.items()
            if name in again and rows.dtype.kind in "fiub"
        ]
        return max(apart) if apart and max(apart) > self.tolerance else None

    def _outputs(self, measured: Sequence[Measured]) -> Iterator[_Gap]:
        """Yield witnesses whose values, or what follows from them, differ from the outputs."""
        for witness, arrays in measured:
            for value, array in arrays.items():
                theirs = self.answers.alone.get(value)
                if theirs is not None and theirs.dtype.kind == "f":
                    yield from self._gap(witness, value, theirs, array)
            last = witness.values[-1]
            if witness.scores and last not in self.answers.alone and not witness.relaxed:
                yield from self._through_the_rest(witness, arrays[last])

    def _through_the_rest(self, witness: Witness, scores: Array) -> Iterator[_Gap]:
        """Run what lies behind the scores on the measured ones, up to the file's outputs."""
        for name, array in self._behind(witness, scores).items():
            theirs = self.answers.alone[name]
            if theirs.dtype.kind == "f":
                yield from self._gap(witness, name, theirs, array)
            elif theirs.dtype.kind in "iub":
                yield from self._decisions(witness, name, theirs, array, scores)

    def _behind(self, witness: Witness, scores: Array) -> dict[str, Array]:
        """Return the outputs that our reading of the graph computes from given scores."""
        return own_reading.behind(
            self.model, witness.values[-1], scores, self.answers, self.settings
        )

    def _firm(
        self, witness: Witness, name: str, ours: Array, scores: Array
    ) -> npt.NDArray[np.bool_]:
        """Return for which images scores decide clearly, (n,): small errors change nothing."""
        slack, rows = 2 * self._allowed(witness), scores.reshape(len(scores), -1)
        if rows.shape[1] > 1:
            ranked = np.sort(rows.astype(np.float64), axis=1)
            spread = np.maximum(ranked[:, -1] - ranked[:, 0], 1e-30)
            return np.asarray((ranked[:, -1] - ranked[:, -2]) / spread > slack)
        # A single score leads nothing, and where it is cut is the graph's affair: so it is moved.
        step = slack * np.abs(scores).max(initial=0)
        moved = [self._behind(witness, scores + way * step)[name] for way in (-1, 1)]
        first = ours.reshape(len(ours), -1)[:, 0]
        return np.asarray(np.all([m.reshape(len(m), -1)[:, 0] == first for m in moved], axis=0))

    def _decisions(
        self, witness: Witness, name: str, theirs: Array, ours: Array, scores: Array
    ) -> Iterator[_Gap]:
        """Yield where classes differ although the scores were no tie."""
        first, second = theirs.reshape(len(theirs), -1), ours.reshape(len(ours), -1)
        if first.shape != second.shape:
            return
        # Only the first is the class: what follows, as in TopK, may swap with its neighbour.
        wrong = first[:, 0] != second[:, 0]
        wrong = wrong & self._firm(witness, name, ours, scores) if wrong.any() else wrong
        if wrong.any():
            image = int(np.argmax(wrong))
            yield _Gap(
                witness=witness.name,
                value=name,
                image=image,
                distance=1.0,
                file=first[image],
                measured=second[image],
            )

    def _inner_values(self, measured: Sequence[Measured], images: Array) -> Iterator[_Gap]:
        """Compare values inside the graph, exposed by their names in the file, on a few images."""
        few = images[:_INNER]
        claims: list[tuple[Witness, str, Array]] = [
            (witness, value, array[: len(few)])
            for witness, arrays in measured
            for value, array in arrays.items()
            if value not in self.answers.alone and not witness.relaxed
        ]
        for witness in self.witnesses:
            if witness.peaks:
                claims += [(witness, value, rows) for value, rows in witness.answer(few).items()]
        if not claims:
            return
        exposed = original.inner_values(
            self.model, self.data, {value for _, value, _ in claims}, few, self.settings.threads
        )
        left = []
        for witness, value, array in claims:
            theirs = exposed.get(value)
            if theirs is None or theirs.dtype.kind != "f":
                left.append((witness, value, array))
            else:
                yield from self._gap(
                    witness, value, original.peak(theirs) if witness.peaks else theirs, array
                )
        yield from self._by_our_own_reading([claim for claim in left if claim[0].peaks], few)

    def _by_our_own_reading(
        self, claims: Sequence[tuple[Witness, str, Array]], images: Array
    ) -> Iterator[_Gap]:
        """Compare values that have no name of their own in the file, such as those of a function.

        They are compared with our reading of the whole graph, and that with the file's outputs.
        """
        if not claims:
            return
        outputs = [output.name for output in self.model.proto.graph.output]
        values = dict.fromkeys([*outputs, *(value for _, value, _ in claims)])
        whole = own_reading.open_whole(self.model, list(values), self.settings)
        ours = original.ask_alone(whole, images)
        plain = original.open_original(self.data, self.settings.threads, idle=self.model.idle)
        theirs = original.ask_alone(plain, images)
        reading = Witness(name="our reading of the whole graph", values=(), answer=lambda _: {})
        for name in outputs:
            if name in ours and name in theirs and theirs[name].dtype.kind == "f":
                yield from self._gap(reading, name, theirs[name], ours[name])
        for witness, value, array in claims:
            if value in ours and ours[value].dtype.kind == "f":
                yield from self._gap(witness, value, original.peak(ours[value]), array)

    def _gap(self, witness: Witness, value: str, theirs: Array, ours: Array) -> Iterator[_Gap]:
        """Yield where two arrays of one value are furthest apart, if beyond the tolerance."""
        count = min(len(theirs), len(ours))
        distances = row_distances(theirs[:count], ours[:count])
        # What differs by design is compared by what most images say.
        judged = median(distances) if witness.relaxed else self._furthest(distances)
        name = f"{witness.name}: {value}"
        self.distances[name] = max(judged, self.distances.get(name, 0.0))
        if judged <= self._allowed(witness):
            return
        if witness.relaxed and self._is_its_twin:
            self._saturated = max(judged, self._saturated or 0.0)
        else:
            image = int(distances.argmax())
            yield _Gap(
                witness=witness.name,
                value=value,
                image=image,
                distance=judged,
                file=theirs[image],
                measured=ours[image],
            )

    @functools.cached_property
    def _is_its_twin(self) -> bool:
        """Whether the file answers as its float twin does, codes with their ends.

        Then the ends are all by which a witness without them can differ.
        """
        names = [name for name, rows in self.answers.alone.items() if rows.dtype.kind == "f"]
        twin = own_reading.open_by_node(self.model, names, self.settings)
        ours = original.ask_alone(twin, self.answers.images)
        apart = (row_distances(self.answers.alone[name], ours[name]) for name in names)
        return all(self._furthest(distances) <= self.tolerance for distances in apart)

    def _furthest(self, distances: npt.NDArray[np.float64]) -> float:
        """Return the largest distance; the second largest of codes.

        A picture of one colour may lie on a rounding edge everywhere at once, and then all of its
        codes differ by one.
        """
        rank = 2 if self.precision == "int8" and len(distances) > 1 else 1
        return float(np.sort(distances)[-rank])

    def _allowed(self, witness: Witness) -> float:
        allowed = self.tolerance if witness.provider == "CPU" else max(self.tolerance, _CUDA)
        return max(allowed, TOLERANCES["int8"]) * 2 if witness.relaxed else allowed

    def _unmeasured_scores(self, measured: Sequence[Measured]) -> list[str]:
        """Return the outputs that might be the class scores too, with the one that was measured."""
        witness = next((w for w, _ in measured if w.scores), None)
        if witness is None or self.settings.logits is not None:
            return []
        value = witness.values[-1]
        scores = next(arrays[value] for w, arrays in measured if w is witness)
        columns = _columns(scores)
        likely = {
            name: _columns(rows) == columns or _labels(rows, columns)
            for name, rows in self.answers.alone.items()
            if name != value and (_labels(rows, columns) or _scored(rows))
        }
        other = [
            name
            for name, equal in likely.items()
            if not own_reading.follows(self.model, name, value)
            and (equal or not own_reading.follows(self.model, value, name))
        ]
        return [value, *other] if other else []

    def _disagreement(self, worst: _Gap, gaps: Sequence[_Gap]) -> Observation:
        images = self.answers.images if hasattr(self, "answers") else None
        details: dict[str, Any] = {
            "witness": worst.witness,
            "value": worst.value,
            "distance": worst.distance if np.isfinite(worst.distance) else None,
            "tolerance": self.tolerance,
            "file": kept.listed(worst.file),
            "measured": kept.listed(worst.measured),
            "all": sorted({f"{gap.witness}: {gap.value}" for gap in gaps}),
        }
        first = shown = None
        if images is not None:
            image = images[worst.image : worst.image + 1]
            shown = kept.pictured(image[0], self.range)
            first = own_reading.first_difference(
                self.model, self.data, image, self.tolerance, self.settings
            )
            details["first"] = first
        said = f", first of all in {first!r}" if first else ""
        return Observation(
            code="not-the-file",
            severity=Severity.SUSPICIOUS,
            sentence="The file does not compute what was measured: for the same image ONNX "
            f"Runtime answers {kept.said(worst.file)}, and {worst.witness} "
            f"{kept.said(worst.measured)} (value {worst.value!r}{said})",
            nodes=(first or worst.value,),
            details=details,
            input=shown,
        )


def _answer(witness: Witness, images: Array) -> Mapping[str, Array] | None:
    """Return what a witness answers; None where its graph does not run, for anybody."""
    try:
        return witness.answer(images)
    except UnsupportedModelError:
        return None


def _columns(rows: Array) -> int:
    """Return the classes of rows (n, classes) or (n, classes, 1, ...), 0 for anything else."""
    return int(rows.shape[1]) if rows.ndim > 1 and rows[0].size == rows.shape[1] else 0


def _scored(rows: Array) -> bool:
    return rows.dtype.kind == "f" and _columns(rows) > 1


def _labels(rows: Array, classes: int) -> bool:
    """Whether an output may say which class each image is of: by its number, or in words."""
    if rows.dtype.kind in "OUS":
        return True
    whole = rows.dtype.kind in "iu" and rows.size > 0
    return whole and 0 <= rows.min() < rows.max() < max(classes, 2)
