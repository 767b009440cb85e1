"""Results built by hand, for reports to draw."""

import dataclasses

import numpy as np
import numpy.typing as npt

from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.detectors.overactivation import Overactivation
from scanner.errors import MalformedModelError, UnsupportedModelError
from scanner.instruments.detector import described
from scanner.judging import verdict
from scanner.judging.comparison import compare
from scanner.results import (
    Array,
    Basis,
    ByClass,
    ByImage,
    ClassRow,
    Contest,
    Failure,
    Finding,
    Grant,
    Input,
    InputRange,
    Measurement,
    ModelIdentity,
    Observation,
    Population,
    Rule,
    Run,
    Runtime,
    ScanResult,
    Severity,
    Skip,
    Suppression,
    Trigger,
    ValueInfo,
    Verdict,
)


def identity(path: str) -> ModelIdentity:
    image = ValueInfo(name="image", dtype="float", shape=("N", 1, 28, 28))
    logits = ValueInfo(name="logits", dtype="float", shape=("N", 10))
    return ModelIdentity(
        path=path,
        sha256="ab" * 32,
        producer="pytorch 2",
        opset=17,
        inputs=(image,),
        outputs=(logits,),
    )


def overactivation() -> Finding:
    generator = np.random.default_rng(0)
    parameters = {
        "layer": "/relu/Relu_output_0", "operator": "Relu", "noise": "uniform", "images": 200,
        "seed": 0, "input_range": [0.0, 1.0],
    }  # fmt: skip

    def measured(mean: float) -> Measurement:
        maxima = ByImage(maxima=tuple(generator.normal(mean, 0.3, 200).tolist()))
        return Measurement(
            rule="overactivation", statistic=mean, parameters=parameters, by_image=maxima
        )

    own = measured(3.2)
    comparison = compare(Overactivation(), own, [measured(2.5)])
    return Finding(
        rule=Overactivation.rule,
        verdict=Verdict.INCONCLUSIVE,
        statistic=comparison.statistic,
        p_value=None,
        reason="one clean reference cannot calibrate this statistic",
        parameters=parameters,
        evidence=comparison.evidence,
        description=Overactivation().describe(own, comparison),
    )


def neural_cleanse() -> Finding:
    """Ten classes, of which class 7 is reached with a corner of three by three pixels."""
    generator = np.random.default_rng(1)
    mask = np.zeros((1, 28, 28), np.float32)
    mask[0, 24:27, 24:27] = 1
    original = generator.random((1, 28, 28)).astype(np.float32)
    parameters = {
        "data": "multi-scale noise (no images given)", "images": 32, "steps": 100,
        "budget": "quick", "seed": 0, "classes": 10, "input_range": [0.0, 1.0],
        "input_shape": [1, 28, 28], "provider": "CPU", "threads": 1,
    }  # fmt: skip

    def measured(sizes: list[float]) -> Measurement:
        rows = tuple(
            ClassRow(
                class_id=t,
                figure=size,
                course=(size,),
                finished=False,
                steps=100,
                restarts=(size,),
                figures={"success": 1.0},
            )
            for t, size in enumerate(sizes)
        )
        granted = tuple(Grant(class_id=t, steps=100) for t in range(10))
        profile = ByClass(
            classes=10,
            rows=rows,
            unreached=784.0,
            contest=Contest(planned=100, round=25, finalists=10, granted=granted),
            triggers=(trigger(mask, original),),
        )
        return Measurement(
            rule="neural_cleanse", statistic=2.5, parameters=parameters, by_class=profile
        )

    clean = generator.uniform(30, 80, 10)
    suspect = clean * generator.uniform(0.9, 1.2, 10)
    suspect[7] = 6.2
    own = measured(suspect.tolist())
    comparison = compare(NeuralCleanse(), own, [measured(clean.tolist())])
    population = Population(
        rule="neural_cleanse",
        values=tuple(np.linspace(0.05, 0.3, 20).tolist()),
        source="shipped baseline 'mnist'",
    )
    told = described(NeuralCleanse(), own, comparison)
    return verdict.judge(NeuralCleanse.rule, own, told, population, 0.05)


def trigger(mask: npt.NDArray[np.float32], original: npt.NDArray[np.float32]) -> Trigger:
    """A trigger of class 7 that turns an image of class 3."""
    arrays = (mask, mask, original, np.maximum(original, mask))
    drawn, pattern, before, after = (Array.packed(a.tobytes(), a.shape) for a in arrays)
    return Trigger(
        class_id=7,
        mask=drawn,
        pattern=pattern,
        original=before,
        stamped=after,
        class_before=3,
        class_after=7,
        low=0.0,
        high=1.0,
        success=1.0,
    )


