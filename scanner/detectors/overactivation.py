"""Overactivation: how strongly the first activation answers to noise.

Source: X. Wu, "Overactivation - Verifying and testing backdoors in deep neural networks" (2024),
Table 2.2.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scanner.graph.layers import first_layer
from scanner.instruments import original, probes, runtime
from scanner.instruments.detector import Needs, Subject
from scanner.instruments.noise_runs import conditions, over_noise
from scanner.instruments.statistics import paired_difference
from scanner.results import Comparison, Measurement, Rule


class Overactivation:
    """S_A = {a_i}, a_i the largest output of the first ReLU over channels and positions for noise image x_i."""

    rule: ClassVar[Rule] = Rule(
        id="overactivation",
        name="Overactivation",
        summary="The first activation answers more strongly to noise than a clean model's.",
        reference="X. Wu, Overactivation - Verifying and testing backdoors in deep neural "
        "networks, 2024, Table 2.2",
    )
    needs: ClassVar[Needs] = Needs.ACTIVATIONS

    def measure(self, subject: Subject) -> Measurement:
        """Return mean(S_A) as the statistic and S_A as the series `maxima`, in image order.

        Raises:
            UnsupportedModelError: No activation, several inputs, or the activation is not a number.
            ValueNotFoundError: No layer of the name that was asked for.
        """
        settings, model = subject.settings, subject.model
        shape = probes.image_shape(model, settings)
        found = first_layer.cut(model, settings.layer)
        session = runtime.open_session(found.data, settings.device, settings.threads)
        maxima = _maxima(session, shape, subject)
        subject.witnesses.append(
            original.of_session(
                "overactivation's cut", session, {found.value: first_layer.MAXIMUM}, peaks=True
            )
        )
        return Measurement(
            rule=self.rule.id,
            statistic=float(maxima.mean()),
            parameters={
                "layer": found.value,
                "asked_layer": settings.layer,
                "operator": found.operator,
                **conditions(session, shape, subject),
            },
            series={"maxima": maxima.tolist()},
        )

    def compare(self, suspect: Measurement, references: Sequence[Measurement]) -> Comparison:
        """Return Table 2.2 for the suspect and the references' average answer to each image.

        The statistic is mean(S_A) of the suspect over that of the references (the paper's B/C).
        """
        own = _series(suspect)
        if not references:
            values = {"suspect_max": float(own.max()), "suspect_mean": float(own.mean())}
            return Comparison(rule=self.rule.id, statistic=None, values=values)
        others = np.array([_series(r) for r in references])
        other, means = others.mean(axis=0), others.mean(axis=1)
        interval = paired_difference(own, other)
        ratio_mean = _ratio(own.mean(), other.mean())
        wins, losses = int((own > other).sum()), int((own < other).sum())
        return Comparison(
            rule=self.rule.id,
            statistic=ratio_mean,
            values={
                "suspect_max": float(own.max()),
                "reference_max": float(other.max()),
                "ratio_max": _ratio(own.max(), other.max()),
                "suspect_mean": float(own.mean()),
                "reference_mean": float(other.mean()),
                "reference_low": float(means.min()),
                "reference_high": float(means.max()),
                "ratio_mean": ratio_mean,
                "wins": wins,
                "losses": losses,
                "ties": len(own) - wins - losses,
                "difference_mean": interval.mean,
                "difference_low": interval.low,
                "difference_high": interval.high,
                "difference_confidence": interval.confidence,
            },
            evidence={"suspect": own.tolist(), "reference": other.tolist()},
            sentence=f"the suspect answers more strongly to {wins} of {len(own)} noise images",
        )


def _series(measurement: Measurement) -> npt.NDArray[np.float64]:
    return np.asarray(measurement.series["maxima"], dtype=np.float64)


def _ratio(suspect: float, reference: float) -> float | None:
    return float(suspect / reference) if reference > 0 else None


def _maxima(
    session: runtime.Session, shape: tuple[int, ...], subject: Subject
) -> npt.NDArray[np.float64]:
    """Return S_A, shape (images,)."""
    peaks = over_noise(session, shape, subject)[0]
    return np.asarray(peaks.reshape(len(peaks), -1).max(axis=1), dtype=np.float64)
