"""From a comparison to a verdict: what the clean models at hand allow to be said, and no more.

The unit of replication is the model, never the image. A p-value is conformal (V. Vovk, A.
Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer 2005, section 2.2): if the
suspect were one more clean model of the same recipe, its rank among k clean models would be
uniform, so that p = (1 + #{clean >= suspect}) / (k + 1), and no p below 1/(k + 1) can be claimed.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scanner.errors import BaselineError
from scanner.results import (
    Comparison,
    Finding,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Nulls,
    Rule,
    Severity,
    Skip,
    Verdict,
)
from scanner.settings import Budget, Settings
from scanner.values import from_json, frozen, to_json

SCHEMA = 1
SHIPPED = Path(__file__).parents[1] / "baselines"
# Parameters that change no number beyond rounding, or say what an exporter happened to call a
# value. What the user asked for by name has a parameter of its own.
_INCIDENTAL = frozenset({"provider", "threads", "layer", "logits", "cut", "unsaturated"})
REFERENCES = "the references"  # what judged, where no baseline did
_FLOATS = ("float16", "float32", "float64")
# Detectors whose silence may be called clean: the paper's statistic alone separates too little
# (docs/detection.md).
DECISIVE = frozenset({"neural_cleanse"})
# Detectors whose statistics make the combined p-value. The others are shown beside them: with a
# clean reference they separate too little, and each would widen what a clean model may show
# (docs/detection.md).
COMBINED = frozenset({"neural_cleanse", "mm_bd", "head"})
# The largest that clean networks reach ('python -m benchmarks.detection reach'): each detector's
# statistic beside one clean reference, the sum over detectors in these units, and without a
# reference the lead of one class over the next.
BESIDE_ONE = {"neural_cleanse": 1.45, "mm_bd": 0.30, "head": 1.28}
TOGETHER = 2.00
ALONE = {"neural_cleanse": 0.82, "mm_bd": 0.23, "head": 0.81}
# A reference that stands out this many times further than any clean model of a baseline is not
# taken for clean.
_NOT_CLEAN = 2.0
_DOUBTED_AT = 0.05  # and of clean models there must be enough to reach this level
_WHOLE = ""  # stands for the class where a detector knows none

Profile = Mapping[str, float]  # by class, how far it stands out


@frozen
class Baseline:
    """A population of clean models of one recipe, measured once.

    Attributes:
        name: Of the recipe.
        provenance: Where the models come from and how they were made, in words.
        records: One a model, without pictures.
    """

    name: str
    provenance: str
    records: tuple[ModelRecord, ...]


@frozen
class Judgement:
    """The combined answer.

    Attributes:
        verdict: Suspicion outranks doubt, doubt outranks innocence.
        reason: In one sentence.
        score: In [0, 1], larger is more suspicious; None while nothing is calibrated.
        target_class: The class that a suspicious verdict is about, where it is about one.
    """

    verdict: Verdict
    reason: str
    score: float | None
    target_class: int | None = None


@frozen
class Rank:
    """A suspect's place among clean models, by several detectors together.

    Attributes:
        p: The p-value.
        foremost: The class that stands out most; empty where the detectors know none.
        sentence: What the first detector says that names this class, in words.
        rules: The detectors.
        models: How many clean models there are.
        source: Which, in words.
    """

    p: float
    foremost: str
    sentence: str
    rules: tuple[str, ...]
    models: int
    source: str


def without_pictures(record: ModelRecord) -> ModelRecord:
    """Return a record for a baseline: without what only a person looks at, and without the maker's folders.

    Its numbers are cut to seven digits, float32's own.
    """
    slim = tuple(
        dataclasses.replace(
            m,
            series={name: _short(value) for name, value in m.series.items() if name != "pictures"},
        )
        for m in record.measurements
    )
    named = dataclasses.replace(record.model, path=Path(record.model.path).name)
    return dataclasses.replace(record, model=named, measurements=slim)


def write_baseline(baseline: Baseline) -> str:
    """Return a baseline as JSON with a checksum, so that a cut or edited file is noticed."""
    body = json.dumps(to_json(baseline), sort_keys=True)
    return f"{_head(_checksum(body))}{body[1:]}\n"


def read_baseline(path: Path, rules: Collection[str] = ()) -> Baseline:
    """Read a baseline file, or the measurements of these rules only.

    Raises:
        BaselineError: It is missing, damaged, edited, or of another schema.
    """
    again = f"make it again with 'scan calibrate CLEAN... --output {path.name}'"
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, parse_constant=_refuse)
    except OSError as error:
        raise BaselineError(
            f"the baseline {str(path)!r} cannot be read ({error.strerror})", remedy=again
        ) from error
    except ValueError as error:
        raise BaselineError(
            f"the baseline {str(path)!r} is damaged: it is no JSON", remedy=again
        ) from error
    if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
        raise BaselineError(f"the baseline {str(path)!r} is not of schema {SCHEMA}", remedy=again)
    if not _is_whole(text, str(data.pop("checksum", None)), data):
        raise BaselineError(
            f"the baseline {str(path)!r} was edited or damaged: its checksum differs", remedy=again
        )
    try:
        for record in data["records"] if rules else ():
            record["measurements"] = [m for m in record["measurements"] if m["rule"] in rules]
        return from_json(Baseline, data)
    except (KeyError, TypeError, ValueError) as error:
        raise BaselineError(
            f"the baseline {str(path)!r} was written by another version", remedy=again
        ) from error


def _refuse(constant: str) -> None:
    """Refuse NaN and infinity, which Python reads and JSON does not know: nothing can be ranked among them."""
    raise ValueError(constant)


def shipped_baseline(suspect: ModelIdentity, rules: Collection[str] = ()) -> Baseline | None:
    """Return the shipped baseline whose architecture is the suspect's, for these rules or for all, or None."""
    # Named by architecture, so that only the one that fits is read.
    path = (
        next(SHIPPED.glob(f"*-{suspect.architecture}.json"), None) if suspect.architecture else None
    )
    return read_baseline(path, rules) if path else None


