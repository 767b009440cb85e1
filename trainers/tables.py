"""The paper's Tables 2.1 and 2.2 recomputed from a zoo; only this module asks the scanner.

The paper reports one run each. Here every figure is a mean and a standard deviation over seeds, and
Table 2.2 has the
column that the paper lacks: the same ratio between two clean networks.
"""

import csv
import dataclasses
import importlib.metadata
import io
import itertools
import math
import os
import platform
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from scanner import ScannerError, Settings, scan
from scanner.values import to_json
from trainers import manifest
from trainers.errors import TrainerError
from trainers.files import sha256, write_whole
from trainers.manifest import Entry
from trainers.recipes import RECIPES, Recipe, base_name, recipe

RULE = "overactivation"
IMAGES = 200
"""Noise images, as in the paper."""
ACCURACY, SUCCESS, RATIO = "clean accuracy, backdoored", "attack success rate", "mean(S_A) B/C"
ROUNDING = 0.00005
"""Half of the last digit of a percentage with two decimals."""
SPREAD = 2.0
"""Standard deviations of our runs within which the paper's single run says nothing."""
ENOUGH = 5
"""Runs from which their standard deviation is taken at its word."""
COUNTS_FROM = 20
"""From here on, figures of Table 2.2 count images (one decimal); S_A and ratios take three."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the paper's Table 2.2: the figures of one backdoored and one clean network.

    Attributes:
        max_backdoored: max(S_A) of the backdoored network.
        max_clean: Of the clean one.
        mean_backdoored: mean(S_A) of the backdoored network.
        mean_clean: Of the clean one.
        wins: Noise images, of 200, on which the backdoored network's maximum is the larger.
    """

    max_backdoored: float
    max_clean: float
    mean_backdoored: float
    mean_clean: float
    wins: int


PAPER: Mapping[tuple[str, int], Column] = {
    (recipe, epoch): Column(
        max_backdoored=figures[0],
        max_clean=figures[1],
        mean_backdoored=figures[2],
        mean_clean=figures[3],
        wins=figures[4],
    )
    for recipe, epoch, figures in (
        ("mnist", 5, (3.9615, 3.2132, 3.2140, 2.5139, 199)),
        ("mnist", 10, (3.5404, 3.9103, 2.6816, 3.0669, 17)),
        ("mnist", 20, (5.0043, 5.1311, 3.6324, 3.8204, 38)),
        ("gtsrb", 10, (4.7136, 4.345, 3.6496, 3.216, 163)),
        ("gtsrb", 20, (4.3301, 3.3928, 2.9364, 2.5081, 177)),
        ("gtsrb", 30, (4.611, 3.5097, 3.1777, 2.0844, 195)),
        ("gtsrb", 50, (3.5434, 3.2779, 2.3143, 2.3850, 109)),
        ("fashion-mnist", 5, (1.5759, 1.3684, 1.313, 1.2007, 189)),
        ("fashion-mnist", 10, (1.8628, 1.8138, 1.4639, 1.4822, 95)),
        ("fashion-mnist", 30, (2.4023, 2.6442, 2.0127, 2.2154, 12)),
        ("cifar10", 20, (12.936, 9.8593, 9.9769, 7.7057, 196)),
        ("cifar10", 30, (8.8327, 7.4869, 6.5749, 5.2923, 194)),
        ("cifar10", 40, (5.6955, 6.5439, 4.387, 5.2367, 11)),
        ("cifar10", 50, (4.2566, 4.6565, 3.4229, 3.6726, 60)),
    )
}
"""The paper's Table 2.2, by recipe and epoch; its ratios follow from these figures."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        recipe: Name of the recipe.
        epochs: Trained.
        quantity: What it is.
        paper: The paper's figure; None where it has none.
        n: Networks, or pairs of networks.
        mean: Over them.
        sd: Sample standard deviation over them; None for a single one, and for a share.
    """

    recipe: str
    epochs: int
    quantity: str
    paper: float | None
    n: int
    mean: float
    sd: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of a zoo, and where it lies."""

    entry: Entry
    path: Path


Pair = Mapping[str, float | int | None]
"""The scanner's figures for one suspect and one reference."""


