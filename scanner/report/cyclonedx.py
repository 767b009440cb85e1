"""CycloneDX 1.6 (ECMA-424, first edition): an inventory of the models that were looked at.

Each model is a component of type `machine-learning-model` with its hash and a model card; what the
scan concluded stands in the component's properties and as an annotation.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from scanner.report import Page
from scanner.report.escape import printable
from scanner.report.json import write
from scanner.report.totals import place
from scanner.results import ModelIdentity, ScanResult, ValueInfo
from scanner.version import PROGRAM

_LONGEST = 2000

Json = dict[str, Any]


class CyclonedxReport:
    """One bill of materials for all models, the references included."""

    name = "cyclonedx"
    suffix = ".cdx.json"
    several = True
    shows_failures = True

    def render(self, results: Iterable[ScanResult], page: Page, *, count: int) -> None:  # noqa: ARG002 - an inventory is written as a whole
        """Write the bill once all results are there."""
        page.write(write(_bill(list(results))))


def _bill(results: Sequence[ScanResult]) -> Json:
    components = {_ref(r.model): _component(r.model, _facts(r)) for r in results}
    for reference in (model for result in results for model in result.references):
        components.setdefault(_ref(reference), _component(reference, [("role", "reference")]))
    runs = [r.run for r in results if r.run]
    tool: Json = {"type": "application", "name": PROGRAM}
    metadata: Json = {
        "tools": {"components": [tool | ({"version": runs[0].version} if runs else {})]},
        **({"timestamp": max(run.time for run in runs)} if runs else {}),
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": list(components.values()),
        "annotations": [
            {
                "subjects": [_ref(result.model)],
                "annotator": {"component": tool},
                "timestamp": result.run.time,
                "text": printable(f"{result.verdict.value}: {result.reason}", _LONGEST),
            }
            for result in {_ref(r.model): r for r in results}.values()
            if result.run
        ],
    }


def _ref(model: ModelIdentity) -> str:
    """Return the name by which the bill refers to a model: copies of one file are several."""
    digest = f"@sha256:{model.sha256}" if model.sha256 else ""
    return f"{printable(model.path, _LONGEST)}{digest}"


def _component(model: ModelIdentity, facts: Iterable[tuple[str, str]]) -> Json:
    told = [*_identity(model), *facts]
    return {
        "type": "machine-learning-model",
        "bom-ref": _ref(model),
        "name": printable(PurePath(model.path).name) or "unnamed",
        **({"hashes": [{"alg": "SHA-256", "content": model.sha256}]} if model.sha256 else {}),
        "modelCard": {
            "modelParameters": {
                "inputs": [{"format": _format(value)} for value in model.inputs],
                "outputs": [{"format": _format(value)} for value in model.outputs],
            }
        },
        "properties": [
            {"name": f"{PROGRAM}:{name}", "value": printable(value, _LONGEST)}
            for name, value in told
        ],
    }


def _format(value: ValueInfo) -> str:
    return printable(f"{value.dtype}[{','.join(map(str, value.shape))}]")


def _identity(model: ModelIdentity) -> Iterator[tuple[str, str]]:
    yield "path", model.path
    yield "format", "ONNX"
    if model.producer:
        yield "producer", model.producer
    if model.opset is not None:
        yield "opset", str(model.opset)
    if model.architecture:
        yield "architecture", model.architecture


def _facts(result: ScanResult) -> Iterator[tuple[str, str]]:
    yield "role", "scanned"
    yield "verdict", result.verdict.value
    yield "reason", result.reason
    p, size = place(result)
    if p is not None:
        yield "p-value", f"{p:.6g}"
    if size is not None:
        yield "size", f"{size:.6g}"
    if result.calibration:
        yield "rests-on", result.calibration
    if result.run:
        yield "alpha", f"{result.run.alpha:g}"
    for finding in result.findings:
        yield f"detector:{finding.rule.id}", finding.verdict.value
    for skip in result.skips:
        yield f"skipped:{skip.rule}", skip.reason
    for failure in result.failures:
        yield f"failed:{failure.rule}", failure.sentence
