"""Integrity: files that show one model to a reader and run another, or carry what no reader shows.

What is looked for is in `scanner.graph.audit.checks` and `scanner.graph.audit.wire`; here it is
joined with what only running the
model shows: whether ONNX Runtime with and without its optimiser, and ONNX's reference evaluator,
give one answer.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import ModelError, UsageError, WorkerError
from scanner.graph.audit import checks, claims, second_reader
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.modelfile.model import Model
from scanner.results import Contribution, Measurement, Observation, Part, Rule, Severity
from scanner.settings import Device, Settings

Array = npt.NDArray[Any]

# Relative to the largest output.
_TOLERANCE = 0.02
# A fused node rounds once where several round each: in quantised networks codes differ by one, and
# what follows from it adds up over the layers.
_TOLERANCE_OF_CODES = 0.1
# Two more sessions of a larger model would need more memory than the scan itself.
_MOST_BYTES = 512 << 20


_RUNTIME = "ONNX Runtime"
_OUT_OF_ORDER = Observation(
    code="nodes-out-of-order",
    severity=Severity.NOTE,
    sentence="The nodes are not in the order in which they run, as the standard asks; ONNX Runtime "
    "sorts them, so they were sorted here too",
)


class Integrity(Detector):
    """Two readings of one file, hidden data, code and damage.

    The statistic is the highest severity.
    """

    rule: ClassVar[Rule] = Rule(
        id="integrity",
        name="File integrity",
        summary="The file can be read as two different models, runs code, or carries what no "
        "reader shows.",
        source="Open Neural Network Exchange IR specification, 2017; Protocol Buffers encoding "
        "specification, 2008",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    copies: ClassVar[float] = 6
    contribution: ClassVar[Contribution] = Contribution(part=Part.STRUCTURAL)

    def measure(self, subject: Subject) -> Measurement:
        """Return one observation for each thing found, the most severe first."""
        model = subject.model
        whole = _whole(subject)
        found = list(checks.audit(model.proto, model.data, model.path, model.limits, whole))
        if model.reordered:
            found.append(_OUT_OF_ORDER)
        answers = _answers(subject)
        tolerance = _tolerance(model.proto)
        found += _disagreements(answers, tolerance)
        found += claims.observe(model.proto, answers.get(_RUNTIME, ()))
        return Measurement(
            rule=self.rule.id,
            statistic=float(max((o.severity for o in found), default=0)),
            parameters={
                "readers": list(answers),
                "tolerance": tolerance,
                "seed": subject.settings.seed,
            },
            observations=tuple(sorted(found, key=lambda o: -o.severity)),
        )


def _whole(subject: Subject) -> Any:
    """Return the model with its external data, where that can be read and is not too much."""
    if subject.model.size > _MOST_BYTES:
        return None
    try:
        return subject.model.complete(subject.model.proto)
    except ModelError:
        return None


def _parsed(model: Model, settings: Settings) -> runtime.Session:
    return runtime.open_session(model.serialise(model.proto), Device.CPU, settings.threads)


def _answers(subject: Subject) -> dict[str, list[Array]]:
    """Run one image through each reader; none where the model cannot be run so."""
    model, settings = subject.model, subject.settings
    if model.size > _MOST_BYTES:
        return {}
    # What cannot be run cannot be compared; the bytes have been audited, and that must not be lost.
    try:
        shape = probes.image_shape(model, settings)
        data = model.serialise(model.proto)
        sessions = {
            _RUNTIME: runtime.open_session(data, Device.CPU, settings.threads),
            "ONNX Runtime without optimisation": runtime.open_session(
                data, Device.CPU, settings.threads, optimise=False
            ),
        }
        first = sessions[_RUNTIME]
        again = runtime.later(first, lambda: _parsed(model, settings))
        low, high = probes.input_range(first.dtype, settings)
        image = low + (high - low) * np.random.default_rng(settings.seed).random((1, *shape))
        batch = image.astype(first.dtype)
        answers = {name: session.run(batch) for name, session in sessions.items()}
        outputs = {output.name: output.name for output in first.native.get_outputs()}
        subject.witnesses.append(
            original.of_session("integrity's parsed file", again, outputs, first.provider)
        )
        if not max(map(_distance, answers[_RUNTIME], first.run(batch))) <= _TOLERANCE:
            return {}  # it draws numbers: there is nothing to compare, and translation says so
    except (ModelError, UsageError, WorkerError):
        return {}
    if second_reader.is_brief(model.proto) and batch.size <= second_reader.MOST_PIXELS:
        results = second_reader.evaluate(model.proto, {first.input_name: batch})
        if results is not None:
            answers["ONNX reference evaluator"] = results
    return answers


def _tolerance(proto: Any) -> float:
    """Return how far readers may differ: further where a network computes with integer codes."""
    return _TOLERANCE_OF_CODES if second_reader.rounds(proto) else _TOLERANCE


def _disagreements(
    answers: dict[str, list[Array]], tolerance: float = _TOLERANCE
) -> Iterator[Observation]:
    names = list(answers)
    for name in names[1:]:
        apart = max(map(_distance, answers[names[0]], answers[name]), default=0.0)
        if not apart <= tolerance:
            yield Observation(
                code="readers-disagree",
                severity=Severity.WARNING,
                sentence=f"{names[0]} and {name} answer one image differently, by {apart:.3g} of "
                "the largest output: "
                "the file leaves open what it computes, or one of them is wrong",
                details={
                    "readers": [names[0], name],
                    "distance": apart if np.isfinite(apart) else None,
                },
            )


def _distance(one: Array, other: Array) -> float:
    """Return the largest difference relative to the largest number; infinite for other shapes."""
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind not in "fiub":  # text and sequences are not compared
        return 0.0
    if one.shape != other.shape:
        return float("inf")
    first, second = one.astype(np.float64), other.astype(np.float64)
    finite = np.isfinite(first)
    if bool((finite != np.isfinite(second)).any()):
        return float("inf")
    apart = np.abs(first - second)[finite].max(initial=0.0)
    return float(apart) / max(float(np.abs(first[finite]).max(initial=0.0)), 1e-6)