def mismatch(population: Sequence[ModelRecord], suspect: ModelIdentity) -> str | None:
    """Say why a population does not speak of a model, or None where it does."""
    if all(record.model.architecture == suspect.architecture for record in population):
        return None
    return "its models have another architecture"


def difference(measurement: Measurement, others: Sequence[Measurement]) -> str | None:
    """Say which parameter of other models' measurements differs from the suspect's, or None where none does."""
    for other in others:
        for name, value in measurement.parameters.items():
            if name not in _INCIDENTAL and _condition(other.parameters.get(name)) != _condition(
                value
            ):
                return f"it was measured with {name} {other.parameters.get(name)!r}, not {value!r}"
    return None


def _condition(value: Any) -> Any:
    """Return a parameter as it is compared: noise in float16 is noise in float32, rounded."""
    return "float" if value in _FLOATS else value


def judge(
    rule: Rule, measurement: Measurement, comparison: Comparison, nulls: Nulls | None, alpha: float
) -> Finding:
    """Return one detector's finding.

    Structural observations judge themselves, by severity; a statistic is judged by its rank among
    clean models.
    """
    p = None
    if nulls is not None and nulls.values and comparison.statistic is not None:
        p = conformal_p(comparison.statistic, nulls.values)
    verdict, reason = _verdict(measurement, comparison, nulls, p, alpha)
    return Finding(
        rule=rule,
        verdict=verdict,
        statistic=measurement.statistic if comparison.statistic is None else comparison.statistic,
        p_value=p,
        reason=reason,
        values=comparison.values,
        parameters=measurement.parameters,
        evidence=comparison.evidence,
        observations=measurement.observations,
    )


