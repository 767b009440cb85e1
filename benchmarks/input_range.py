"""What is found of a network before any statistic: its input range, training, and relatives.

    python -m trainers population --data DIR --out FOLDER
    python -m benchmarks.input_range FOLDER

Thresholds were chosen on the development recipes; the test recipes chose nothing. A range counts as
found where both ends lie within 15 % of the true range's width; a signed range that was recognised
may have other ends. Untrained twins have the layers of a trained network with new random weights:
uniform as PyTorch draws them, normal as He et al. do.
"""

import collections
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.quality import table
from scanner.errors import ScannerError
from scanner.graph.core import flatten
from scanner.graph.layers.weights import LinearLayer, Weights, linear_layers
from scanner.instruments import input_range, kinship, spectra
from scanner.instruments.answers import Answers
from scanner.instruments.probes import multiscale_noise, varied
from scanner.judging.references import Kinship
from scanner.modelfile.model import Model, open_model
from scanner.settings import Settings
from trainers import manifest
from trainers.manifest import Entry

SPLITS = ("development", "test")
_SLACK = 0.15
_SEED = 0
_CANDIDATES = (
    input_range.UNIT,
    input_range.SIGNED,
    input_range.STANDARD,
    input_range.BYTES,
)


def main(folder: Annotated[Path, typer.Argument(help="Of a population and its manifest.")]) -> None:
    """Print the tables."""
    entries = [e for e in manifest.read(folder) if e.split in SPLITS]
    opened = {e.file: open_model(folder / e.file, e.file) for e in entries}
    for title, rows in (
        ("Input range", list(_ranges(entries, opened, folder))),
        ("Diversity of answers over candidate ranges", list(_diversity(entries, opened))),
        ("Trained or not", list(_training(entries, opened))),
        ("References", list(_references(entries, opened))),
    ):
        print(f"\n{title}\n\n{table(rows)}")


def _true_range(entry: Entry, folder: Path) -> tuple[float, float]:
    """Return the range that a network was trained on; of standardised pixels, what they span."""
    if entry.input_range != "mean/std":
        low, high = (entry.input_range or "0..1").split("..")
        return float(low), float(high)
    pixels = np.load(folder / str(entry.images))["images"]
    return float(pixels.min()), float(pixels.max())


