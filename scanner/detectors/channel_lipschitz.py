"""Channel Lipschitz constants: which channel could answer far more strongly than its neighbours.

They are read off the weights. Source: R. Zheng et al., "Data-free Backdoor Removal based on Channel
Lipschitzness", ECCV 2022, sections 3.2 and 3.3 (UCLC). The paper prunes channels above mean + 3
standard deviations of their layer; the robust z-score within the layer, and the comparison layer by
layer, are ours.
"""

from typing import ClassVar

import numpy as np

from scanner.errors import NoLayerError, UnsupportedModelError
from scanner.graph.core import flatten
from scanner.graph.layers.weights import LinearLayer, linear_layers, spectral_norms
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.statistics import median, robust_z
from scanner.results import ByChannel, ChannelRow, Measurement, Rule, Wording

_FEWEST = 3  # channels among which one can stand out
_SPREAD = 0.01  # of the log: channels made equal, such as a Fourier basis, differ by rounding only


class ChannelLipschitz(Detector):
    """sigma_max of each channel's folded weights; the statistic is the largest robust z of its log.

    The z-score is that within a layer.
    """

    rule: ClassVar[Rule] = Rule(
        id="channel_lipschitz",
        name="Channel Lipschitz constants (UCLC)",
        summary="The weights let one channel answer far more strongly than the others of its "
        "layer.",
        source="R. Zheng et al., Data-free Backdoor Removal based on Channel Lipschitzness, "
        "ECCV 2022",
    )
    needs: ClassVar[Needs] = Needs.GRAPH
    copies: ClassVar[float] = 4
    wording: ClassVar[Wording] = Wording(
        one="channel {channel} of layer {layer!r} ({operator}) lies {suspect:.1f} robust "
        "deviations above the others of its layer; {reference:.1f} in the references"
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return a row for each convolution and dense layer, in graph order.

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
            statistic=max(row.z for row in rows),
            parameters={"layers": len(rows), "batch_normalisation": "folded"},
            by_channel=ByChannel(rows=tuple(rows)),
        )


def _row(layer: LinearLayer) -> ChannelRow | None:
    """Return a layer's most outlying channel; None where there are too few to stand out among."""
    if not all(np.isfinite(block).all() for block in layer.weights.blocks()):
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
    return ChannelRow(
        layer=layer.name,
        operator=layer.operator,
        channels=len(norms),
        channel=int(channels[top]),
        norm=float(norms[channels[top]]),
        median=median(norms[alive]),
        z=float(scores[top]),
    )