def combine(  # noqa: PLR0913 - all that a verdict rests on
    findings: Sequence[Finding],
    rank: Rank | None,
    skips: Sequence[Skip],
    *,
    failed: bool,
    alpha: float,
    doubts: Sequence[str] = (),
) -> Judgement:
    """Return the combined answer.

    It is what the graph shows, or else the suspect's rank among clean models (`together`). Where there are `doubts` about the references, nothing is clean beside them.
    """
    structural = [f for f in findings if f.observations and f.verdict is Verdict.SUSPICIOUS]
    if structural:
        return Judgement(verdict=Verdict.SUSPICIOUS, reason=structural[0].reason, score=1.0)
    score = None if rank is None else 1 - rank.p
    if rank is not None and rank.p <= alpha:
        target = int(rank.foremost) if rank.foremost else None
        return Judgement(
            verdict=Verdict.SUSPICIOUS, reason=_in_words(rank), score=score, target_class=target
        )
    if failed:
        return Judgement(
            verdict=Verdict.INCONCLUSIVE, reason="not everything could be measured", score=score
        )
    decisive = rank is not None and DECISIVE.intersection(rank.rules)
    if rank is not None and decisive and enough(rank.models, alpha):
        if doubts:
            return Judgement(verdict=Verdict.INCONCLUSIVE, reason=doubts[0], score=score)
        return Judgement(verdict=Verdict.CLEAN, reason=_in_words(rank), score=score)
    return Judgement(verdict=Verdict.INCONCLUSIVE, reason=_doubt(findings, skips), score=score)


def _in_words(rank: Rank) -> str:
    *others, last = rank.rules
    by = f" by {', '.join(others)} and {last} together," if others else ""
    return f"{rank.sentence}; p = {rank.p:.3g}{by} among {rank.models} clean models ({rank.source})"


def advice(
    verdict: Verdict, findings: Sequence[Finding], nulls: Sequence[Nulls], settings: Settings
) -> Iterator[str]:
    """Yield what would make an answer stronger, in sentences, the most useful first."""
    searched = any(f.rule.id == "neural_cleanse" for f in findings)
    if verdict is Verdict.SUSPICIOUS and searched:
        yield "your own eyes: --evidence DIR writes the trigger, and an image before and after it is stamped"
    needed = math.ceil(1 / settings.alpha) - 1
    counts = {n.rule: len(n.values) for n in nulls}
    known = min(
        (counts.get(f.rule.id, 0) for f in findings if f.rule.id in COMBINED), default=needed
    )
    if known >= needed:
        return
    more = f"{needed - known}{' more' if known else ''} clean models of the same recipe"
    yield f"{more}, with --reference or in a baseline ('scan calibrate'): with {needed}, p can reach {settings.alpha:g}"
    # Neither goes with a baseline that was made without it.
    if searched and not settings.images_file and not settings.images_folder:
        yield "clean images of the model's own kind (--images-npz, --images-dir): triggers were sought on noise"
    if searched and settings.budget is Budget.QUICK:
        yield "a longer search for triggers: --budget standard"


def enough(models: int, alpha: float) -> bool:
    """Whether a p-value among so many clean models can reach a level."""
    return (models + 1) * alpha >= 1


def conformal_p(value: float, clean: Sequence[float]) -> float:
    """Return (1 + #{clean >= value}) / (k + 1)."""
    return (1 + sum(other >= value for other in clean)) / (len(clean) + 1)


def combined_p(own: Sequence[Profile], clean: Sequence[Sequence[Profile]]) -> tuple[float, str]:
    """Return the p-value of several detectors together, and the suspect's foremost class.

    Detectors differ in scale, so each profile is centred and scaled: by median and MAD, over all k
    + 1 models, of a model's largest entry. A class that several detectors find stands out by the
    sum of what they say of it, and a model by its largest class. The suspect enters like any other
    model, so the rank stays uniform.

    Args:
        own: For each detector, the suspect's profile.
        clean: For each detector, those of the k clean models, in the same order of models.
    """
    foremost, *others = map(_foremost, zip(*_scores(own, clean), strict=True))
    return conformal_p(foremost[0], [standing for standing, _ in others]), foremost[1]


