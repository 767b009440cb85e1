"""Are triggers found in the middle of a network, where a search costs less than from its input?

    python -m benchmarks.latents measure FOLDER RECORDS.jsonl [--attacks clean,badnets]  # resumes
    python -m benchmarks.latents report RECORDS.jsonl...

The network is cut behind the activation at `DEPTH` of those through which everything goes. Two
searches for each class start there. MM-BD's ascent is made in the box from 0 to the 99.9th
percentile that noise reaches. FreeEagle (C. Fu et al., USENIX Security 2023) makes latents of a
class s by Adam, kept above 0, and asks which other class t they lean to: V_t = mean over s of the
share of t in the softmax without s. The third column is MM-BD from the input. How far a class is
out of a network, alone, is FreeEagle's own statistic, (max V - Q3) / IQR; beside a clean network of
its recipe it is the largest difference in a class, of log V, or of margins over their median.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import typer

from benchmarks.population import span
from benchmarks.quality import auc, table, text
from benchmarks.sweeps import named, took
from scanner.detectors.mm_bd import Ascent, MmBd
from scanner.errors import ScannerError
from scanner.graph.core import extract, flatten
from scanner.graph.gradient.backward import Objective
from scanner.graph.layers import activations, head
from scanner.graph.layers.logits import find_logits
from scanner.instruments import runtime
from scanner.instruments.detector import Subject
from scanner.instruments.differentiable import differentiable
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings
from trainers import manifest
from trainers.manifest import Entry

DEPTH = 0.6
NOISE, STARTS, ASCENT, STEPS = 64, 8, 30, 60
RATE, FIRST, SECOND = 0.05, 0.9, 0.999  # Adam's, the rate in standard deviations of a latent
BEYOND = 0.999
SEARCHES = ("MM-BD, from the middle", "FreeEagle, from the middle", "MM-BD, from the input")

Floats = npt.NDArray[np.float64]
app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(help="A folder with manifest.json and models.")],
    records: Annotated[Path, typer.Argument(help="Where the measurements go, a line each.")],
    attacks: Annotated[
        str | None, typer.Option(help="Only these, joined by commas; all if left out.")
    ] = None,
) -> None:
    """Search each network that RECORDS does not hold yet."""
    known = {row["sha256"] for row in (read([records]) if records.exists() else [])}
    wanted = None if attacks is None else attacks.split(",")
    for entry in manifest.read(folder):
        if entry.sha256 in known or not (entry.attack == "clean" or took(entry)):
            continue
        if wanted is not None and named(entry) not in wanted:
            continue
        try:
            found = searched(folder, entry)
        except ScannerError as error:
            typer.echo(f"{entry.file}: {error}", err=True)
            continue
        row = {
            "file": entry.file, "sha256": entry.sha256, "recipe": entry.recipe,
            "attack": named(entry), "target": entry.target,
            "success": entry.attack_success_rate, **found,
        }  # fmt: skip
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        typer.echo(entry.file)


def searched(folder: Path, entry: Entry) -> dict[str, list[float]]:
    """Return what each search finds of each class.

    Raises:
        ScannerError: There is no such activation, or no gradient.
    """
    low, high = span(entry, folder / str(entry.images))
    settings = Settings(input_range=(low, high))
    subject = Subject(model=open_model(folder / entry.file), settings=settings)
    own = MmBd().measure(subject).by_class
    assert own is not None  # noqa: S101 - it has one
    noise, tail = halves(folder / entry.file, low, high)
    with tempfile.TemporaryDirectory() as name:
        cut = Path(name, "tail.onnx")
        cut.write_bytes(tail)
        most = max(float(np.quantile(noise, BEYOND)), 1e-3)
        inner = Subject(model=open_model(cut), settings=Settings(input_range=(0.0, most)))
        middle, lean = margins(inner, noise, most), leaning(inner, noise)
    figures = (middle, lean, [row.figure or 0.0 for row in own.rows])
    return dict(zip(SEARCHES, figures, strict=True))


def halves(path: Path, low: float, high: float) -> tuple[npt.NDArray[np.float32], bytes]:
    """Return what noise is in the middle of a network, and the file from there to its logits.

    Raises:
        ScannerError: There is no activation through which everything goes.
    """
    model = open_model(path)
    flat = flatten.flatten(model.proto)
    logits, image = find_logits(flat).value, flat.graph.input[0]
    through = []
    for found in activations.activations(flat):
        source = onnx.helper.make_tensor_value_info(found.value, onnx.TensorProto.FLOAT, None)
        needed = extract.between(flat, source, [logits]).graph.input
        if [value.name for value in needed] == [found.value]:
            through.append(found.value)
    if not through:
        raise ScannerError("no activation lets everything through", remedy="name another network")
    chosen = through[int(DEPTH * len(through))]
    shape = [d.dim_value for d in image.type.tensor_type.shape.dim][1:]
    drawn = np.random.default_rng(0).random((NOISE, *shape), dtype=np.float32)
    stem = model.serialise(extract.upstream(flat, [chosen]))
    session = runtime.open_session(stem, Device.CPU, 1)
    (noise,) = session.feed({image.name: low + (high - low) * drawn}, [chosen])
    tail = extract.between(flat, head.as_input(chosen, noise, None), [logits])
    return noise, model.serialise(tail)


def margins(subject: Subject, noise: npt.NDArray[np.float32], most: float) -> list[float]:
    """Return how far each class can lead."""
    model = differentiable(subject, Objective.MARGIN)
    shape = (STARTS, *noise.shape[1:])
    starts = np.float32(most) * np.random.default_rng(0).random(shape, dtype=np.float32)
    found = []
    for target in range(model.classes):
        ascent = Ascent(model, starts, target, ASCENT)
        for _ in range(ASCENT):
            ascent.step()
        found.append(ascent.margin)
    return found


def leaning(subject: Subject, noise: npt.NDArray[np.float32]) -> list[float]:
    """Return how far latents of other classes lean to each class, on average."""
    model = differentiable(subject, Objective.CROSS_ENTROPY)
    scale, lean = np.float32(noise.std() + 1e-6), np.zeros((model.classes, model.classes))
    for source in range(model.classes):
        latents = noise[:STARTS]
        mean, square = np.zeros_like(latents), np.zeros_like(latents)
        for step in range(1, STEPS + 1):
            gradient = model.evaluate(latents, source)[2] * scale
            mean = FIRST * mean + (1 - FIRST) * gradient
            square = SECOND * square + (1 - SECOND) * gradient**2
            length = np.sqrt(square / (1 - SECOND**step)) + 1e-8
            latents = np.maximum(latents - RATE * scale * mean / (1 - FIRST**step) / length, 0)
        others = np.arange(model.classes) != source
        logits = model.logits(latents.astype(np.float32)).astype(float)[:, others]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        lean[source, others] = (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)
    found: list[float] = (lean.sum(axis=0) / (model.classes - 1)).tolist()
    return found


@app.command()
def report(records: list[Path]) -> None:
    """Print how well each search tells backdoored networks from clean ones, as AUC."""
    typer.echo(table([*reported(read(records))]))


def reported(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each attack: AUC alone and beside one, and how often the class is right."""
    clean = [row for row in rows if row["attack"] == "clean"]
    for attack in sorted({row["attack"] for row in rows} - {"clean"}):
        group = [row for row in rows if row["attack"] == attack]
        row: dict[str, Any] = {"attack": attack, "n": len(group)}
        for search in SEARCHES:
            own, honest = ([_lead(r, search) for r in some] for some in (group, clean))
            pairs, others = ([*_beside(some, clean, search)] for some in (group, clean))
            row[f"{search}: alone"] = f"{auc(np.array(own), np.array(honest)):.2f}"
            row[f"{search}: beside one"] = f"{auc(np.array(pairs), np.array(others)):.2f}"
        yield row


def _lead(row: Mapping[str, Any], search: str) -> float:
    figures = np.array(row[search])
    third, first = np.quantile(figures, [0.75, 0.25])
    return float((figures.max() - third) / (third - first + 1e-9))


def _beside(
    rows: Sequence[Mapping[str, Any]], clean: Sequence[Mapping[str, Any]], search: str
) -> Iterator[float]:
    for row in rows:
        for other in clean:
            if other["recipe"] == row["recipe"] and other["sha256"] != row["sha256"]:
                own, beside = (_even(np.array(r[search]), search) for r in (row, other))
                above = own - beside
                yield float((above - np.median(above)).max())


def _even(figures: Floats, search: str) -> Floats:
    if search.startswith("FreeEagle"):
        return np.log(figures + 1e-3)
    even: Floats = figures / (np.median(np.abs(figures)) + 1e-9)
    return even


def read(records: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the rows of several files, of which some may be compressed."""
    return [json.loads(line) for path in records for line in text(path).splitlines()]


if __name__ == "__main__":
    app()
