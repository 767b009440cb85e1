"""Translation validation: what detectors measured must be what the file computes.

Detectors measure graphs that were parsed, inlined, folded, widened or cut; the user runs the file.
Each of these graphs is compared with the original, run by ONNX Runtime from its own bytes, on the
same inputs (A. Pnueli, M. Siegel, E. Singerman, "Translation Validation", TACAS 1998: not the
translator is proved, but each of its results is checked).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import ScannerError, UnsupportedModelError, WorkerError
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.witness import Witness
from scanner.modelfile.model import Model
from scanner.results import (
    Array as Packed,
)
from scanner.results import (
    Contribution,
    Input,
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

TOLERANCES = {"float32": 0.01, "float16": 0.1, "int8": 0.25}
"""Largest honest difference of one image's answers, relative to their spread. ONNX Runtime's
optimiser reorders float32 sums (1e-6 to 1e-4, measured on honest exports); halves are measured in
float32, while the file rounds each layer to 11 bits; where codes are fused, an answer moves by a
code or two of 256, layer after layer. Another network differs by about 1."""
_CUDA = 0.03  # convolutions on CUDA may round their factors to TF32, 11 bits
_INNER = 6  # probes on which inner values are compared
_COLUMNS = 64  # numbers of an answer of which evidence keeps
_MOST_BYTES = 256 << 20
"""A larger file is not run whole in order to check one layer of it."""
_MOST_VALUES = 1_000  # inner values that are exposed at once to find the first that differs
_LEAST_SPREAD = 1e-4  # of an answer's largest number: below, float32 has no digits left
_SHARE = 0.1  # of the probes may change their class where no score tells how near a tie was


class Translation(Detector):
    """Each measured graph against the file; the statistic is the highest severity."""

    rule: ClassVar[Rule] = Rule(
        id="not-the-file",
        name="Translation validation",
        summary="What was measured is not what the file computes when ONNX Runtime loads it.",
        source="A. Pnueli, M. Siegel, E. Singerman, Translation Validation, TACAS 1998",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)

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


def precision(model: Model) -> str:
    """Return the coarsest arithmetic that a file asks for: "int8", "float16" or "float32"."""
    if model.plain is not None:
        tensors, operators = model.plain.graph.initializer, set()
        inputs = [value.type.tensor_type.elem_type for value in model.plain.graph.input]
    else:
        graph = model.proto.graph
        tensors = graph.initializer
        nodes = [*graph.node, *(node for f in model.proto.functions for node in f.node)]
        operators = {node.op_type for node in nodes}
        inputs = [value.type.tensor_type.elem_type for value in graph.input]
        halves = {a.i for n in nodes if n.op_type == "Cast" for a in n.attribute if a.name == "to"}
        inputs += list(halves)
    if any("Quantize" in name or "QLinear" in name or "Integer" in name for name in operators):
        return "int8"
    halves_there = _HALVES & {*inputs, *(tensor.data_type for tensor in tensors)}
    return "float16" if halves_there else "float32"


_HALVES = {10, 16}  # FLOAT16 and BFLOAT16 of TensorProto.DataType


def row_distances(one: Array, other: Array) -> npt.NDArray[np.float64]:
    """Return how far two answers to n images are apart, (n,), in units of the first's spread.

    Several numbers are taken less their mean, so that a constant added to all class scores, which
    changes no decision, does not make a difference look small. Infinite where shapes differ, or
    only one of the two is a number.
    """
    count = len(one)
    first, second = (np.asarray(a, np.float64).reshape(count, -1) for a in (one, other))
    if first.shape != second.shape:
        return np.full(count, np.inf)
    apart = np.where(np.isfinite(first) != np.isfinite(second), np.inf, 0.0).max(1, initial=0.0)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = np.where(both, first, 0), np.where(both, second, 0)
    gap = np.abs(first - second).max(1, initial=0.0)
    size = np.abs(first).max(1, initial=0.0)
    middle = first.sum(1) / np.maximum(both.sum(1), 1) if first.shape[1] > 1 else np.zeros(count)
    spread = np.abs(np.where(both, first - middle[:, None], 0)).max(1, initial=0.0)
    scale = np.maximum(spread, _LEAST_SPREAD * size)
    floor = max(0.1 * (_middle(scale)), 1e-30)
    return np.asarray(np.maximum(apart, gap / np.maximum(scale, floor)), np.float64)


def _middle(values: npt.NDArray[np.float64]) -> float:
    """Return the median; NumPy's own loads masked arrays, a tenth of a scan of the first layer."""
    ordered = np.sort(values)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


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
        self._several: list[str] = []
        self._company: float | None = None

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
        gaps = list(self._layers() if layers_only else self._everything())
        if gaps:
            yield self._disagreement(max(gaps, key=lambda gap: gap.distance), gaps)
        if not layers_only:
            yield from self._batch()

    def refuse_doubt(self) -> None:
        """Refuse to pass a file of which something could not be compared."""
        if self._random is not None:
            raise UnsupportedModelError(
                f"the file answers one image differently each time, by {self._random:.3g} of the "
                "answer's spread, so that nothing measured can be compared with it",
                remedy="export the model without random operators",
            )
        if self._company is not None:
            raise UnsupportedModelError(
                f"an image is answered otherwise in a batch than alone, by {self._company:.3g} of "
                "the answer's spread, and as the model computes its scales when it runs, that "
                "shows neither a backdoor nor its absence",
                remedy="scan the model that it was quantised from",
            )
        if self._several:
            names = ", ".join(map(repr, self._several))
            raise UnsupportedModelError(
                f"several outputs may be the class scores, and not all were measured ({names})",
                remedy="name the one that decides with the setting `logits`",
            )

    def _everything(self) -> Iterator[_Gap]:
        session = original.open_original(self.data, self.settings.threads)
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
        for name, array in self._rest(witness.values[-1], scores).items():
            theirs = self.answers.alone[name]
            if theirs.dtype.kind == "f":
                yield from self._gap(witness, name, theirs, array)
            elif theirs.dtype.kind in "iub":
                yield from self._decisions(witness, name, theirs, array, scores)

    def _decisions(
        self, witness: Witness, name: str, theirs: Array, ours: Array, scores: Array
    ) -> Iterator[_Gap]:
        """Yield where classes differ although the scores were no tie."""
        first, second = theirs.reshape(len(theirs), -1), ours.reshape(len(ours), -1)
        if first.shape != second.shape:
            return
        ranked = np.sort(scores.reshape(len(scores), -1).astype(np.float64), axis=1)
        lead = (ranked[:, -1] - ranked[:, -2]) / np.maximum(ranked[:, -1] - ranked[:, 0], 1e-30)
        # Only the first is the class: what follows, as in TopK, may swap with its neighbour.
        wrong = np.flatnonzero((first[:, 0] != second[:, 0]) & (lead > 2 * self._allowed(witness)))
        if len(wrong):
            image = int(wrong[0])
            yield _Gap(
                witness=witness.name,
                value=name,
                image=image,
                distance=1.0,
                file=first[image],
                measured=second[image],
            )

    def _rest(self, value: str, scores: Array) -> dict[str, Array]:
        """Return the outputs that the graph computes from given numbers of a value."""
        from scanner.graph.core import extract, flatten, shapes  # noqa: PLC0415 - onnx
        from scanner.graph.layers.head import as_input  # noqa: PLC0415 - as above

        flat = flatten.flatten(self.model.proto)
        there = {output.name for output in flat.graph.output}
        names = [name for name in self.answers.alone if name in there]
        known = shapes.value_types(flat).get(value)
        if known is not None:
            scores = scores.astype(_numpy_type(known.dtype), copy=False)
        rest = extract.between(flat, as_input(value, scores, None), names)
        session = runtime.open_session(
            self.model.serialise(rest), self.settings.device, self.settings.threads
        )
        rows: dict[str, list[Array]] = {name: [] for name in names}
        wanted = {given.name for given in session.native.get_inputs()}
        for index in range(len(scores)):
            places = [index] * self.answers.batch
            feeds = {
                name: (scores if name == value else self.answers.images)[places] for name in wanted
            }
            for name, array in zip(names, session.feed(feeds, names), strict=True):
                rows[name].append(array[0] if np.ndim(array) else array)
        return {name: np.stack(found) for name, found in rows.items()}

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
        exposed = self._exposed({value for _, value, _ in claims}, few)
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

    def _exposed(self, values: set[str], images: Array) -> dict[str, Array]:
        """Return inner values of the original for each image; what it does not have is left out."""
        graph = (self.model.plain or self.model.proto).graph
        made = {name for node in graph.node for name in node.output}
        own = {output.name for output in graph.output}
        there = sorted(value for value in values if value in made | own)
        if not there:
            return {}
        try:
            session = original.open_original(
                self.data, self.settings.threads, [value for value in there if value not in own]
            )
            return original.ask_alone(session, images)
        except UnsupportedModelError:
            if not self._opens():
                raise
            return {}

    def _opens(self) -> bool:
        """Whether ONNX Runtime loads the file as it is."""
        original.open_original(self.data, self.settings.threads)
        return True

    def _by_our_own_reading(
        self, claims: Sequence[tuple[Witness, str, Array]], images: Array
    ) -> Iterator[_Gap]:
        """Compare values that have no name of their own in the file, such as those of a function.

        They are compared with our reading of the whole graph, and that with the file's outputs.
        """
        if not claims:
            return
        from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx

        flat = flatten.flatten(self.model.proto)
        outputs = [output.name for output in flat.graph.output]
        values = list(dict.fromkeys(value for _, value, _ in claims))
        whole = extract.upstream(flat, list(dict.fromkeys([*outputs, *values])))
        session = runtime.open_session(
            self.model.serialise(whole), self.settings.device, self.settings.threads
        )
        ours = original.ask_alone(session, images)
        plain = original.open_original(self.data, self.settings.threads)
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
        judged = _middle(distances) if witness.relaxed else self._furthest(distances)
        name = f"{witness.name}: {value}"
        self.distances[name] = max(judged, self.distances.get(name, 0.0))
        if not judged <= self._allowed(witness):
            image = int(distances.argmax())
            yield _Gap(
                witness=witness.name,
                value=value,
                image=image,
                distance=judged,
                file=theirs[image],
                measured=ours[image],
            )

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
        likely = [
            name
            for name, rows in self.answers.alone.items()
            if name != value and rows.dtype.kind == "f" and _columns(rows) > 1
        ]
        if not likely:
            return []
        other = [name for name in likely if not self._follows(name, value)]
        columns = _columns(scores)
        other = [
            name
            for name in other
            if _columns(self.answers.alone[name]) == columns or not self._follows(value, name)
        ]
        return [value, *other] if other else []

    def _follows(self, name: str, value: str) -> bool:
        """Whether an output is computed from a value alone, the image not asked again."""
        from scanner.errors import GraphError  # noqa: PLC0415
        from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx
        from scanner.graph.layers.head import as_input  # noqa: PLC0415 - as above

        flat = flatten.flatten(self.model.proto)
        source = as_input(value, np.zeros((1, 1), np.float32), None)
        try:
            rest = extract.between(flat, source, [name])
        except GraphError:
            return False
        return {given.name for given in rest.graph.input} <= {value}

    def _batch(self) -> Iterator[Observation]:
        """Yield what an image answers in company and not alone."""
        if self._random is not None:
            return
        for name, together in self.answers.together.items():
            alone = self.answers.alone.get(name)
            if alone is None or alone.shape != together.shape:
                continue
            if alone.dtype.kind == "f":
                distances = row_distances(alone, together)
                self.distances[f"in company: {name}"] = float(distances.max())
                image = int(distances.argmax())
                if distances[image] <= self.tolerance:
                    continue
                if _scales_as_it_runs(self.model):
                    # The company takes part in the scales, and honest answers move by as much.
                    self._company = float(distances[image])
                    continue
                flips = np.flatnonzero(
                    (distances > self.tolerance) & (_class(alone) != _class(together))
                )
                image = int(flips[0]) if len(flips) else image
                severity = Severity.SUSPICIOUS if len(flips) else Severity.WARNING
            elif alone.dtype.kind in "iub":
                changed = np.flatnonzero(_first(alone) != _first(together))
                if len(changed) <= _SHARE * len(alone):
                    continue
                image, severity = int(changed[0]), Severity.SUSPICIOUS
            else:
                continue
            yield Observation(
                code="batch-dependent",
                severity=severity,
                sentence="One and the same image is answered otherwise alone than in a batch with "
                f"others ({_said(alone[image])} and {_said(together[image])}, output {name!r}): "
                "what is searched in batches is not what runs for one image",
                nodes=(name,),
                details={
                    "alone": _listed(alone[image]),
                    "together": _listed(together[image]),
                },
                input=self._input(self.answers.images[image]),
            )

    def _disagreement(self, worst: _Gap, gaps: Sequence[_Gap]) -> Observation:
        images = self.answers.images if hasattr(self, "answers") else None
        details: dict[str, Any] = {
            "witness": worst.witness,
            "value": worst.value,
            "distance": worst.distance if np.isfinite(worst.distance) else None,
            "tolerance": self.tolerance,
            "file": _listed(worst.file),
            "measured": _listed(worst.measured),
            "all": sorted({f"{gap.witness}: {gap.value}" for gap in gaps}),
        }
        first = shown = None
        if images is not None:
            image = images[worst.image : worst.image + 1]
            shown = self._input(image[0])
            first = self._first_difference(image)
            details["first"] = first
        said = f", first of all in {first!r}" if first else ""
        return Observation(
            code="not-the-file",
            severity=Severity.SUSPICIOUS,
            sentence="The file does not compute what was measured: for the same image ONNX "
            f"Runtime answers {_said(worst.file)}, and {worst.witness} {_said(worst.measured)} "
            f"(value {worst.value!r}{said})",
            nodes=(first or worst.value,),
            details=details,
            input=shown,
        )

    def _input(self, image: Array) -> Input:
        low, high = self.range
        packed = Packed.packed(image.astype("<f4").tobytes(), image.shape)
        return Input(image=packed, low=low, high=high)

    def _first_difference(self, image: Array) -> str | None:
        """Return the first value, in graph order, in which the file and our reading differ.

        Every value that has a name in both is exposed in both.
        """
        from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx

        try:
            flat = flatten.flatten(self.model.proto)
            computed = extract.dependent(flat.graph)
            there = {name for node in self.model.proto.graph.node for name in node.output if name}
            names = [n for node in flat.graph.node for n in node.output if n in there & computed]
            names = names[:_MOST_VALUES]
            theirs = self._exposed(set(names), image)
            whole = extract.upstream(flat, names)
            session = runtime.open_session(
                self.model.serialise(whole), self.settings.device, self.settings.threads
            )
            ours = original.ask_alone(session, image)
        except (ScannerError, ValueError, RuntimeError) as error:
            if isinstance(error, WorkerError):
                raise
            return None  # that they differ is known; where, cannot be told
        for name in names:
            if name in theirs and name in ours and theirs[name].dtype.kind == "f":
                distance = row_distances(theirs[name], ours[name])[0]
                if not distance <= self.tolerance:
                    return str(name)
        return None