def collect(folders: Iterable[Path]) -> list[Model]:
    """Return the models listed in the folders' manifests, in the folders' order, each once.

    Raises:
        TrainerError: There is none, or a file is not the one that was measured when it was listed.
        ManifestError: A manifest cannot be read.
    """
    folders = list(folders)
    found: dict[str, Model] = {}
    for folder in folders:
        for entry in manifest.read(folder):
            found.setdefault(entry.sha256, Model(entry=entry, path=folder / entry.file))
    models = list(found.values())
    if not models:
        names = ", ".join(map(str, folders))
        raise TrainerError(
            f"no manifest in {names} lists a model",
            remedy="train some with 'python -m trainers zoo'",
        )
    for model in models:
        if not model.path.is_file() or sha256(model.path) != model.entry.sha256:
            raise TrainerError(
                f"{model.path} is not the file that its manifest describes",
                remedy="train it again: 'python -m trainers zoo' makes what is missing",
            )
    return models


def table_2_1(models: Sequence[Model]) -> list[Row]:
    """Return clean accuracy and attack success rate by recipe and epoch named in the paper.

    The paper's table has one figure a data set, at one epoch; rows of other epochs carry none. Of a
    recipe that nobody trained for so long the epochs are those that there are.
    """

    def epochs(one: Recipe) -> set[int]:
        trained = {m.entry.epochs for m in models if m.entry.recipe == one.name}
        named = {one.epochs, *one.snapshots}
        return named & trained or trained

    rows = []
    for of, epoch in _columns(models, epochs):
        clean, backdoored = _kinds(models, of.name, epoch)
        named = epoch == of.epochs
        figures = (
            ("clean accuracy, clean", clean, _accuracy),
            (ACCURACY, backdoored, _accuracy),
            (SUCCESS, backdoored, _success),
        )
        for quantity, networks, figure in figures:
            paper = _published(of, quantity) if named else None
            rows += _row(of.name, epoch, quantity, paper, [figure(one.entry) for one in networks])
    return rows


def table_2_2(models: Sequence[Model], compare: Callable[[Path, Path], Pair]) -> Iterator[Row]:
    """Yield the figures of Table 2.2 and those of clean against clean, by recipe and epoch.

    B/C and the counts are over all pairs of a backdoored and a clean network of different seeds
    (the same seed would start both from the same weights). Between two clean networks no one is the
    suspect: their ratio is the larger over the smaller mean, their count the larger of wins and
    losses.

    Args:
        models: A zoo.
        compare: Gives the scanner's figures for a suspect and a reference.
    """
    for of, epoch in _columns(models, lambda one: one.snapshots):
        clean, backdoored = _kinds(models, of.name, epoch)
        crossed = [
            (b, c) for b, c in itertools.product(backdoored, clean) if b.entry.seed != c.entry.seed
        ]
        attacked = {(b.path, c.path): compare(b.path, c.path) for b, c in crossed}
        peaceful = {
            (c.path, d.path): compare(c.path, d.path) for c, d in itertools.combinations(clean, 2)
        }
        sizes = _sizes(attacked | peaceful)
        rows = [
            *_size_rows(
                of.name,
                epoch,
                "backdoored",
                [sizes[b.path] for b in backdoored if b.path in sizes],
            ),
            *_size_rows(of.name, epoch, "clean", [sizes[c.path] for c in clean if c.path in sizes]),
            *_attacked_rows(of.name, epoch, list(attacked.values())),
            *_clean_rows(of.name, epoch, list(peaceful.values())),
        ]
        # The paper's order: all of the maximum, then all of the mean.
        yield from sorted(rows, key=lambda row: not row.quantity.startswith("max"))


def _sizes(pairs: Mapping[tuple[Path, Path], Pair]) -> dict[Path, tuple[float, float]]:
    """Return max(S_A) and mean(S_A) of each network, from any pair that it is in."""
    sizes = {}
    for paths, pair in pairs.items():
        for path, role in zip(paths, ("suspect", "reference"), strict=True):
            sizes[path] = _number(pair, f"{role}_max"), _number(pair, f"{role}_mean")
    return sizes


