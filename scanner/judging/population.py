"""Clean models that judge: baseline files, shipped baselines, and who is compared with whom."""

import dataclasses
import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from scanner import jsonfile
from scanner.errors import BaselineError, UsageError
from scanner.judging import observed
from scanner.judging.comparison import Declared, compare, statistic_of
from scanner.judging.courses import left_out, shape
from scanner.judging.ranks import enough, stands_apart
from scanner.results import (
    Array,
    CanonicalGraph,
    ClassScores,
    Comparison,
    Measurement,
    ModelIdentity,
    ModelRecord,
    Population,
    Severity,
    WeightRows,
)
from scanner.values import Most, UnfitError, from_json, frozen, to_json

SCHEMA = 2
SHIPPED = Path(__file__).parents[1] / "baselines"
REFERENCES = "the references"  # what judged, where no baseline did
MEASURED_WITH = "it was measured with"  # why a baseline does not apply
# Parameters that change no number beyond rounding, or say what an exporter happened to call a
# value. What the user asked for by name has a parameter of its own.
_INCIDENTAL = frozenset({"provider", "threads", "loop", "layer", "logits", "cut", "unsaturated"})
_FLOATS = ("float16", "float32", "float64")
_FEWEST = 2  # two clean models show how much clean models differ, one alone never judges


@frozen
class Baseline:
    """A population of clean models of one recipe, measured once.

    Attributes:
        name: Of the recipe.
        provenance: Where the models come from and how they were made, in words.
        records: One per model, without pictures.
        graphs: The canonical graphs of these models, each once, without weights: what has another
            is not judged by them.
        on_noise: What the classes of clean models of the recipe mean, on average
            (`scanner.instruments.kinship.shared`), to tell what is of other data. None where that
            is not known.
    """

    name: str
    provenance: str
    records: tuple[ModelRecord, ...]
    graphs: Annotated[tuple[CanonicalGraph, ...], Most(16)] = ()
    on_noise: Array | None = None

    def __repr__(self) -> str:
        """Show which it is; of the models, how many."""
        return f"<Baseline {self.name!r}: {len(self.records)} models>"


