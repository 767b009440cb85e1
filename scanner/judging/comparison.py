"""One suspect beside references: by class, by layer, by channel, by image, or by one number.

The kind of a measurement's profile decides; no detector is known here. How a detector's figures
are compared, and in which words, the detector declares (`scanner.results.Scale`, `Wording`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from scanner.judging import by_class, moves, observed
from scanner.judging.arithmetic import mean, paired_difference
from scanner.results import (
    ByChannel,
    ByClass,
    ByImage,
    ByLayer,
    CanonicalGraph,
    ClassDifference,
    ClassScores,
    Comparison,
    Contribution,
    Evidence,
    ImagesCompared,
    LayerDifference,
    LayerRow,
    Measurement,
    Observation,
    Rule,
    Scale,
    Standing,
    Wording,
)


class Declared(Protocol):
    """What judging asks of a detector: what it declares about itself."""

    @property
    def rule(self) -> Rule:
        """Its identity."""
        ...

    @property
    def contribution(self) -> Contribution:
        """What it contributes to the verdict."""
        ...

    @property
    def scale(self) -> Scale:
        """On what scale its figures by class are compared."""
        ...

    @property
    def wording(self) -> Wording:
        """What it says, as templates."""
        ...


def compare(
    detector: Declared, suspect: Measurement, references: Sequence[Measurement]
) -> Comparison:
    """Set the suspect's profile against those of the references: none, one or many.

    Without a reference, or without a comparable one, the statistic is None. A detector that is not
    calibrated is judged by what it observes: its statistic is the suspect's own.
    """
    if suspect.by_node is not None:
        return _by_node(detector, suspect, suspect.by_node, references)
    statistic, evidence, sentence = _compared(detector, suspect, references)
    return Comparison(
        rule=suspect.rule,
        statistic=statistic,
        alone=_alone(suspect, detector.scale),
        contribution=detector.contribution,
        sentence=sentence,
        evidence=evidence,
        observations=_moving(suspect, references),
    )


def _moving(suspect: Measurement, references: Sequence[Measurement]) -> tuple[Observation, ...]:
    """Return what is seen of stamps that turn one class alone."""
    own, *others = (m.by_class.moves if m.by_class else None for m in (suspect, *references))
    return moves.seen(own, others)


def _alone(suspect: Measurement, scale: Scale) -> float | None:
    """Return how far a model stands out by itself (`Comparison.alone`)."""
    if suspect.by_class is not None:
        return max(by_class.ahead(suspect.by_class, scale).values(), default=None)
    others = (suspect.by_layer, suspect.by_channel, suspect.by_image)
    return suspect.statistic if others == (None, None, None) else None


def statistic_of(
    detector: Declared, model: Measurement, references: Sequence[Measurement]
) -> tuple[float | None, ClassScores]:
    """Return a clean model's statistic and scores by class, as `compare` finds them.

    What a person would look at is not made: beside 24 clean models that is 2 % of a scan of the
    first layer (benchmarks/scan.py).
    """
    images = [r.by_image for r in references if r.by_image is not None]
    if model.by_image is not None and images:
        other = mean([mean(r.maxima) for r in images])
        return _ratio(mean(model.by_image.maxima), other), ()
    found = compare(detector, model, references)
    return found.statistic, found.scores


Compared = tuple[float | None, Evidence, str]


def _compared(
    detector: Declared, suspect: Measurement, references: Sequence[Measurement]
) -> Compared:
    if not detector.contribution.calibrated and suspect.by_class is None:
        return suspect.statistic, Evidence(figures=suspect.figures), ""
    if suspect.by_class is not None:
        return _by_class(detector, suspect, suspect.by_class, references)
    if suspect.by_layer is not None:
        layers = [r.by_layer for r in references if r.by_layer is not None]
        return _by_layer(detector.wording, suspect.by_layer, layers)
    if suspect.by_channel is not None:
        channels = [r.by_channel for r in references if r.by_channel is not None]
        return _by_channel(detector.wording, suspect.by_channel, channels)
    if suspect.by_image is not None:
        images = [r.by_image for r in references if r.by_image is not None]
        return _by_image(detector.wording, suspect.by_image, images)
    return _by_number(detector.wording, suspect, references)


def _by_node(
    detector: Declared,
    suspect: Measurement,
    graph: CanonicalGraph,
    references: Sequence[Measurement],
) -> Comparison:
    """Compare canonical graphs: what the suspect has that not every reference has is observed.

    The statistic is None where none can be compared.
    """
    graphs = [r.by_node for r in references if r.by_node is not None]
    found = observed.against(graph, graphs)
    seen, shown = observed.beside(found), observed.gravest(found)
    comparable = any(o.code != observed.CANNOT_COMPARE for o in seen)
    return Comparison(
        rule=suspect.rule,
        statistic=float(max(o.severity for o in seen)) if comparable else None,
        contribution=detector.contribution,
        sentence=max(seen, key=lambda o: o.severity).sentence if seen else "",
        evidence=Evidence(differences=None if shown is None else observed.drawn(shown)),
        observations=seen,
    )


def _by_class(
    detector: Declared,
    suspect: Measurement,
    profile: ByClass,
    references: Sequence[Measurement],
) -> Compared:
    """Return the largest difference over classes, less the median class's.

    What all classes share is a difference between two trainings. Without a comparable reference the
    statistic is None, and the class that leads the others of its own model is named.
    """
    others = [r.by_class for r in references if r.by_class is not None]
    same = [other for other in others if other.classes == profile.classes]
    rows = by_class.differences(profile, same, detector.scale)
    if rows:
        return _beside_classes(detector, suspect, profile, rows)
    statistic, evidence, sentence = _own_classes(detector, suspect, profile)
    missing = "no reference has as many classes" if others and not same else ""
    return statistic, evidence, missing or sentence


def _beside_classes(
    detector: Declared, suspect: Measurement, profile: ByClass, rows: Sequence[ClassDifference]
) -> Compared:
    scale, wording = detector.scale, detector.wording
    best = max(rows, key=lambda row: row.difference or 0.0)
    standing = Standing(
        suspect=best.suspect or 0.0,
        reference=best.reference,
        low=min(best.references),
        high=max(best.references),
        unit=scale.unit,
    )
    evidence = _of_class(best.class_id, suspect, profile, scale)
    evidence = dataclasses.replace(
        evidence, standing=standing, classes=tuple(rows), classes_compared=len(rows)
    )
    count = len(best.references)
    sentence = _said(
        wording.many if count > 1 and wording.many else wording.one,
        evidence.figures,
        target=best.class_id,
        suspect=best.suspect,
        reference=best.reference,
        low=standing.low,
        high=standing.high,
        count=count,
        difference=best.difference,
    )
    return max(row.above or 0.0 for row in rows), evidence, sentence


def _own_classes(detector: Declared, suspect: Measurement, profile: ByClass) -> Compared:
    scale, wording = detector.scale, detector.wording
    lead = by_class.leading(profile, scale)
    target = lead.class_id if lead else by_class.foremost(profile, scale)
    own = profile.row(target)
    evidence = _of_class(target, suspect, profile, scale)
    evidence = dataclasses.replace(evidence, classes=tuple(by_class.alone(profile, scale)))
    if own is None or own.figure is None:
        return None, evidence, ""
    standing = Standing(suspect=own.figure, unit=scale.unit)
    evidence = dataclasses.replace(evidence, standing=standing)
    named = {"target": target, "suspect": own.figure}
    if lead is None:
        return None, evidence, _said(wording.alone, evidence.figures, **named)
    named |= {"lead": lead.distance, "times": math.exp(lead.distance)}
    return None, evidence, _said(wording.leading, evidence.figures, **named)


def _of_class(target: int | None, suspect: Measurement, profile: ByClass, scale: Scale) -> Evidence:
    """Return what the suspect's own profile says of one class."""
    own = profile.row(target)
    return Evidence(
        target_class=target,
        lead=by_class.leading(profile, scale),
        trigger=next((t for t in profile.triggers if t.class_id == target), None),
        figures={**suspect.figures, **(own.figures if own else {})},
    )


