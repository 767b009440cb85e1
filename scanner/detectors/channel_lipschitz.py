"""Channel Lipschitz constants: which channel could answer far more strongly than its neighbours, read off the weights.

Source: R. Zheng et al., "Data-free Backdoor Removal based on Channel Lipschitzness", ECCV 2022,
sections 3.2 and 3.3 (UCLC). The paper prunes channels above mean + 3 standard deviations of their
layer; the robust z-score within the layer, and the comparison layer by layer, are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from scanner.errors import NoLayerError, UnsupportedModelError
from scanner.graph.core import flatten
from scanner.graph.layers.weights import LinearLayer, linear_layers, spectral_norms
from scanner.instruments.detector import Needs, Subject
from scanner.instruments.statistics import robust_z
from scanner.results import Comparison, Measurement, Rule

_FEWEST = 3  # channels among which one can stand out
_SPREAD = 0.01  # of the log: channels made equal, such as a Fourier basis, differ by rounding only


class ChannelLipschitz:
    """sigma_max of each channel's folded weights; the statistic is the largest robust z of its log within a layer."""

    rule: ClassVar[Rule] = Rule(
        id="channel_lipschitz",
        name="Channel Lipschitz constants (UCLC)",
        summary="The weights let one channel answer far more strongly than the others of its "
        "layer.",
        reference="R. Zheng et al., Data-free Backdoor Removal based on Channel Lipschitzness, "
        "ECCV 2022",
    )
    needs: ClassVar[Needs] = Needs.GRAPH

    def measure(self, subject: Subject) -> Measurement:
        """Return a row for each convolution and dense layer, in graph order, as the series `layers`.

        Raises:
            NoLayerError: There is no such layer with constant weights and three channels or more.
            UnsupportedModelError: A weight is not a finite number.
            ModelError: As for `Model.complete`.
        """
        model = subject.model
        layers = linear_layers(flatten.flatten(model.complete(model.proto)))
        rows = [row for layer in layers if (row := _row(layer)) is not None]
        if not rows:
            raise NoLayerError(
                "the graph has no convolution or dense layer with constant weights and three "
                "channels or more",
                remedy="export the model with its weights inside",
            )
        return Measurement(
            rule=self.rule.id,
            statistic=max(row["z"] for row in rows),
            parameters={"layers": len(rows), "batch_normalisation": "folded"},
            series={"layers": rows},
        )

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return by how much the most outlying channel of a layer stands out more than in the references.

        It is the largest difference of robust z-scores over layers, suspect less the references'
        mean. Layers are
        matched by position: exporters name the same weights differently.
        """
        own = suspect.series["layers"]
        top = max(own, key=lambda row: row["z"])
        values = {"suspect_z": top["z"], "channel": top["channel"], "layers": len(own)}
        comparable = [
            r.series["layers"] for r in references if _same_sizes(own, r.series["layers"])
        ]
        if not comparable:
            sentence = "no reference has layers of the same sizes" if references else ""
            evidence = {"layer": top["layer"], "layers": own}
            return Comparison(
                rule=self.rule.id,
                statistic=None,
                values=values,
                evidence=evidence,
                sentence=sentence,
            )
        rows = [
            {**row, "references": (zs := [other[i]["z"] for other in comparable]),
             "reference_z": (mean := sum(zs) / len(zs)), "difference": row["z"] - mean}
            for i, row in enumerate(own)
        ]  # fmt: skip
        best = max(rows, key=lambda row: row["difference"])
        return Comparison(
            rule=self.rule.id,
            statistic=best["difference"],
            values={
                "suspect_z": best["z"],
                "reference_z": best["reference_z"],
                "reference_low": min(best["references"]),
                "reference_high": max(best["references"]),
                "channel": best["channel"],
                "layers": len(own),
                "references_compared": len(comparable),
            },
            evidence={"layer": best["layer"], "layers": rows},
            sentence=(
                f"channel {best['channel']} of layer {best['layer']!r} ({best['operator']}) lies "
                f"{best['z']:.1f} "
                f"robust deviations above the others of its layer; {best['reference_z']:.1f} in "
                "the references"
            ),
        )


def _row(layer: LinearLayer) -> dict[str, Any] | None:
    """Return a layer's most outlying channel; None where there are too few to stand out among."""
    if not np.isfinite(layer.weights).all():
        raise UnsupportedModelError(
            f"the weights of {layer.name!r} hold NaN or infinity", remedy="export the model again"
        )
    norms = spectral_norms(layer.weights)
    alive = norms > 0
    if alive.sum() < _FEWEST:
        return None
    channels = np.flatnonzero(alive)
    scores = robust_z(np.log(norms[alive]), least=_SPREAD)
    top = int(scores.argmax())
    return {
        "layer": layer.name,
        "operator": layer.operator,
        "channels": len(norms),
        "channel": int(channels[top]),
        "norm": float(norms[channels[top]]),
        "median": float(np.median(norms[alive])),
        "z": float(scores[top]),
    }


def _same_sizes(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    return [row["channels"] for row in own] == [row["channels"] for row in other]