@frozen
class CleanModels:
    """Clean models to compare a suspect with.

    Attributes:
        references: Records of the models that the user called clean.
        population: Records of a baseline's clean models, of the suspect's recipe.
        source: Which models the population is, in words.
        graphs: The canonical graphs of the population.
        repeated: Whether the references repeat what a contest of the suspect's chose, so that they
            cannot judge it.
        other_data: How a baseline of the suspect's weight shapes is of other data, in words; empty
            if it is not.
    """

    references: tuple[ModelRecord, ...]
    population: tuple[ModelRecord, ...]
    source: str
    graphs: tuple[CanonicalGraph, ...] = ()
    repeated: bool = False
    other_data: str = ""

    def compare(  # noqa: PLR0911 - one for each choice of who judges
        self, detector: Declared, suspect: ModelRecord
    ) -> tuple[Comparison, Population | None] | None:
        """Return the suspect's comparison, and those of clean models in its place.

        With references and a population, each clean model of the population stands in the suspect's
        place before the same references. With only one of the two, each clean model is compared
        with all the others and the suspect, as the suspect is with all of them. In both cases a
        clean suspect is one of k + 1 exchangeable models. Where contests dropped classes,
        references may have been searched for the suspect's favourites or for none of a clean
        model's, and the population judges without them. None where the suspect was not measured.
        """
        own = suspect.measurement(detector.rule.id)
        if own is None:
            return None
        references = _with(self.references, own.rule)
        if own.by_node is not None and not references:
            return self._beside_graphs(detector, own)
        found = compare(detector, own, _measured(references, own.rule))
        if not detector.contribution.calibrated:
            return found, None
        population, reason = self._fitting(own, suspect)
        if self.population and not population:
            return found, _nobody(own.rule, self.source, reason) if reason else None
        measured = _measured(population, own.rule)
        if population and references and not any(map(_chose, (own, *measured))):
            same = _measured(references, own.rule)
            clean = [statistic_of(detector, m, same) for m in measured]
            return found, _population(own.rule, self.source, population, clean)
        if self.repeated:
            reason = "so few only repeat the suspect's search"
            return found, _nobody(own.rule, "a rank among the references", reason)
        judges, source = (population, self.source) if population else (references, REFERENCES)
        return _crosswise(detector, own, judges, source)

    def _beside_graphs(
        self, detector: Declared, own: Measurement
    ) -> tuple[Comparison, None] | None:
        """Return what the suspect has that the population's network has not, where that is known.

        A baseline is found by the sizes of weights. Another network may have these too, so that
        what differs is no more than a warning.
        """
        if not self.graphs:
            return None
        found = compare(detector, own, [dataclasses.replace(own, by_node=g) for g in self.graphs])
        return observed.softened(found, self.source), None

    def settled(
        self, detectors: Sequence[Declared], suspect: ModelRecord, alpha: float
    ) -> "CleanModels":
        """Return clean models of which the same judge every detector of the combined verdict.

        A population that was measured otherwise than the suspect may fit some detectors and not
        others. The references then judge alone if they are enough for the level, or if it fits
        none; and not at all where they repeat what the suspect's contest chose.
        """
        combined = [d for d in detectors if d.contribution.combined] or detectors
        measured = [own for d in combined if (own := suspect.measurement(d.rule.id)) is not None]
        fits = [bool(self._fitting(own, suspect)[0]) for own in measured]
        few = not enough(len(self.references), alpha)
        if len(self.references) < _FEWEST or all(fits) or (any(fits) and few):
            return self
        repeated = any(
            _repeats(m, own) for own in measured for m in _measured(self.references, own.rule)
        )
        return dataclasses.replace(self, population=(), graphs=(), repeated=repeated)

    def warnings(self, detectors: Sequence[Declared], suspect: ModelIdentity) -> Iterator[str]:
        """Yield what is wrong with the references.

        That is another architecture than the suspect's, or a reference that is itself unlike the
        clean models of the population. And how a baseline is of other data than it.
        """
        if self.other_data:
            yield self.other_data
        apart = [reference.model.path for reference in self._apart(detectors)]
        for reference in self.references:
            name = reference.model.path
            if reference.model.architecture != suspect.architecture:
                yield (
                    f"the reference {name!r} has another architecture, and what differs may be no "
                    "more than that"
                )
            if name in apart:
                yield (
                    f"the reference {name!r} is itself far from the clean models of the "
                    f"{self.source}: make sure that it is clean, since a backdoor in both models "
                    "hides from the comparison"
                )

    def other_graph(self, suspect: ModelRecord) -> Iterator[str]:
        """Yield why the population may not speak of the suspect's graph, in a sentence."""
        own = next((m.by_node for m in suspect.measurements if m.by_node is not None), None)
        if not self.population or not self.source:
            return
        if own is None:
            yield (
                f"whether the graph is that of the {self.source} was not looked at: leave the "
                "setting `detectors` at its default"
            )
        elif not self.graphs:
            yield (
                f"the {self.source} does not say which graph its models have, so that added nodes "
                "would go unseen: measure its clean models again with the function `calibrate`"
            )
        else:
            yield from observed.foreign(own, self.graphs, self.source)

    def doubts(self, detectors: Sequence[Declared]) -> Iterator[str]:
        """Yield why nothing can be called clean beside these references, in sentences.

        A backdoor that a reference shares hides from the comparison: whoever chose the reference
        would choose the verdict.
        """
        for reference in self._apart(detectors):
            yield (
                f"the reference {reference.model.path!r} is itself far from the clean models of "
                f"the {self.source}, and beside it no model can be called clean"
            )
        for reference in self.references:
            if any(left_out(m) for m in reference.measurements):
                yield (
                    f"the time ran out before the reference {reference.model.path!r} was searched "
                    "as the model was, and beside it no model can be called clean; raise the "
                    "setting `timeout`"
                )
            found = [o for m in reference.measurements for o in m.observations]
            worst = max(found, key=lambda o: o.severity, default=None)
            if worst is not None and worst.severity >= Severity.SUSPICIOUS:
                name = reference.model.path
                yield f"the reference {name!r} is itself suspicious: {worst.sentence}"

    def _apart(self, detectors: Sequence[Declared]) -> Iterator[ModelRecord]:
        """Yield the references that stand far out from the clean models of the population."""
        alone = CleanModels(references=(), population=self.population, source=self.source)
        combined = [d for d in detectors if d.contribution.combined and self.population]
        for reference in self.references:
            pairs = [pair for d in combined if (pair := alone.compare(d, reference)) is not None]
            if stands_apart(pairs):
                yield reference

    def _fitting(
        self, own: Measurement, suspect: ModelRecord
    ) -> tuple[list[ModelRecord], str | None]:
        """Return who in the population was measured as the suspect was, or why nobody.

        The suspect itself and the references are never among them.
        """
        reason = mismatch(self.population, suspect.model)
        if reason:
            return [], reason
        present = {record.model.sha256 for record in (suspect, *self.references)}
        absent = [record for record in self.population if record.model.sha256 not in present]
        records = _with(absent, own.rule)
        reason = difference(own, _measured(records, own.rule))
        return ([], reason) if reason else (records, None)