def _by_layer(wording: Wording, own: ByLayer, references: Sequence[ByLayer]) -> Compared:
    """Return the largest log-ratio of mean peaks over layers, suspect over the references.

    Layers are matched by name where every layer of the suspect has its namesake, else by position.
    References are averaged geometrically.
    """
    matches = [match_layers(own.rows, other.rows) for other in references]
    rows = _ratios(own.rows, matches) if references else []
    if not rows:
        alone = [
            LayerDifference(
                layer=row.layer,
                operator=row.operator,
                channel=row.channel,
                channel_figure=row.channel_peak,
                channel_z=row.channel_z,
                suspect=row.peak_mean,
            )
            for row in own.rows
        ]
        top = max(alone, key=lambda row: row.channel_z, default=None)
        return None, Evidence(layer=top.layer if top else None, layers=tuple(alone)), ""
    best = max(rows, key=lambda row: row.difference or 0.0)
    matched = _how_matched(own.rows, references)
    sentence = _said(
        wording.one,
        {},
        layer=best.layer,
        operator=best.operator,
        channel=best.channel,
        suspect=best.suspect,
        reference=best.reference,
        difference=best.difference,
        times=math.exp(best.difference or 0.0),
        matched=matched,
    )
    return best.difference, _layers(best, rows, matched, len(references)), sentence


