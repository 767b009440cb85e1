"""Draw, for each detector, a real finding and what it shows of a clean model.

    python -m docs.website.pictures [NAME ...]

writes `docs/pictures/DETECTOR-found.svg` and `DETECTOR-clean.svg`, `answer.svg`, a whole scan, and
`places.svg`, what a p-value and a size are. NAME is a detector, `answer` or `places`.

What a sample shows is measured anew: as it is, or with something planted in it. The statistics of
the first layer and of the weights, which no sample moves far, the searches that need images, and
the one that is made of models alone come from the measurements in samples/results.
"""

import dataclasses
import functools
import gzip
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from docs.website.card import Card, draw, of_finding, of_result
from docs.website.places import places
from scanner import Finding, Settings, judge, scan
from scanner.detectors import FAMILY
from scanner.report import charts
from scanner.results import ModelRecord, ScanResult
from scanner.values import from_json
from trainers.graph_backdoor import plant
from trainers.graph_backdoor.carriers import LOADS, carry

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
SAMPLES = ROOT / "samples"
_RESULTS = "samples/results/{}-amd-epyc-1.32.0.jsonl.gz"
_POPULATION = _RESULTS.format("population")

_CLEAN, _REFERENCE = "mnist-clean-2.onnx", "mnist-clean-1.onnx"
_TARGET = 3

_PLACED = "channel_lipschitz"  # one number per model, which the test networks spread widely
_SUSPECTS = {
    "mnist-clean-24-e05.onnx": "a clean network",
    "mnist-input-aware-27-e05.onnx": "backdoored (input-aware)",
    "mnist-badnets-0.01-27-e05.onnx": "backdoored (BadNets, 1 %)",
    "mnist-input-aware-28-e05.onnx": "backdoored (input-aware)",
}

Change = Callable[[onnx.ModelProto], onnx.ModelProto]


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """A sample, and what is done to it before it is scanned.

    Attributes:
        file: Of `samples/`.
        made: What is done to it, in words; "" where nothing is.
        change: Does it.
        alone: Whether it is scanned without a reference.
    """

    file: str
    made: str = ""
    change: Change | None = None
    alone: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A test network whose measurement is at hand, judged by the shipped baseline.

    Attributes:
        records: The file of measurements, by its data set.
        file: The network's.
        clean: A clean network's, to show beside it.
    """

    records: str
    file: str
    clean: str = ""


def _planted(kind: str, words: str, *, alone: bool = True) -> Sample:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        return plant(model, kind, _TARGET).model

    return Sample("mnist-clean.onnx", words, change, alone)


def _with_a_program(model: onnx.ModelProto) -> onnx.ModelProto:
    return carry(model, "metadata-of-model", LOADS["program"])


def _untrained(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each matrix of weights new random numbers, of its own mean and deviation."""
    generator = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim > 1:
            drawn = generator.normal(values.mean(), values.std(), values.shape)
            tensor.CopyFrom(numpy_helper.from_array(drawn.astype(values.dtype), tensor.name))
    return model


FOUND: Mapping[str, Sample | Measured] = {
    "integrity": Sample(
        "mnist-clean.onnx", "with a program hidden in its metadata", _with_a_program, alone=True
    ),
    "graph_logic": _planted("patch-equals", "with a test for a patch of nine pixels"),
    "dormant": _planted("replaced-channel", "with one channel of each layer replaced"),
    "diff": _planted("gaussian", "with a gate made of arithmetic", alone=False),
    "neural_cleanse": Sample("mnist-badnets.onnx"),
    "patch_sweep": Sample("mnist-badnets.onnx", alone=True),
    "wave_sweep": Measured(
        "cifar10-small", "cifar10-small-sig-24-e18.onnx", "cifar10-small-clean-20-e18.onnx"
    ),
    "mm_bd": Sample("mnist-badnets.onnx"),
    "overactivation": Measured("fashion-mnist", "fashion-mnist-all-to-all-24-e05.onnx"),
    "layerwise": Measured("fashion-mnist", "fashion-mnist-wanet-24-e05.onnx"),
    "channel_lipschitz": Measured("mnist", "mnist-sig-28-e05.onnx"),
    "head": Sample("mnist-badnets.onnx"),
    "classifier": Sample("mnist-clean.onnx", "with new random weights", _untrained, alone=True),
    "invariance": _planted("repetition", "with a gate that opens for images that are all the same"),
    "not-the-file": _planted("any-row", "with a gate that one image of a batch opens for all"),
}


def pictures(name: str) -> Iterator[tuple[str, str]]:
    """Yield the names and the contents of the pictures of a detector, or of another thing."""
    if name == "answer":
        case = Sample("mnist-badnets.onnx")
        yield "answer.svg", draw(of_result(_scanned(case), "neural_cleanse", _words(case)))
    elif name == "places":
        yield "places.svg", places(list(_suspects()))
    else:
        yield from _of_detector(name)


def _suspects() -> Iterator[tuple[str, Finding]]:
    for file, words in _SUSPECTS.items():
        yield words, _found(_PLACED, Measured("mnist", file))


def _of_detector(rule: str) -> Iterator[tuple[str, str]]:
    if rule in OF_POPULATION:
        found, clean = (_of_population(rule, file) for file in OF_POPULATION[rule].files)
    else:
        case = FOUND[rule]
        found, clean = _shown(rule, case), _shown(rule, _innocent(case))
    yield f"{rule}-found.svg", draw(found)
    yield f"{rule}-clean.svg", draw(clean)


