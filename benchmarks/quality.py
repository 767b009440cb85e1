"""How well a statistic separates two groups of models, and how a test's p-values err.

The unit of replication is the model.
"""

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVELS = (0.01, 0.05)


def auc(guilty: npt.NDArray[np.float64], innocent: npt.NDArray[np.float64]) -> float:
    """Return the share of pairs in which the backdoored model is larger; ties count half."""
    return float(_above(guilty, innocent).mean() / len(innocent))


def _above(
    guilty: npt.NDArray[np.float64], innocent: Sequence[float] | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how many clean values each backdoored one exceeds; ties count half."""
    ranked = np.sort(innocent)
    return (np.searchsorted(ranked, guilty, "left") + np.searchsorted(ranked, guilty, "right")) / 2


def quality(
    guilty: Sequence[Sequence[float]],
    innocent: Sequence[Sequence[float]],
    generator: np.random.Generator,
) -> dict[str, float | str]:
    """Return ROC-AUC with its 95 % bootstrap interval, and true positives at fixed false positives.

    Args:
        guilty: For each backdoored model its statistics, one a choice of references.
        innocent: Likewise for each clean model.
        generator: Of the resamples, which draw models, never single values: those of one model hang
            together.
    """
    bad, good = np.concatenate(guilty), np.concatenate(innocent)
    low, high = np.quantile(_resampled(guilty, innocent, generator), [0.025, 0.975])
    thresholds = {level: np.quantile(good, 1 - level, method="higher") for level in LEVELS}
    return {
        "AUC": auc(bad, good), "AUC low": float(low), "AUC high": float(high),
        **{f"TPR at {level:.0%} FPR": float((bad > at).mean()) for level, at in thresholds.items()},
        "clean range": f"{good.min():.3g} to {good.max():.3g}",
        "backdoored range": f"{bad.min():.3g} to {bad.max():.3g}",
    }  # fmt: skip


def _resampled(
    guilty: Sequence[Sequence[float]],
    innocent: Sequence[Sequence[float]],
    generator: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Return the AUC of each resample, (RESAMPLES,), from how often it drew each model."""

    def drawn(models: int) -> npt.NDArray[np.int64]:
        return np.bincount(generator.integers(0, models, models), minlength=models)

    pairs = [(drawn(len(guilty)), drawn(len(innocent))) for _ in range(RESAMPLES)]
    bad, good = (np.array(times) for times in zip(*pairs, strict=True))
    sizes, others = ([len(values) for values in models] for models in (guilty, innocent))
    starts, values = np.cumsum([0, *sizes[:-1]]), np.concatenate(guilty)
    won = np.add.reduceat(np.array([_above(values, one) for one in innocent]), starts, 1)
    wins = np.einsum("rg,ig,ri->r", bad, won, good, optimize=True)
    return np.asarray(wins / ((bad @ sizes) * (good @ others)))


def uniformity(ps: Sequence[float]) -> dict[str, float]:
    """Return how far p-values of clean models are from uniform.

    That is, the shares at or below some levels, and the Kolmogorov-Smirnov distance.

    With k clean models in the population p takes the values 1/(k + 1), ..., 1; the distance is to
    the uniform law.
    """
    ranked = np.sort(np.asarray(ps, dtype=np.float64))
    steps = np.arange(1, len(ranked) + 1) / len(ranked)
    distance = max(
        float(np.abs(steps - ranked).max()), float(np.abs(steps - 1 / len(ranked) - ranked).max())
    )
    levels = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75)
    return {
        **{f"p <= {level:g}": share_at_most(ps, level) for level in levels},
        "KS distance": distance,
    }


def share_at_most(ps: Sequence[float], level: float) -> float:
    """Return the share of p-values at or below a level, up to rounding."""
    return float(np.mean(np.asarray(ps) <= level + 1e-9))


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a Markdown table."""
    if not rows:
        return "(nothing measured)"
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_cell(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def text(path: Path) -> str:
    """Return what a file holds, which may be compressed."""
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()


def write_csv(path: Path | None, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows to a file, if one is named and there are any."""
    if path is None or not rows:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