def _layers(
    best: LayerDifference, rows: Sequence[LayerDifference], matched: str | None, references: int
) -> Evidence:
    standing = Standing(
        suspect=best.suspect,
        reference=best.reference,
        low=min(best.references),
        high=max(best.references),
    )
    return Evidence(
        standing=standing,
        layer=best.layer,
        matched=matched,
        layers=tuple(rows),
        references_compared=references,
    )


def match_layers(own: Sequence[LayerRow], other: Sequence[LayerRow]) -> list[LayerRow | None]:
    """Return the other model's row for each of our own, None where there is none.

    Layers are matched by name where all names are there, else by position.
    """
    named = {row.layer: row for row in other}
    if all(row.layer in named for row in own):
        return [named[row.layer] for row in own]
    return [other[index] if index < len(other) else None for index in range(len(own))]


def _ratios(
    own: Sequence[LayerRow], matches: Sequence[Sequence[LayerRow | None]]
) -> list[LayerDifference]:
    """Return a row for each layer that answers to noise in the suspect and in every reference."""
    rows = []
    for index, row in enumerate(own):
        peaks = [other.peak_mean for match in matches if (other := match[index]) is not None]
        if len(peaks) == len(matches) and min(row.peak_mean, *peaks) > 0:
            reference = math.exp(sum(map(math.log, peaks)) / len(peaks))
            rows.append(
                LayerDifference(
                    layer=row.layer,
                    operator=row.operator,
                    channel=row.channel,
                    channel_figure=row.channel_peak,
                    channel_z=row.channel_z,
                    suspect=row.peak_mean,
                    reference=reference,
                    references=tuple(peaks),
                    difference=math.log(row.peak_mean / reference),
                )
            )
    return rows


def _how_matched(own: Sequence[LayerRow], references: Sequence[ByLayer]) -> str:
    names = {row.layer for row in own}
    if all(names <= {row.layer for row in other.rows} for other in references):
        return "by name"
    if all(len(other.rows) == len(own) for other in references):
        return "by position"
    counts = " or ".join(map(str, sorted({len(other.rows) for other in references})))
    return f"by position, though the architectures differ ({len(own)} activations against {counts})"