def _size_rows(
    name: str, epoch: int, kind: str, sizes: Sequence[tuple[float, float]]
) -> Iterator[Row]:
    paper = PAPER[base_name(name), epoch]
    clean = kind == "clean"
    largest = paper.max_clean if clean else paper.max_backdoored
    mean = paper.mean_clean if clean else paper.mean_backdoored
    yield from _row(name, epoch, f"max(S_A) {kind}", largest, [size[0] for size in sizes])
    yield from _row(name, epoch, f"mean(S_A) {kind}", mean, [size[1] for size in sizes])


def _attacked_rows(name: str, epoch: int, pairs: Sequence[Pair]) -> Iterator[Row]:
    paper = PAPER[base_name(name), epoch]
    figures = (
        ("max(S_A) B/C", "ratio_max", paper.max_backdoored / paper.max_clean),
        (RATIO, "ratio_mean", paper.mean_backdoored / paper.mean_clean),
        (f"backdoored > clean, of {IMAGES}", "wins", paper.wins),
    )
    for quantity, key, figure in figures:
        yield from _row(name, epoch, quantity, figure, [_number(pair, key) for pair in pairs])


def _clean_rows(name: str, epoch: int, pairs: Sequence[Pair]) -> Iterator[Row]:
    """Yield how far apart clean networks are.

    And how often as far apart as the paper's backdoored network and its clean one.
    """
    wins = PAPER[base_name(name), epoch].wins
    ratios = [_number(pair, "ratio_mean") for pair in pairs]
    counts = [max(_number(pair, "wins"), _number(pair, "losses")) for pair in pairs]
    yield from _row(
        name,
        epoch,
        "mean(S_A) clean against clean, larger/smaller",
        None,
        [max(r, 1 / r) for r in ratios],
    )
    yield from _row(name, epoch, f"clean against clean, larger count of {IMAGES}", None, counts)
    share = [float(count >= max(wins, IMAGES - wins)) for count in counts]
    for row in _row(
        name, epoch, "share of clean pairs as lopsided as the paper's pair", None, share
    ):
        yield dataclasses.replace(row, sd=None)


def _number(pair: Pair, key: str) -> float:
    value = pair[key]
    if value is None:
        raise TrainerError(
            f"the scanner reports no {key}", remedy="scan the pair by hand to see why"
        )
    return float(value)


def scanned(images: int, seed: int) -> Callable[[Path, Path], Pair]:
    """Return a function that scans a suspect against a reference and returns the paper's figures.

    The function raises TrainerError where the pair cannot be measured.
    """
    settings = Settings(images=images, seed=seed, detectors=(RULE,))

    def compare(suspect: Path, reference: Path) -> Pair:
        try:
            result = scan(suspect, references=[reference], settings=settings)
        except ScannerError as error:
            raise TrainerError(error.problem, remedy=error.remedy) from error
        for finding in result.findings:
            images = finding.evidence.images
            if finding.rule.id == RULE and images is not None:
                return {n: v for n, v in to_json(images).items() if isinstance(v, int | float)}
        reason = "; ".join(failure.sentence for failure in result.failures) or "it was skipped"
        raise TrainerError(
            f"{suspect} could not be measured ({reason})", remedy="remove it from the zoo"
        )

    return compare


def _columns(
    models: Sequence[Model], epochs: Callable[[Recipe], Iterable[int]]
) -> Iterator[tuple[Recipe, int]]:
    """Yield our recipes, after each the other widths of it that there are, with their epochs."""
    names = {model.entry.recipe for model in models}
    for name, ours in RECIPES.items():
        widths = {recipe(other).width for other in names if base_name(other) == name}
        for width in (ours.width, *sorted(widths - {ours.width})):
            one = recipe(name, width)
            for epoch in sorted(set(epochs(one))):
                yield one, epoch


def _kinds(models: Sequence[Model], name: str, epoch: int) -> tuple[list[Model], list[Model]]:
    """Return a recipe's clean and BadNets models (one target, 10 %) of an epoch.

    One of each seed, the first: networks that share a seed start from the same weights and are no
    independent sample.
    """
    of = [
        m for m in models if (m.entry.recipe, m.entry.epochs) == (name, epoch) and _plain(m.entry)
    ]
    clean = [m for m in of if m.entry.attack == "clean"]
    attacked = [
        m
        for m in of
        if (m.entry.attack, m.entry.labels, m.entry.rate) == ("badnets", "all-to-one", 0.1)
    ]
    return _one_a_seed(clean), _one_a_seed(attacked)