def _answer(witness: Witness, images: Array) -> Mapping[str, Array] | None:
    """Return what a witness answers; None where its graph does not run, for anybody."""
    try:
        return witness.answer(images)
    except UnsupportedModelError:
        return None


def _scales_as_it_runs(model: Model) -> bool:
    """Whether a file quantises by the range of the numbers at hand."""
    if model.plain is not None:
        return False
    nodes = [*model.proto.graph.node, *(n for f in model.proto.functions for n in f.node)]
    return any("DynamicQuantize" in node.op_type for node in nodes)


def _columns(rows: Array) -> int:
    """Return the classes of rows (n, classes) or (n, classes, 1, ...), 0 for anything else."""
    return int(rows.shape[1]) if rows.ndim > 1 and rows[0].size == rows.shape[1] else 0


def _class(rows: Array) -> Array:
    return np.asarray(rows.reshape(len(rows), -1).argmax(axis=1))


def _first(rows: Array) -> Array:
    return rows.reshape(len(rows), -1)[:, 0]


def _said(answer: Array) -> str:
    """Return an answer in words: its class where it is a row of scores, else its number."""
    flat = np.asarray(answer).reshape(-1)
    if flat.size > 1 and flat.dtype.kind == "f":
        return f"class {int(flat.argmax())}"
    return f"{float(flat[0]):.4g}" if flat.size else "nothing"


def _listed(answer: Array) -> list[float | None]:
    flat = np.asarray(answer, np.float64).reshape(-1)[:_COLUMNS]
    return [float(number) if np.isfinite(number) else None for number in flat]


def _numpy_type(number: int) -> np.dtype[np.generic]:
    names = {1: "float32", 10: "float16", 11: "float64"}
    return np.dtype(names.get(number, "float32"))