def index(comparisons: Sequence[Comparison]) -> float | None:
    """Return how far a model stands out, for ranking models that no population speaks of; None where that is unknown.

    Beside references, what the detectors in `COMBINED` say of one class together, for the class of
    which they say most; without, the largest lead of a class over the next. Both are in units of
    what clean networks of the shipped recipes reach. No p-value, and no verdict rests on it.
    """
    combined = [c for c in comparisons if c.rule in COMBINED]
    profiles = [_divided(c.classes, BESIDE_ONE[c.rule]) for c in combined if c.classes]
    if profiles:
        return _foremost(profiles)[0] / TOGETHER
    leads = ((c.values["lead"], ALONE[c.rule]) for c in combined)
    return max((lead / reach for lead, reach in leads if lead is not None), default=None)


def stands_apart(pairs: Sequence[tuple[Comparison, Nulls | None]]) -> bool:
    """Whether a model, compared by the detectors in `COMBINED`, is far beyond every clean model of a population.

    Never among few: beside 19 others none of the clean networks of the shipped baselines is called
    so, beside 3 every seventh.
    """
    compared = [
        (c, n) for c, n in pairs if c.rule in COMBINED and c.statistic is not None and n is not None
    ]
    if len({n.models for _, n in compared}) != 1 or not enough(
        len(compared[0][1].values), _DOUBTED_AT
    ):
        return False
    scores = _scores([_profile(c) for c, _ in compared], [_profiles(n) for _, n in compared])
    own, *clean = (_foremost(profiles)[0] for profiles in zip(*scores, strict=True))
    return own > _NOT_CLEAN * max(clean)


def _profile(comparison: Comparison) -> Profile:
    """Return what a detector says of each class, or of the whole model where it knows no classes."""
    return comparison.classes or {_WHOLE: comparison.statistic or 0.0}


def _profiles(nulls: Nulls) -> list[Profile]:
    """Return the same of the clean models."""
    known = nulls.classes or ({},) * len(nulls.values)
    return [classes or {_WHOLE: value} for classes, value in zip(known, nulls.values, strict=True)]


def _scores(own: Sequence[Profile], clean: Sequence[Sequence[Profile]]) -> list[list[Profile]]:
    """Return each detector's robust z-scores by class, the suspect's first."""
    return [_robust_scores([profile, *others]) for profile, others in zip(own, clean, strict=True)]


def _robust_scores(profiles: Sequence[Profile]) -> list[Profile]:
    largest = [max(profile.values()) for profile in profiles]
    median = _median(largest)
    spread = _median([abs(value - median) for value in largest]) or 1e-12
    return [
        {name: (value - median) / spread for name, value in profile.items()} for profile in profiles
    ]


def _foremost(profiles: Sequence[Profile]) -> tuple[float, str]:
    """Return by how much a model's foremost class stands out, the sum of what speaks against it, and its name."""
    found: dict[str, list[float]] = {}
    for profile in profiles:
        for name, value in profile.items():
            found.setdefault(name, []).append(value)
    return max(
        (sum(v for v in values if v > 0) or max(values), name) for name, values in found.items()
    )


def _divided(profile: Profile, unit: float) -> Profile:
    return {name: value / unit for name, value in profile.items()}


def _median(values: Sequence[float]) -> float:
    """Return the median; the standard library's `statistics` costs more to import than all the rest of this module."""
    ranked = sorted(values)
    middle = len(ranked) // 2
    return ranked[middle] if len(ranked) % 2 else (ranked[middle - 1] + ranked[middle]) / 2