def _by_channel(wording: Wording, own: ByChannel, references: Sequence[ByChannel]) -> Compared:
    """Return by how much the most outlying channel of a layer stands out more than in references.

    It is the largest difference of robust z-scores over layers, suspect less the references' mean.
    Layers are matched by position, since exporters name the same weights differently.
    """
    sizes = [row.channels for row in own.rows]
    comparable = [r for r in references if [row.channels for row in r.rows] == sizes]
    rows = [
        LayerDifference(
            layer=row.layer,
            operator=row.operator,
            channel=row.channel,
            channel_figure=row.norm,
            channel_z=row.z,
            channel_median=row.median,
            suspect=row.z,
            references=(others := tuple(r.rows[i].z for r in comparable)),
            reference=mean(others) if others else None,
            difference=row.z - mean(others) if others else None,
        )
        for i, row in enumerate(own.rows)
    ]
    if not comparable:
        top = max(rows, key=lambda row: row.suspect)
        evidence = Evidence(
            standing=Standing(suspect=top.suspect), layer=top.layer, layers=tuple(rows)
        )
        return None, evidence, "no reference has layers of the same sizes" if references else ""
    best = max(rows, key=lambda row: row.difference or 0.0)
    sentence = _said(
        wording.one,
        {},
        layer=best.layer,
        operator=best.operator,
        channel=best.channel,
        suspect=best.suspect,
        reference=best.reference,
        difference=best.difference,
    )
    return best.difference, _layers(best, rows, None, len(comparable)), sentence


def _by_image(wording: Wording, profile: ByImage, references: Sequence[ByImage]) -> Compared:
    """Return Table 2.2 of Wu (2024) for the suspect and the references' average answers.

    The statistic is mean(S_A) of the suspect over that of the references (the paper's B/C).
    """
    own, own_mean = profile.maxima, mean(profile.maxima)
    if not references:
        images = ImagesCompared(suspect=own, suspect_max=max(own), suspect_mean=own_mean)
        return None, Evidence(standing=Standing(suspect=own_mean), images=images), ""
    means = [mean(r.maxima) for r in references]
    # Beside one reference, as in most scans, nothing is to be averaged: a population of 24 would
    # else take 4,800 means, a fiftieth of a scan of the first layer.
    other = references[0].maxima
    if len(references) > 1:
        other = tuple(map(mean, zip(*(r.maxima for r in references), strict=True)))
    other_mean = mean(other)
    pairs = list(zip(own, other, strict=True))
    wins, losses = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    images = ImagesCompared(
        suspect=own,
        suspect_max=max(own),
        suspect_mean=own_mean,
        reference=other,
        reference_max=max(other),
        reference_mean=other_mean,
        ratio_max=_ratio(max(own), max(other)),
        ratio_mean=_ratio(own_mean, other_mean),
        wins=wins,
        losses=losses,
        ties=len(own) - wins - losses,
        difference=paired_difference(own, other),
    )
    standing = Standing(
        suspect=images.suspect_mean,
        reference=images.reference_mean,
        low=min(means),
        high=max(means),
    )
    sentence = _said(wording.one, {}, wins=wins, images=len(own))
    evidence = Evidence(standing=standing, images=images, references_compared=len(references))
    return images.ratio_mean, evidence, sentence


def _ratio(suspect: float, reference: float) -> float | None:
    return suspect / reference if reference > 0 else None


def _by_number(
    wording: Wording, suspect: Measurement, references: Sequence[Measurement]
) -> Compared:
    """Compare one number, where there is no profile: the suspect's less the references' mean."""
    own, others = suspect.statistic, [r.statistic for r in references if r.statistic is not None]
    if own is None:
        return None, Evidence(figures=suspect.figures), ""
    known = all(figure is not None for figure in suspect.figures.values())
    sentence = _said(wording.alone, suspect.figures, suspect=own) if known else ""
    if not others:
        standing = Standing(suspect=own)
        return None, Evidence(standing=standing, figures=suspect.figures), sentence
    standing = Standing(suspect=own, reference=mean(others), low=min(others), high=max(others))
    return own - mean(others), Evidence(standing=standing, figures=suspect.figures), sentence


def _said(template: str, figures: Mapping[str, float | None], **named: Any) -> str:
    return template.format_map({**figures, **named})