def _ranges(
    entries: Sequence[Entry], opened: dict[str, Model], folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield a row for each split and true range."""
    cells: dict[tuple[str, str], list[tuple[str, str, float]]] = collections.defaultdict(list)
    for entry in entries:
        start = time.perf_counter()
        found = input_range.find(opened[entry.file], Settings())
        seconds = time.perf_counter() - start
        low, high = _true_range(entry, folder)
        slack = _SLACK * (high - low)
        told = found is not None and found.basis.value != "assumed"
        if found is None:
            outcome = "none"
        elif abs(found.low - low) <= slack and abs(found.high - high) <= slack:
            outcome = "found" if told else "assumed rightly"
        elif not told:
            outcome = "assumed wrongly, asked" if found.other else "assumed wrongly"
        else:
            both_signed = found.low < 0 > low and found.high < 2 * _high_of_signed(high)
            outcome = "other ends" if both_signed else "found wrongly"
        key = (str(entry.split), str(entry.input_range))
        cells[key].append((outcome, entry.recipe, seconds))
    outcomes = ("found", "assumed rightly", "other ends", "found wrongly",
                "assumed wrongly, asked", "assumed wrongly")  # fmt: skip
    for split, kind in sorted(cells):
        each = cells[split, kind]
        yield {
            "split": split,
            "true range": kind,
            "recipes": len({recipe for _, recipe, _ in each}),
            "networks": len(each),
            **{name: sum(o == name for o, _, _ in each) for name in outcomes},
            "median ms": round(1e3 * float(np.median([s for _, _, s in each])), 1),
        }


def _high_of_signed(high: float) -> float:
    return max(high, 2.0)


def _diversity(entries: Sequence[Entry], opened: dict[str, Model]) -> Iterator[dict[str, Any]]:
    """Yield how often each candidate range makes the answers most diverse.

    Diversity is the mutual information of image and class, on blocks of noise, for one clean
    network of each recipe.
    """
    firsts = {e.recipe: e for e in reversed(entries) if e.attack == "clean"}
    counted: dict[tuple[str, str], collections.Counter[str]] = {}
    for entry in firsts.values():
        answers = Answers(opened[entry.file], Settings())
        unit = multiscale_noise(64, answers.shape, input_range.UNIT, np.random.default_rng(_SEED))
        told = {
            span: _information(answers.logits(span[0] + (span[1] - span[0]) * unit))
            for span in _CANDIDATES
        }
        most = max(told, key=lambda span: told[span])
        key = (str(entry.split), str(entry.input_range))
        counted.setdefault(key, collections.Counter())[input_range.written(most)] += 1
    for split, kind in sorted(counted):
        names = map(input_range.written, _CANDIDATES)
        found = counted[split, kind]
        yield {"split": split, "true range": kind, **{f"most in {n}": found[n] for n in names}}


def _information(logits: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    if logits.min() >= 0 and np.allclose(logits.sum(axis=1), 1, atol=0.01):
        shares = logits
    else:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
    whole = shares.mean(axis=0)
    return float(_entropy(whole) - np.mean([_entropy(row) for row in shares]))


def _entropy(shares: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    return float(-(shares * np.log(shares + 1e-12)).sum())


def _training(entries: Sequence[Entry], opened: dict[str, Model]) -> Iterator[dict[str, Any]]:
    """Yield, for each split, how trained networks and untrained twins are told apart."""
    generator = np.random.default_rng(_SEED)
    for split in SPLITS:
        trained, twins = [], []
        for entry in (e for e in entries if e.split == split):
            model = opened[entry.file]
            layers = list(linear_layers(flatten.flatten(model.complete(model.proto))))
            trained.append(_order(layers))
            twins += [_order(list(_redrawn(layers, generator, how))) for how in ("he", "uniform")]
        yield {
            "split": split,
            "networks": len(trained),
            "called untrained": sum(o < spectra.ORDERED for o in trained),
            "least order": round(min(trained), 1),
            "twins": len(twins),
            "twins called untrained": sum(o < spectra.ORDERED for o in twins),
            "largest order of a twin": round(max(twins), 1),
        }


def _order(layers: Sequence[LinearLayer]) -> float:
    found = spectra.order(reversed(layers), _SEED)
    return float("nan") if found is None else found


def _redrawn(
    layers: Sequence[LinearLayer], generator: np.random.Generator, how: str
) -> Iterator[LinearLayer]:
    for layer in layers:
        shape = layer.weights.stored.shape
        fan = shape[1] * shape[2]
        drawn = (
            generator.standard_normal(shape) * np.sqrt(2 / fan)
            if how == "he"
            else generator.uniform(-1, 1, shape) / np.sqrt(fan)
        )
        yield LinearLayer(name=layer.name, operator=layer.operator, weights=Weights(stored=drawn))


def _references(entries: Sequence[Entry], opened: dict[str, Model]) -> Iterator[dict[str, Any]]:
    """Yield, for each split and relation, how often a reference is called a copy or a stranger.

    The suspect is any network, the reference a clean one of the same input and classes. Networks of
    another data set beside it are strangers; of the same one, even by another recipe, they are not.
    """
    levelled = {e.file: _levelled(opened[e.file]) for e in entries}
    likeness = {e.file: kinship.likeness(opened[e.file], Settings()) for e in entries}
    found: dict[tuple[str, str], list[Kinship]] = collections.defaultdict(list)
    for one, other in itertools.permutations(entries, 2):
        first, second = levelled[one.file], levelled[other.file]
        if other.attack != "clean" or one.split != other.split or first.shape != second.shape:
            continue
        if (
            opened[one.file].identity.inputs[0].shape[1:]
            != opened[other.file].identity.inputs[0].shape[1:]
        ):
            continue
        told = kinship.agreement_of(first, second)
        same = one.recipe == other.recipe
        alike = (
            kinship.weights_alike(likeness[one.file], likeness[other.file])
            if same
            and opened[one.file].identity.architecture == opened[other.file].identity.architecture
            else None
        )
        relation = _relation(one, other)
        found[str(one.split), relation].append(
            Kinship(weights=alike, correlation=told.correlation, z=told.z)
        )
    for split, relation in sorted(found):
        each = found[split, relation]
        cosines = [k.weights for k in each if k.weights is not None]
        yield {
            "split": split,
            "reference of": relation,
            "pairs": len(each),
            "called strangers": sum(k.strangers for k in each),
            "called a copy": sum(k.copied for k in each),
            "largest cosine": round(max(cosines), 2) if cosines else "-",
        }


def _relation(one: Entry, other: Entry) -> str:
    if one.recipe == other.recipe:
        return "the same recipe"
    return "the same data" if _data(one) == _data(other) else "other data"


def _data(entry: Entry) -> tuple[str, bool]:
    """Return the data set, and whether only some of its classes were taken."""
    return entry.dataset, "classes" in entry.recipe


def _levelled(model: Model) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        found = input_range.find(model, Settings())
        span = None if found is None else (found.low, found.high)
        settings = Settings(input_range=span)
        answers = Answers(model, settings)
        return kinship.levelled(answers.logits(varied(settings, answers.shape, answers.dtype)))
    except ScannerError:
        return np.empty((0, 0))


if __name__ == "__main__":
    typer.run(main)