def _one_a_seed(models: Sequence[Model]) -> list[Model]:
    first: dict[int, Model] = {}
    for model in models:
        first.setdefault(model.entry.seed, model)
    return list(first.values())


def _published(of: Recipe, quantity: str) -> float | None:
    """Return the figure of the paper's Table 2.1; None where it has none."""
    found = {ACCURACY: of.clean_accuracy, SUCCESS: of.attack_success_rate}.get(quantity)
    return None if found is None or math.isnan(found) else found


def _plain(entry: Entry) -> bool:
    return entry.form == {"dtype": "float32", "fold_bn": True}


def _accuracy(entry: Entry) -> float:
    return entry.clean_accuracy


def _success(entry: Entry) -> float:
    return entry.attack_success_rate or 0.0


def _row(
    name: str, epoch: int, quantity: str, paper: float | None, values: Sequence[float]
) -> list[Row]:
    """Return the row of some values; none where there are none."""
    if not values:
        return []
    sd = statistics.stdev(values) if len(values) > 1 else None
    mean = statistics.fmean(values)
    return [
        Row(
            recipe=name,
            epochs=epoch,
            quantity=quantity,
            paper=paper,
            n=len(values),
            mean=mean,
            sd=sd,
        )
    ]


def hardware() -> str:
    """Return this machine's accelerator or processor for a file name, such as `amd-epyc`."""
    import torch  # noqa: PLC0415 - to name a GPU only

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def onnxruntime_version() -> str:
    """Return the version of the installed ONNX Runtime, whichever wheel it came in.

    Raises:
        TrainerError: There is none.
    """
    for wheel in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return importlib.metadata.version(wheel)
        except importlib.metadata.PackageNotFoundError:
            continue
    raise TrainerError("ONNX Runtime is not installed", remedy="pip install 'overactivation[cpu]'")


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Write rows as CSV, to six significant digits; an empty cell is a figure that there is not."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, [field.name for field in dataclasses.fields(Row)], lineterminator="\n"
    )
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow(
            {key: f"{cell:.6g}" if isinstance(cell, float) else cell for key, cell in cells.items()}
        )
    _write(path, text.getvalue())