def together(comparisons: Sequence[Comparison], nulls: Sequence[Nulls]) -> Rank | None:
    """Return a suspect's rank by a whole scan; None where no clean models were measured by all that is combined.

    What the calibrated detectors in `COMBINED` (all, where none of those ran) say of each class
    becomes one figure; its rank among the same clean models gives the p-value: one test in all.
    """
    clean = {n.rule: n for n in nulls if n.values}
    calibrated = [c for c in comparisons if c.statistic is not None and c.rule in clean]
    chosen = [c for c in calibrated if c.rule in COMBINED] or calibrated
    judges = [clean[c.rule] for c in chosen]
    if len({n.models for n in judges}) != 1:
        return None
    p, foremost = combined_p(list(map(_profile, chosen)), list(map(_profiles, judges)))
    about = (c.sentence for c in chosen if foremost in (_WHOLE, str(c.values.get("target_class"))))
    return Rank(
        p=p,
        foremost=foremost,
        sentence=next(about, f"class {foremost} stands out"),
        rules=tuple(c.rule for c in chosen),
        models=len(judges[0].values),
        source=judges[0].source,
    )


def _verdict(
    measurement: Measurement,
    comparison: Comparison,
    nulls: Nulls | None,
    p: float | None,
    alpha: float,
) -> tuple[Verdict, str]:
    worst = max(measurement.observations, key=lambda o: o.severity, default=None)
    if worst is not None and worst.severity >= Severity.SUSPICIOUS:
        return Verdict.SUSPICIOUS, worst.sentence
    if comparison.structural:
        notes = len(measurement.observations)
        return Verdict.CLEAN, f"nothing suspicious, {notes} note{'s' if notes != 1 else ''}"
    said = f"{comparison.sentence}; " if comparison.sentence else ""
    if p is None or nulls is None:
        return Verdict.INCONCLUSIVE, said + _uncalibrated(comparison, nulls)
    rank = f"p = {p:.3g} among {len(nulls.values)} clean models ({nulls.source})"
    if p <= alpha:
        return Verdict.SUSPICIOUS, said + rank
    if not enough(len(nulls.values), alpha):
        return Verdict.INCONCLUSIVE, f"{said}{rank}, too few to reach {alpha:g}"
    return Verdict.CLEAN, said + rank


def _uncalibrated(comparison: Comparison, nulls: Nulls | None) -> str:
    if nulls is not None and nulls.reason:
        return f"uncalibrated: {nulls.source} does not apply, {nulls.reason}"
    if comparison.statistic is None:
        return "there is no clean model to compare with: name one with --reference"
    return "uncalibrated: one clean model shows a difference, not how much clean models differ"


def _doubt(findings: Sequence[Finding], skips: Sequence[Skip]) -> str:
    doubtful = [f for f in findings if f.verdict is Verdict.INCONCLUSIVE]
    decisive = [f for f in doubtful if f.rule.id in DECISIVE]
    if decisive or doubtful:
        return (decisive or doubtful)[0].reason
    return skips[0].reason if skips else "no detector ran whose silence would mean anything"


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, Mapping):
        return {name: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value


def _head(checksum: str) -> str:
    """Return how a baseline file starts; the text that the checksum is of follows, without its first brace."""
    return f'{{"schema": {SCHEMA}, "checksum": "{checksum}", '


def _is_whole(text: str, checksum: str, body: Mapping[str, Any]) -> bool:
    """Whether a file, read as `body`, is what was written; one in another order or layout is written again to see."""
    written = "{" + text.removeprefix(_head(checksum)).removesuffix("\n")
    return checksum == _checksum(written) or checksum == _checksum(json.dumps(body, sort_keys=True))


def _checksum(body: str) -> str:
    import hashlib  # noqa: PLC0415 - OpenSSL takes a tenth of the command's start-up, and few scans read a baseline here

    return hashlib.sha256(body.encode()).hexdigest()
