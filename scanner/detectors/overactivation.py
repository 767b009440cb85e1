"""Overactivation: how strongly the first activation answers to noise.

Source: X. Wu, "Overactivation - Verifying and testing backdoors in deep neural networks" (2024),
Table 2.2.
"""

import functools
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from scanner.graph.layers import first_layer
from scanner.instruments import original, probes, runtime
from scanner.instruments.blocks import figure, histogram
from scanner.instruments.detector import Detector, Needs, Subject
from scanner.instruments.noise_runs import conditions, over_noise
from scanner.results import (
    Block,
    ByImage,
    Cell,
    Comparison,
    Description,
    ImagesCompared,
    Measurement,
    PairedDifference,
    Rule,
    Table,
    Wording,
)


class Overactivation(Detector):
    """S_A = {a_i}: the first ReLU's largest output over channels and positions for image x_i."""

    rule: ClassVar[Rule] = Rule(
        id="overactivation",
        name="Overactivation",
        summary="The first activation answers more strongly to noise than a clean model's.",
        source="X. Wu, Overactivation - Verifying and testing backdoors in deep neural "
        "networks, 2024, Table 2.2",
    )
    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    copies: ClassVar[float] = 1
    wording: ClassVar[Wording] = Wording(
        one="the suspect answers more strongly to {wins} of {images} noise images"
    )

    def measure(self, subject: Subject) -> Measurement:
        """Return mean(S_A) as the statistic and S_A by image.

        Raises:
            UnsupportedModelError: No activation, several inputs, or the activation is not a number.
            ValueNotFoundError: No layer of the name that was asked for.
        """
        settings, model = subject.settings, subject.model
        shape = probes.image_shape(model, settings)
        found = first_layer.cut(model, settings.layer)
        load = functools.partial(
            runtime.open_session, found.data, settings.device, settings.threads
        )
        session = load()
        maxima = _maxima(session, shape, subject)
        subject.witnesses.append(
            original.of_session(
                "overactivation's cut",
                runtime.later(session, load),
                {found.value: first_layer.MAXIMUM},
                session.provider,
                peaks=True,
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
            by_image=ByImage(maxima=tuple(maxima.tolist())),
        )

    def describe(self, measurement: Measurement, comparison: Comparison) -> Description:
        """Return Table 2.2, the paired difference that it lacks, and the two sets drawn."""
        how, images = measurement.parameters, comparison.evidence.images
        if images is None:
            return Description()
        noise = f"{how['images']} {how['noise']} noise images in {how['input_range']}"
        blocks = [
            Block(line=f"layer {how['layer']} ({how['operator']})", strong=str(how["layer"])),
            Block(line=f"{noise}, seed {how['seed']}"),
            Block(table=_table_2_2(images)),
        ]
        wins = None if images.wins is None else f"{images.wins}:{images.losses}"
        if images.difference is not None:
            blocks += _difference(images, images.difference, str(wins))
        cells = (
            Cell(heading="B/C mean", text=figure(images.ratio_mean)),
            Cell(heading="wins:losses", text=wins or "-"),
        )
        return Description(blocks=tuple(blocks), cells=cells)


def _table_2_2(images: ImagesCompared) -> Table:
    rows = {
        "max(S_A)": (images.suspect_max, images.reference_max, images.ratio_max),
        "mean(S_A)": (images.suspect_mean, images.reference_mean, images.ratio_mean),
    }
    return Table(
        columns=("", "suspect", "reference", "B/C"),
        rows=tuple((name, *map(figure, values)) for name, values in rows.items()),
        left=1,
    )


def _difference(images: ImagesCompared, found: PairedDifference, wins: str) -> list[Block]:
    ties = f", {images.ties} ties" if images.ties else ""
    interval = f"{found.confidence:.0%} interval over images: {found.low:+.4f} to {found.high:+.4f}"
    return [
        Block(line=f"suspect > reference  {wins}{ties}", strong=wins),
        Block(line=f"paired difference    {found.mean:+.4f}  ({interval})"),
        Block(histogram=histogram("a_i", suspect=images.suspect, reference=images.reference)),
    ]


def _maxima(
    session: runtime.Session, shape: tuple[int, ...], subject: Subject
) -> npt.NDArray[np.float64]:
    """Return S_A, shape (images,)."""
    peaks = over_noise(session, shape, subject)[0]
    return np.asarray(peaks.reshape(len(peaks), -1).max(axis=1), dtype=np.float64)