def _crosswise(
    detector: Declared, own: Measurement, models: Sequence[ModelRecord], source: str
) -> tuple[Comparison, Population | None]:
    """Compare the suspect with clean models, and each of these with the others and the suspect."""
    measured = _measured(models, own.rule)
    found = compare(detector, own, measured)
    if len(measured) < _FEWEST:
        return found, None
    clean = [
        statistic_of(detector, m, [own, *measured[:i], *measured[i + 1 :]])
        for i, m in enumerate(measured)
    ]
    return found, _population(own.rule, source, models, clean)


def _population(
    rule: str,
    source: str,
    models: Sequence[ModelRecord],
    standings: Sequence[tuple[float | None, ClassScores]],
) -> Population:
    known = [(*found, r.model.sha256) for r, found in zip(models, standings, strict=True)]
    rows = [row for row in known if row[0] is not None]
    if len(rows) < _FEWEST:
        rows = []
    values, classes, hashes = zip(*rows, strict=True) if rows else ((), (), ())
    return Population(rule=rule, values=values, classes=classes, models=hashes, source=source)


def _nobody(rule: str, source: str, reason: str | None) -> Population:
    return Population(rule=rule, values=(), source=source, reason=reason)


def _chose(measurement: Measurement) -> bool:
    return measurement.by_class is not None and measurement.by_class.chose


def _repeats(reference: Measurement, suspect: Measurement) -> bool:
    """Whether a reference was searched for just the classes that the suspect's contest kept."""
    own, other = suspect.by_class, reference.by_class
    if own is None or other is None or own.contest is None or not own.chose:
        return False
    kept = {grant.class_id for grant in own.contest.granted}
    return {row.class_id for row in other.rows} == kept


def _with(records: Sequence[ModelRecord], rule: str) -> list[ModelRecord]:
    return [record for record in records if record.measurement(rule) is not None]


def _measured(records: Sequence[ModelRecord], rule: str) -> list[Measurement]:
    return [m for record in records if (m := record.measurement(rule)) is not None]


def mismatch(population: Sequence[ModelRecord], suspect: ModelIdentity) -> str | None:
    """Say why a population does not speak of a model, or None where it does."""
    if all(record.model.architecture == suspect.architecture for record in population):
        return None
    return "its models have another architecture"


def difference(measurement: Measurement, others: Sequence[Measurement]) -> str | None:
    """Say which parameter of other models' measurements differs, or None where none does."""
    for other in others:
        if shape(other) != shape(measurement):
            return "its classes were not searched in the same stages"
        for name, value in measurement.parameters.items():
            if name in _INCIDENTAL:
                continue
            found = other.parameters.get(name)
            if _condition(found) != _condition(value):
                return f"{MEASURED_WITH} {name} {found!r}, not {value!r}"
    return None


def _condition(value: Any) -> Any:
    """Return a parameter as it is compared: noise in float16 is noise in float32, rounded."""
    return "float" if value in _FLOATS else value