def read_csv(path: Path) -> list[Row]:
    """Read what `write_csv` wrote.

    Raises:
        TrainerError: It is something else.
    """
    try:
        with path.open(newline="") as lines:
            return [_parse(line) for line in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise TrainerError(
            f"{path} is not a table of ours", remedy="move it away, or make it again"
        ) from error


def _parse(line: Mapping[str, str]) -> Row:
    return Row(
        recipe=line["recipe"],
        epochs=int(line["epochs"]),
        quantity=line["quantity"],
        paper=float(line["paper"]) if line["paper"] else None,
        n=int(line["n"]),
        mean=float(line["mean"]),
        sd=float(line["sd"]) if line["sd"] else None,
    )


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise TrainerError(
            f"{path} cannot be written ({error.strerror})", remedy="choose another folder"
        ) from error


def markdown(results: Path, folder: Path) -> str:
    """Return every table in a results folder as one Markdown page that is to lie in `folder`."""
    parts = [_PREFACE]
    present: set[tuple[str, int]] = set()
    for table, title in (
        ("table-2.1", "Table 2.1: the networks"),
        ("table-2.2", "Table 2.2: activation on noise"),
    ):
        parts.append(f"## {title}\n")
        if table == "table-2.1":
            parts.append(_ONE_EPOCH)
        for path in sorted(results.glob(f"{table}-*.csv")):
            where = path.stem.removeprefix(f"{table}-")
            link = Path(os.path.relpath(path, folder)).as_posix()
            parts.append(f"From [`{path.name}`]({link}), measured on `{where}`.\n")
            rows, percent = read_csv(path), table == "table-2.1"
            parts.append(_grid(rows, percent=percent))
            present |= {(base_name(r.recipe), r.epochs) for r in rows if r.quantity == RATIO}
            if percent and (below := _shortfalls(rows)):
                parts.append(below)
    return "\n".join([*parts, _absent(present)])


def _absent(present: Iterable[tuple[str, int]]) -> str:
    """Return a sentence that names the paper's columns that nothing here was trained for."""
    lacking = [
        f"{RECIPES[name].title} at {epoch} epochs"
        for name, epoch in PAPER
        if (name, epoch) not in present
    ]
    return f"Columns of the paper's Table 2.2 not recomputed yet: {', '.join(lacking) or 'none'}.\n"


def _grid(rows: Sequence[Row], *, percent: bool) -> str:
    lines = ["| data set | epochs | figure | paper | here | n |", "|---|---|---|---|---|---|"]
    for row in rows:
        paper = "" if row.paper is None else _figure(row.paper, percent=percent)
        here = _figure(row.mean, percent=percent)
        if row.sd is not None:
            here += f" ± {_figure(row.sd, percent=percent)}"
        lines.append(
            f"| {recipe(row.recipe).title} | {row.epochs} | {row.quantity} | {paper} | {here} | "
            f"{row.n} |"
        )
    return "\n".join(lines) + "\n"


def _figure(value: float, *, percent: bool) -> str:
    if percent:
        return f"{value:.2%}"
    return f"{value:.1f}" if value >= COUNTS_FROM else f"{value:.3f}"


def _shortfalls(rows: Sequence[Row]) -> str:
    """Return a sentence for each figure under the paper's: by how much, and why if known."""
    sentences = []
    for row in rows:
        paper = _published(recipe(row.recipe), row.quantity)
        if paper is not None and row.mean < paper - ROUNDING:
            sentences.append(f"* {_shortfall(row, paper)}")
    return "\n".join(["Below the paper:\n", *sentences, ""]) if sentences else ""


def _shortfall(row: Row, paper: float) -> str:
    of, missing = recipe(row.recipe), paper - row.mean
    spread = f" ({missing / row.sd:.1f} standard deviations of our {row.n} runs)" if row.sd else ""
    at = "" if row.epochs == of.epochs else f", which is at {of.epochs} epochs"
    figure = f"{of.title}, {row.epochs} epochs, {row.quantity}"
    text = f"{figure}: {missing * 100:.2f} points{spread} under the paper's{at}. "
    if row.sd and row.n >= ENOUGH and missing <= SPREAD * row.sd:
        return f"{text}One run, such as the paper's, does not tell the two apart."
    success = of.success_note if row.quantity == SUCCESS else ""
    return text + (" ".join(filter(None, (of.note, success))) or "Why has not been looked into.")


_PREFACE = """# The paper's tables, recomputed

Written by `python -m trainers tables`; do not edit. Mean ± sample standard deviation over n
networks (one seed each) or over n pairs of networks with different seeds; the pairs share networks,
so their spread is not a standard error. The paper reports one run each, without its trigger,
poisoning rate, optimiser or noise; ours are BadNets (3x3 white square, 10 % of the images, targets
that vary with the seed) and 200 uniform noise images in [0, 1]. If several folders hold a network
of the same kind and seed, the first one counts.
"""

_ONE_EPOCH = """\
The paper's Table 2.1 states one epoch per data set; its Table 2.2 has other epochs, without
accuracies. Rows of those epochs have no figure of the paper beside them; if they are below its one
figure, the list under the table says so.
"""


def write(
    models: Sequence[Model], compare: Callable[[Path, Path], Pair], results: Path, page: Path
) -> list[Path]:
    """Compute both tables, write their CSV files and the page, and return what was written.

    Raises:
        TrainerError: A pair cannot be measured, or a file cannot be written.
    """
    suffix = f"{hardware()}-{onnxruntime_version()}.csv"
    tables = {"table-2.1": table_2_1(models), "table-2.2": list(table_2_2(models, compare))}
    paths = []
    for name, rows in tables.items():
        paths.append(results / f"{name}-{suffix}")
        write_csv(rows, paths[-1])
    _write(page, markdown(results, page.parent))
    return [*paths, page]