def result(path: str = "model.onnx") -> ScanResult:
    runtime = Runtime(provider="CPU", threads=1, versions={"onnxruntime": "1.32.0"}, seconds=0.31)
    findings = (neural_cleanse(), overactivation())
    failure = UnsupportedModelError(
        "the graph has no activation", remedy="name an inner value with the setting `layer`"
    )
    return ScanResult(
        model=identity(path), references=(identity("clean.onnx"),), score=0.952, findings=findings,
        skips=(Skip(rule="strip", reason="there are no images"),),
        failures=(Failure(rule="other", error=failure.to_dict()),), runtime=runtime,
        verdict=Verdict.SUSPICIOUS, reason=findings[0].reason, target_class=7, index=1.45,
        calibration="20 clean models (shipped baseline 'mnist')",
        warnings=(
            (
                "the reference 'clean.onnx' has another architecture, and what differs may be no "
                "more than that"
            ),
        ),
        advice=(
            "to confirm, inspect the trigger that the setting `evidence` writes",
            "a longer search for triggers: the setting `budget` at 'standard'",
        ),
        input_range=InputRange(
            low=0.0,
            high=1.0,
            basis=Basis.WEIGHTS,
            sentence="the first layer's biases balance a mean pixel of 0.13",
        ),
        run=Run(
            time="2026-11-25T09:30:00Z", alpha=0.05, version="0.1.0",
            arguments=("scan", path, "-r", "clean.onnx"),
        ),
    )  # fmt: skip


def hostile(path: str = "a\x1b[2J|<b>@you.onnx") -> ScanResult:
    """A result whose names try to be markup, and whose graph holds a backdoor."""
    rule = Rule(id="graph_logic", name="Graph logic", summary="A test reads the input.", source="")
    name = "]]>\u202e<script>`x`|$y$ http://evil.example www.evil.example @you"
    seen = Observation(
        code="input-test",
        severity=Severity.CONFIRMED,
        sentence=f"the node {name} reads the input",
        nodes=(name, "gate"),
        details={"value": name},
    )
    warned = Observation(code="spare-bytes", severity=Severity.WARNING, sentence="8 spare bytes")
    finding = Finding(
        rule=rule,
        verdict=Verdict.SUSPICIOUS,
        statistic=2.0,
        p_value=None,
        reason=seen.sentence,
        parameters={},
        observations=(seen, warned),
    )
    return dataclasses.replace(
        result(path),
        findings=(finding,),
        reason=seen.sentence,
        suppressions=(
            Suppression(
                rule="graph_logic/spare-bytes", reason="our own exporter", expires="2030-12-31"
            ),
        ),
    )


def gated(path: str = "gate.onnx") -> ScanResult:
    """A result whose graph tests the input, with an input that opens the gate."""
    generator = np.random.default_rng(2)
    plain = generator.random((1, 28, 28)).astype(np.float32)
    opens = plain.copy()
    opens[0, 25:, 25:] = 1
    before, after = (Array.packed(image.tobytes(), image.shape) for image in (plain, opens))
    seen = Observation(
        code="input-gate",
        severity=Severity.CONFIRMED,
        sentence="A test of the input (Equal at 'test') chooses what becomes of 'scores'",
        nodes=("crop", "test", "any", "gate"),
        details={
            "tests": [{"node": "test", "operator": "Equal"}],
            "gates": [{"node": "gate", "operator": "Where"}],
            "gated": "scores",
        },
        input=Input(
            image=after, original=before, low=0.0, high=1.0,
            class_before=1, class_after=3, class_without=1, success=1.0,
        ),
    )  # fmt: skip
    whole = hostile(path)
    finding = dataclasses.replace(
        whole.findings[0], observations=(seen,), reason=seen.sentence, statistic=4.0
    )
    return dataclasses.replace(
        whole, findings=(finding,), reason=seen.sentence, score=1.0, index=None, suppressions=()
    )


def unopened(path: str = "broken.onnx") -> ScanResult:
    """The result for a file that is no model."""
    error = MalformedModelError("the file is cut short", remedy="download it again")
    return ScanResult(
        model=dataclasses.replace(identity(path), sha256=None, inputs=(), outputs=(), opset=None),
        references=(), score=None, findings=(), skips=(),
        failures=(Failure(rule="model", error=error.to_dict()),), runtime=None,
        verdict=Verdict.INCONCLUSIVE, reason="not everything could be measured",
    )  # fmt: skip