def without_pictures(record: ModelRecord) -> ModelRecord:
    """Return a record for a baseline: without what only a person looks at.

    The maker's folders go too, and profiles are cut to seven digits, float32's own.
    """
    measurements = tuple(map(_slim, record.measurements))
    named = dataclasses.replace(record.model, path=Path(record.model.path).name)
    return dataclasses.replace(record, model=named, measurements=measurements)


def graphs_of(records: Sequence[ModelRecord]) -> tuple[CanonicalGraph, ...]:
    """Return the canonical graphs of models, each once, without weights."""
    found = [m.by_node for record in records for m in record.measurements if m.by_node is not None]
    return tuple({graph.fingerprint: without_weights(graph) for graph in found}.values())


def without_weights(graph: CanonicalGraph) -> CanonicalGraph:
    """Return a graph that holds of its weights only how large they are."""
    nodes = (dataclasses.replace(n, weights=tuple(map(_outlined, n.weights))) for n in graph.nodes)
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _outlined(weights: WeightRows) -> WeightRows:
    nothing = Array.packed(bytes(4), (1, 1))
    return dataclasses.replace(weights, columns=0, largest=0.0, rows=nothing, digests="")


def _slim(measurement: Measurement) -> Measurement:
    seen = tuple(dataclasses.replace(o, input=None) for o in measurement.observations)
    slim = dataclasses.replace(measurement, observations=seen, by_node=None)
    if slim.by_class is not None:
        slim = dataclasses.replace(
            slim, by_class=dataclasses.replace(slim.by_class, triggers=(), moves=None)
        )
    # A profile is cut as the JSON that the baseline holds of it.
    data = to_json(slim)
    profiles = {name: _short(data[name]) for name in data if name.startswith("by_")}
    return from_json(Measurement, {**data, **profiles})


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, Mapping):
        return {name: _short(item) for name, item in value.items()}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value


def write_baseline(baseline: Baseline, path: str | os.PathLike[str]) -> None:
    """Save a baseline, for `read_baseline`.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        Path(path).write_text(render(baseline), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{os.fspath(path)!r} cannot be written ({error.strerror})", remedy="name another file"
        ) from error


def render(baseline: Baseline) -> str:
    """Return a baseline as JSON with a checksum, so that a cut or edited file is noticed."""
    data = to_json(baseline)
    for record in data["records"]:
        record["measurements"] = list(map(_sparse, record["measurements"]))
    body = json.dumps(data, sort_keys=True)
    return f"{_head(_checksum(body))}{body[1:]}\n"


def _sparse(measurement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a measurement without the fields that hold nothing: thousands, in a population."""
    kept = {"parameters": measurement["parameters"], "statistic": measurement["statistic"]}
    others = {name: item for name, item in measurement.items() if name not in kept}
    return {**kept, **_filled(others)}


def _filled(value: Any) -> Any:
    if isinstance(value, Mapping):
        filled = {n: v for n, v in value.items() if v is not None and v not in ([], {})}
        return {n: v if n == "figures" else _filled(v) for n, v in filled.items()}
    return list(map(_filled, value)) if isinstance(value, list) else value


