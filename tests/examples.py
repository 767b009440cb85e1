"""Results built by hand, for reports to draw."""

import numpy as np

from scanner.detectors.overactivation import Overactivation
from scanner.errors import UnsupportedModelError
from scanner.results import (
    Comparison,
    Failure,
    Finding,
    Measurement,
    ModelIdentity,
    Runtime,
    ScanResult,
    Skip,
    ValueInfo,
    Verdict,
)


def identity(path: str) -> ModelIdentity:
    image = ValueInfo(name="image", dtype="float", shape=("N", 1, 28, 28))
    logits = ValueInfo(name="logits", dtype="float", shape=("N", 10))
    return ModelIdentity(
        path=path, sha256="ab" * 32, producer="pytorch 2", opset=17, inputs=(image,), outputs=(logits,)
    )


def overactivation() -> Finding:
    generator = np.random.default_rng(0)
    parameters = {
        "layer": "/relu/Relu_output_0", "operator": "Relu", "noise": "uniform", "images": 200, "seed": 0,
        "input_range": [0.0, 1.0],
    }  # fmt: skip

    def measured(mean: float) -> Measurement:
        maxima = generator.normal(mean, 0.3, 200).tolist()
        return Measurement(rule="overactivation", statistic=mean, parameters=parameters, series={"maxima": maxima})

    comparison: Comparison = Overactivation().compare(measured(3.2), [measured(2.5)])
    return Finding(
        rule=Overactivation.rule, verdict=Verdict.INCONCLUSIVE, statistic=comparison.statistic, p_value=None,
        reason="one clean reference cannot calibrate this statistic", values=comparison.values, parameters=parameters,
        evidence=comparison.evidence,
    )  # fmt: skip


def result(path: str = "model.onnx") -> ScanResult:
    runtime = Runtime(provider="CPU", threads=1, versions={"onnxruntime": "1.32.0"}, seconds=0.31)
    failure = UnsupportedModelError("the graph has no activation", remedy="name an inner value with --layer NAME")
    return ScanResult(
        model=identity(path), references=(identity("clean.onnx"),), score=None, findings=(overactivation(),),
        skips=(Skip(rule="strip", reason="there are no images"),),
        failures=(Failure(rule="other", error=failure.to_dict()),), runtime=runtime, verdict=Verdict.INCONCLUSIVE,
        reason="one clean reference cannot calibrate this statistic",
    )  # fmt: skip
