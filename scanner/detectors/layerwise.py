"""Layer-wise overactivation: the seed paper's question, asked of every activation at once.

Source: X. Wu, "Overactivation - Verifying and testing backdoors in deep neural networks" (2024),
Table 2.2, asks it of the first ReLU. Asking it of each layer, and of each channel within its layer,
is ours.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLayerError
from scanner.graph.core import extract, flatten
from scanner.graph.core.draft import Proto
from scanner.graph.layers import activations, reductions
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.noise_runs import conditions, over_noise
from scanner.instruments.statistics import quantile, robust_z
from scanner.modelfile.model import Model
from scanner.results import ByLayer, LayerRow, Measurement, Rule, Wording
from scanner.settings import Settings

# Of a layer's channels. What is kept of a layer must not grow with its width, and the channels of
# two trainings do not correspond one to one, but their order statistics do.
_QUANTILES = np.linspace(0, 1, 17)
# Of a layer's strongest channel: where most channels are silent, their spread is rounding.
_SPREAD = 0.01


class Layerwise(Detector):
    """S_A of every activation: its largest output over channels and positions for image x_i."""

    rule: ClassVar[Rule] = Rule(
        id="layerwise",
        name="Layer-wise overactivation",
        summary="Some activation answers more strongly to noise than a clean model's.",
        source="X. Wu, Overactivation, 2024, Table 2.2, applied to every activation",
    )
    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    copies: ClassVar[float] = 6
    wording: ClassVar[Wording] = Wording(
        one="layer {layer!r} ({operator}) answers {times:.2f} times as strongly to noise as the "
        "references', most of all its channel {channel}; layers matched {matched}"
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return a row for each activation, in graph order.

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
                remedy="name an inner value with the setting `layer`, which the detector "
                "'overactivation' measures",
            )
        session, names = _cut(model, flat, settings, found)
        again = runtime.later(
            session, lambda: _cut(model, flatten.flatten(model.proto), settings, found)[0]
        )
        outputs = over_noise(session, shape, subject)
        pairs = zip(found, names, strict=True)
        maxima = {a.value: pair.maximum for a, pair in pairs if not a.quantisation}
        subject.witnesses.append(
            original.of_session(
                "layer-wise overactivation's cut", again, maxima, session.provider, peaks=True
            )
        )
        made = (output.name for output in session.native.get_outputs())
        by_name = dict(zip(made, outputs, strict=True))
        rows = [
            _row(activation, by_name[pair.maximum], by_name[pair.mean])
            for activation, pair in zip(found, names, strict=True)
        ]
        return Measurement(
            rule=self.rule.id,
            statistic=max(row.channel_z for row in rows),
            parameters={**conditions(session, shape, subject), "layers": len(rows)},
            by_layer=ByLayer(rows=tuple(rows)),
        )


def _cut(
    model: Model, flat: Proto, settings: Settings, found: Sequence[activations.Activation]
) -> tuple[runtime.Session, tuple[reductions.Reduced, ...]]:
    """Load what computes the statistics of activations, and return their names too."""
    cut = extract.upstream(flat, [a.value for a in found])
    reduced, names = reductions.per_channel_statistics(cut, found)
    data = model.serialise(reduced)
    return runtime.open_session(data, settings.device, settings.threads), names


def _row(
    activation: activations.Activation, maxima: npt.NDArray[Any], means: npt.NDArray[Any]
) -> LayerRow:
    """Return what is kept of a layer, given statistics by image and channel, (n, channels, ...)."""
    by_channel = maxima.reshape(len(maxima), -1).astype(np.float64)
    peaks, profile = by_channel.max(axis=1), by_channel.mean(axis=0)
    scores = robust_z(profile, least=_SPREAD * float(np.abs(profile).max()))
    top = int(scores.argmax())
    return LayerRow(
        layer=activation.value,
        operator=activation.operator,
        channels=len(profile),
        peak_mean=float(peaks.mean()),
        peak_max=float(peaks.max()),
        mean=float(means.mean(dtype=np.float64)),
        quantiles=tuple(quantile(profile, share) for share in _QUANTILES),
        channel=top,
        channel_peak=float(profile[top]),
        channel_z=float(scores[top]),
    )