def read_baseline(
    path: Path, rules: Collection[str] = (), *, sha256: str | None = None
) -> Baseline:
    """Read a baseline file, or the measurements of these rules only.

    The file's own checksum shows damage, not forgery: whoever edits the file can compute it again.

    Args:
        path: The file.
        rules: Ids of rules; empty takes all.
        sha256: What the SHA-256 of the whole file must be, in hexadecimal; None takes any.

    Raises:
        BaselineError: It is missing, damaged, edited, of another schema, not the file that was
            pinned, or contradicts itself.
    """
    again = "measure its clean models again with the function `calibrate`"
    try:
        text = jsonfile.read(path)
        _check_pin(path, text, sha256)
        data = jsonfile.parse(text)
    except jsonfile.UnreadableError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        remedy = f"check the path, or {again}" if is_missing else again
        raise BaselineError(f"the baseline {str(path)!r} {error}", remedy=remedy) from error
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema != SCHEMA:
        found = f"schema {schema}" if isinstance(schema, int) else "no schema"
        raise BaselineError(
            f"the baseline {str(path)!r} has {found}, and schema {SCHEMA} is needed", remedy=again
        )
    if "checksum" not in data:
        raise BaselineError(
            f"{str(path)!r} is no baseline", remedy="name a file that the function `calibrate` made"
        )
    if not _is_whole(text.decode(), str(data.pop("checksum")), data):
        raise BaselineError(
            f"the baseline {str(path)!r} was edited or damaged: its checksum differs", remedy=again
        )
    try:
        for record in data["records"] if rules else ():
            record["measurements"] = [m for m in record["measurements"] if m["rule"] in rules]
        baseline = from_json(Baseline, data)
    except (KeyError, TypeError, ValueError) as error:
        field = f", at {error.field}" if isinstance(error, UnfitError) and error.field else ""
        raise BaselineError(
            f"the baseline {str(path)!r} was written by another version{field}", remedy=again
        ) from error
    for contradiction in _contradictions(baseline):
        raise BaselineError(
            f"the baseline {str(path)!r} contradicts itself: {contradiction}", remedy=again
        )
    return baseline


def _check_pin(path: Path, text: bytes, sha256: str | None) -> None:
    """Raise a `BaselineError` where a file is not the one that was pinned."""
    if sha256 is None:
        return
    import hashlib  # noqa: PLC0415 - as in `_checksum`

    found = hashlib.sha256(text).hexdigest()
    if found != sha256.lower():
        raise BaselineError(
            f"the baseline {str(path)!r} has the SHA-256 {found}, not the one that was pinned",
            remedy="find out who changed it, or give the setting `baseline_sha256` the new value",
        )


def _contradictions(baseline: Baseline) -> Iterator[str]:
    """Yield what no calibration writes: a population that is not one of different models alike."""
    hashes = [record.model.sha256 for record in baseline.records]
    if len({*hashes}) < len(hashes):
        yield "one model counts twice, so its figures look more common than they are"
    if len({record.model.architecture for record in baseline.records}) > 1:
        yield "its models have different architectures"
    shapes: dict[str, set[object]] = {}
    for record in baseline.records:
        for measurement in record.measurements:
            shapes.setdefault(measurement.rule, set()).add(_outline(measurement))
    for rule, found in shapes.items():
        if len(found) > 1:
            yield f"{rule} has not measured all of its models alike"


def _outline(measurement: Measurement) -> object:
    """Return what the profiles of all models of one recipe have in common, however exported."""
    by_class, by_image = measurement.by_class, measurement.by_image
    return by_class and by_class.classes, by_image and len(by_image.maxima)


def shipped_baseline(suspect: ModelIdentity, rules: Collection[str] = ()) -> Baseline | None:
    """Return the shipped baseline of the suspect's architecture for these rules, or None."""
    path = _shipped_for(suspect)
    return _read_once(path, tuple(rules)) if path else None


def _shipped_for(suspect: ModelIdentity) -> Path | None:
    # Named by architecture, so that only the one that fits is read.
    if not suspect.architecture:
        return None
    return next(SHIPPED.glob(f"*-{suspect.architecture}.json"), None)


@functools.lru_cache(maxsize=8)
def _read_once(path: Path, rules: Collection[str]) -> Baseline:
    """Read a shipped baseline, once for all models of a registry."""
    return read_baseline(path, rules)


def _head(checksum: str) -> str:
    """Return how a baseline file starts; the text under the checksum follows, less its brace."""
    return f'{{"schema": {SCHEMA}, "checksum": "{checksum}", '


def _is_whole(text: str, checksum: str, body: Mapping[str, Any]) -> bool:
    """Whether a file, read as `body`, is what was written.

    One in another order or layout is written again to see.
    """
    written = "{" + text.removeprefix(_head(checksum)).removesuffix("\n")
    return checksum == _checksum(written) or checksum == _checksum(json.dumps(body, sort_keys=True))


def _checksum(body: str) -> str:
    # OpenSSL takes a tenth of the command's start-up, and few scans read a baseline here.
    import hashlib  # noqa: PLC0415

    return hashlib.sha256(body.encode()).hexdigest()
