"""Layer-wise overactivation: the seed paper's question, asked of every activation in one forward pass.

Source: X. Wu, "Overactivation - Verifying and testing backdoors in deep neural networks" (2024),
Table 2.2, asks it of the first ReLU. Asking it of each layer, and of each channel within its layer,
is ours.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLayerError
from scanner.graph.core import extract, flatten
from scanner.graph.layers import activations, reductions
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Needs, Subject
from scanner.instruments.noise_runs import conditions, over_noise
from scanner.instruments.statistics import robust_z
from scanner.results import Comparison, Measurement, Rule

_QUANTILES = np.linspace(0, 1, 17)
"""Of a layer's channels: what is kept of a layer must not grow with its width, and the channels of two trainings do not
correspond one to one, but their order statistics do."""

_SPREAD = (
    0.01  # of a layer's strongest channel: where most channels are silent, their spread is rounding
)


class Layerwise:
    """S_A of every activation: a_i the largest output over channels and positions for noise image x_i."""

    rule: ClassVar[Rule] = Rule(
        id="layerwise",
        name="Layer-wise overactivation",
        summary="Some activation answers more strongly to noise than a clean model's.",
        reference="X. Wu, Overactivation, 2024, Table 2.2, applied to every activation",
    )
    needs: ClassVar[Needs] = Needs.ACTIVATIONS

    def measure(self, subject: Subject) -> Measurement:
        """Return a row for each activation, in graph order, as the series `layers`.

        The statistic is the largest robust z-score of a channel within its layer, over all layers.

        Raises:
            NoLayerError: No activation depends on the input.
            UnsupportedModelError: Several inputs, or an activation is not a number.
        """
        model, settings = subject.model, subject.settings
        shape = probes.image_shape(model, settings)
        flat = flatten.flatten(model.proto)
        dependent = extract.dependent(flat.graph)
        found = [a for a in activations.activations(flat) if a.value in dependent]
        if not found:
            raise NoLayerError(
                "the graph has no top-level activation to measure (ReLU, SiLU, GELU, ...)",
                remedy="name an inner value for the detector 'overactivation' with --layer NAME",
            )
        cut = extract.upstream(flat, [a.value for a in found])
        reduced, names = reductions.per_channel_statistics(cut, found)
        session = runtime.open_session(model.serialise(reduced), settings.device, settings.threads)
        outputs = over_noise(session, shape, subject)
        pairs = zip(found, names, strict=True)
        maxima = {a.value: pair.maximum for a, pair in pairs if not a.quantisation}
        subject.witnesses.append(
            original.of_session("layer-wise overactivation's cut", session, maxima, peaks=True)
        )
        by_name = dict(zip((o.name for o in reduced.graph.output), outputs, strict=True))
        rows = [
            _row(activation, by_name[pair.maximum], by_name[pair.mean])
            for activation, pair in zip(found, names, strict=True)
        ]
        return Measurement(
            rule=self.rule.id,
            statistic=max(row["channel_z"] for row in rows),
            parameters={**conditions(session, shape, subject), "layers": len(rows)},
            series={"layers": rows},
        )

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return the largest log-ratio of mean(S_A) over layers, suspect over the references' geometric mean.

        Layers are matched by name where every layer of the suspect has its namesake, else by
        position.
        """
        own = suspect.series["layers"]
        top = max(own, key=lambda row: row["channel_z"])
        values = {"channel_z": top["channel_z"], "layers": len(own)}
        matches = [match_layers(own, reference.series["layers"]) for reference in references]
        rows = _ratios(own, matches) if references else []
        if not rows:
            return Comparison(
                rule=self.rule.id,
                statistic=None,
                values=values,
                evidence={"layers": own, "layer": top},
            )
        best = max(rows, key=lambda row: row["log_ratio"])
        how = _how_matched(own, references)
        return Comparison(
            rule=self.rule.id,
            statistic=best["log_ratio"],
            values={
                **values,
                "suspect_mean": best["suspect"],
                "reference_mean": best["reference"],
                "reference_low": min(best["references"]),
                "reference_high": max(best["references"]),
                "log_ratio": best["log_ratio"],
                "channel": best["channel"],
                "layers_compared": len(rows),
            },
            evidence={"layer": best["layer"], "matched": how, "layers": rows},
            sentence=(
                f"layer {best['layer']!r} ({best['operator']}) answers "
                f"{math.exp(best['log_ratio']):.2f} times as "
                f"strongly to noise as the references', most of all its channel {best['channel']}; "
                f"layers matched {how}"
            ),
        )


def match_layers(
    own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any] | None]:
    """Return the other model's row for each of our own: by name where all names are there, else by position."""
    named = {row["layer"]: row for row in other}
    if all(row["layer"] in named for row in own):
        return [named[row["layer"]] for row in own]
    return [other[index] if index < len(other) else None for index in range(len(own))]


def _row(
    activation: activations.Activation, maxima: npt.NDArray[Any], means: npt.NDArray[Any]
) -> dict[str, Any]:
    """Return what is kept of a layer, given its statistics for each image and channel, (images, channels, ...)."""
    by_channel = maxima.reshape(len(maxima), -1).astype(np.float64)
    peaks, profile = by_channel.max(axis=1), by_channel.mean(axis=0)
    scores = robust_z(profile, least=_SPREAD * float(np.abs(profile).max()))
    top = int(scores.argmax())
    return {
        "layer": activation.value,
        "operator": activation.operator,
        "channels": len(profile),
        "peak_mean": float(peaks.mean()),
        "peak_max": float(peaks.max()),
        "mean": float(means.mean(dtype=np.float64)),
        "quantiles": np.quantile(profile, _QUANTILES).tolist(),
        "channel": top,
        "channel_peak": float(profile[top]),
        "channel_z": float(scores[top]),
    }


def _ratios(
    own: Sequence[Mapping[str, Any]], matches: Sequence[Sequence[Mapping[str, Any] | None]]
) -> list[dict[str, Any]]:
    """Return a row for each layer that answers to noise in the suspect and in every reference."""
    rows = []
    for index, row in enumerate(own):
        peaks = [other["peak_mean"] for match in matches if (other := match[index]) is not None]
        if len(peaks) == len(matches) and min(row["peak_mean"], *peaks) > 0:
            reference = math.exp(sum(map(math.log, peaks)) / len(peaks))
            ratio = math.log(row["peak_mean"] / reference)
            kept = {
                name: row[name]
                for name in ("layer", "operator", "channel", "channel_peak", "channel_z")
            }
            found = {
                "suspect": row["peak_mean"],
                "reference": reference,
                "references": peaks,
                "log_ratio": ratio,
            }
            rows.append(kept | found)
    return rows


def _how_matched(own: Sequence[Mapping[str, Any]], references: Sequence[Measurement]) -> str:
    names = [row["layer"] for row in own]
    others = [[row["layer"] for row in reference.series["layers"]] for reference in references]
    if all(set(names) <= set(other) for other in others):
        return "by name"
    if all(len(other) == len(names) for other in others):
        return "by position"
    counts = " or ".join(map(str, sorted({len(other) for other in others})))
    return (
        f"by position, though the architectures differ ({len(names)} activations against {counts})"
    )