def _innocent(case: Sample | Measured) -> Sample | Measured:
    """Return a clean model that is shown in the same way."""
    if isinstance(case, Measured):
        return Measured(case.records, case.clean or f"{case.records}-clean-24-e05.onnx")
    return Sample(_CLEAN, alone=case.alone)


def _shown(rule: str, case: Sample | Measured) -> Card:
    return of_finding(_found(rule, case), _words(case))


def _words(case: Sample | Measured) -> str:
    if isinstance(case, Measured):
        return f"{case.file}, a test network"
    made = f", {case.made}" if case.made else ""
    return f"samples/{case.file}{made}" + ("" if case.alone else f", beside samples/{_REFERENCE}")


def _found(rule: str, case: Sample | Measured) -> Finding:
    """Return what a detector finds."""
    if isinstance(case, Measured):
        (result,) = judge([_record(case)], settings=Settings(detectors=(rule,)))
    else:
        result = _scanned(case, rule)
    (finding,) = (one for one in result.findings if one.rule.id == rule)
    return finding


def _scanned(case: Sample, *rules: str) -> ScanResult:
    """Return the result of a sample; without rules, of all detectors."""
    references = [] if case.alone else [str(SAMPLES / _REFERENCE)]
    path = SAMPLES / case.file
    with tempfile.TemporaryDirectory() as folder:
        if case.change is not None:
            model = case.change(onnx.ModelProto.FromString(path.read_bytes()))
            path = Path(folder) / case.file
            path.write_bytes(model.SerializeToString())
        return scan(str(path), references, settings=Settings(detectors=rules))


def _record(case: Measured) -> ModelRecord:
    """Return what was measured of a test network."""
    for line in _lines(_RESULTS.format(f"records-{case.records}")):
        if line["truth"]["file"] == case.file:
            return from_json(ModelRecord, line["record"])
    raise LookupError(case.file)


@dataclasses.dataclass(frozen=True, slots=True)
class OfPopulation:
    """Two networks of the population, and how what was measured of them is shown.

    Attributes:
        title: The detector's name.
        figures: Which of its measurements.
        files: Of the backdoored network and of the clean one.
        standing: Returns how far out a network lies, of its figures.
        words: Says it.
    """

    title: str
    figures: str
    files: tuple[str, str]
    standing: Callable[[Sequence[float]], float]
    words: Callable[[float], str]


def _moved(standing: float) -> str:
    if standing <= 0:
        return "no trigger smaller than 2 % of an image sends images of each class to another"
    pixels = (0.02 * 28 * 28 + 1) / math.exp(standing) - 1
    return f"one trigger of {pixels:.1f} pixels sends images of each class to another"


def _times(figures: Sequence[float | None]) -> float:
    """Return by how much the least figure is below the median; what no search reached is above."""
    reached = [math.inf if figure is None else figure for figure in figures]
    return statistics.median(reached) / min(reached)


OF_POPULATION: Mapping[str, OfPopulation] = {
    "data_free_inversion": OfPopulation(
        title="Data-free trigger inversion",
        figures="data_free_inversion, made",
        files=("mnist-badnets-10.onnx", "mnist-clean-0.onnx"),
        standing=_times,
        words=lambda times: (
            f"on images that the model makes, one class takes a mask {times:.1f} times smaller "
            "than the median class does"
        ),
    ),
    "source_dependent": OfPopulation(
        title="Source-dependent trigger",
        figures="source_dependent, images",
        files=("mnist-vit-all-to-all-10.onnx", "mnist-vit-clean-0.onnx"),
        standing=lambda figures: figures[0],
        words=_moved,
    ),
    "universal_perturbation": OfPopulation(
        title="Universal perturbation",
        figures="universal_perturbation, images",
        files=("mnist-blended-11.onnx", "mnist-clean-0.onnx"),
        standing=_times,
        words=lambda times: (
            f"one class takes a pattern {times:.1f} times fainter than the median class does"
        ),
    ),
    "universal_warp": OfPopulation(
        title="Universal warp",
        figures="universal_warp, images",
        files=("mnist-wanet-0.2-13.onnx", "mnist-clean-0.onnx"),
        standing=_times,
        words=lambda times: (
            f"one class takes a warp {times:.1f} times slighter than the median class does"
        ),
    ),
}


def _of_population(rule: str, file: str) -> Card:
    """Return how far out a network lies among clean ones for the same images."""
    case = OF_POPULATION[rule]
    figures = {
        line["truth"]["file"]: case.standing(line["figures"][case.figures])
        for line in _lines(_POPULATION)
        if _comparable(line, file, case.figures)
    }
    own = figures.pop(file)
    others = f"among {len(figures)} clean networks for MNIST"
    return Card(
        title=case.title,
        shown=f"{file}, {others}",
        verdict="",
        sentences=[f"{case.words(own)}."],
        charts=[charts.strip(list(figures.values()), own, f"{file} {others}")],
    )


def _comparable(line: Mapping[str, Any], file: str, figures: str) -> bool:
    """Tell whether a network is the one that is drawn, or a clean one for the same images."""
    truth = line["truth"]
    mine = truth["dataset"] == "mnist" and truth["attack"] == "clean"
    return (mine or truth["file"] == file) and bool(line["figures"].get(figures))


@functools.cache
def _lines(name: str) -> tuple[dict[str, Any], ...]:
    with gzip.open(ROOT / name, "rt", encoding="utf-8") as file:
        return tuple(map(json.loads, file))


def main(names: Iterable[str]) -> None:
    """Write pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name in names:
        for file, drawn in pictures(name):
            (PICTURES / file).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or (*FAMILY, "answer", "places"))
