"""Results built by hand, for reports to draw."""

import numpy as np

from scanner.detectors.neural_cleanse import NeuralCleanse
from scanner.detectors.overactivation import Overactivation
from scanner.errors import UnsupportedModelError
from scanner.judging import calibration
from scanner.results import (
    Comparison,
    Failure,
    Finding,
    Measurement,
    ModelIdentity,
    Nulls,
    Runtime,
    ScanResult,
    Skip,
    ValueInfo,
    Verdict,
    packed,
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
        maxima = generator.normal(mean, 0.3, 200).tolist()
        return Measurement(
            rule="overactivation", statistic=mean, parameters=parameters, series={"maxima": maxima}
        )

    comparison: Comparison = Overactivation().compare(measured(3.2), [measured(2.5)])
    return Finding(
        rule=Overactivation.rule, verdict=Verdict.INCONCLUSIVE, statistic=comparison.statistic, p_value=None,
        reason="one clean reference cannot calibrate this statistic", values=comparison.values, parameters=parameters,
        evidence=comparison.evidence,
    )  # fmt: skip


def neural_cleanse() -> Finding:
    """Ten classes, of which class 7 is reached with a corner of three by three pixels."""
    generator = np.random.default_rng(1)
    mask = np.zeros((1, 28, 28), np.float32)
    mask[0, 24:27, 24:27] = 1
    original = generator.random((1, 28, 28)).astype(np.float32)
    parameters = {
        "data": "multi-scale noise (no images given)", "images": 32, "steps": 100, "budget": "quick", "seed": 0,
        "classes": 10, "input_range": [0.0, 1.0], "input_shape": [1, 28, 28], "provider": "CPU", "threads": 1,
    }  # fmt: skip

    def measured(sizes: list[float]) -> Measurement:
        rows = [
            {"class": t, "size": size, "restarts": [size], "success": 1.0, "steps": 100, "course": [size],
             "finished": False}
            for t, size in enumerate(sizes)
        ]  # fmt: skip
        arrays = {
            "mask": mask,
            "pattern": mask,
            "original": original,
            "stamped": np.maximum(original, mask),
        }
        pictures = {name: packed(values.tobytes(), values.shape) for name, values in arrays.items()}
        seven = {**pictures, "class_before": 3, "class_after": 7}
        return Measurement(
            rule="neural_cleanse",
            statistic=2.5,
            parameters=parameters,
            series={
                "classes": rows,
                "granted": {str(t): 100 for t in range(10)},
                "pictures": {"7": seven},
            },
        )

    clean = generator.uniform(30, 80, 10)
    suspect = clean * generator.uniform(0.9, 1.2, 10)
    suspect[7] = 6.2
    own = measured(suspect.tolist())
    comparison = NeuralCleanse().compare(own, [measured(clean.tolist())])
    nulls = Nulls(
        rule="neural_cleanse",
        values=tuple(np.linspace(0.05, 0.3, 20)),
        source="shipped baseline 'mnist'",
    )
    return calibration.judge(NeuralCleanse.rule, own, comparison, nulls, 0.05)


def result(path: str = "model.onnx") -> ScanResult:
    runtime = Runtime(provider="CPU", threads=1, versions={"onnxruntime": "1.32.0"}, seconds=0.31)
    findings = (neural_cleanse(), overactivation())
    failure = UnsupportedModelError(
        "the graph has no activation", remedy="name an inner value with --layer NAME"
    )
    return ScanResult(
        model=identity(path), references=(identity("clean.onnx"),), score=0.952, findings=findings,
        skips=(Skip(rule="strip", reason="there are no images"),),
        failures=(Failure(rule="other", error=failure.to_dict()),), runtime=runtime, verdict=Verdict.SUSPICIOUS,
        reason=findings[0].reason, target_class=7, calibration="20 clean models (shipped baseline 'mnist')", index=1.45,
        warnings=("the reference 'clean.onnx' has another architecture, and what differs may be no more than that",),
        advice=("your own eyes: --evidence DIR writes the trigger", "a longer search for triggers: --budget standard"),
    )  # fmt: skip
