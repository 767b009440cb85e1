"""What a child is asked, what it may use for that, and whether its answer speaks of it.

Nothing heavy is imported here: the child imports onnx and ONNX Runtime while this side is still
reading its options.
"""

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from scanner import protocol
from scanner.errors import WorkerCrashedError
from scanner.judging.differences import differences
from scanner.limits import Allowance
from scanner.modelfile import blob_cache
from scanner.protocol import (
    Check,
    DetectorDescription,
    Diagnosis,
    Examination,
    Job,
    LayerList,
    Preparation,
    SecondOpinion,
    Source,
    Task,
)
from scanner.results import Diff, ModelIdentity, ModelRecord, ScanPlan
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Answer, Endpoint, Request
from scanner.settings import Device, Settings

PRELOAD = ("scanner.examine",)
PathLike = str | os.PathLike[str]


def check(model: PathLike, settings: Settings | None = None) -> Check:
    """Say whether a model can be scanned, and which detectors would be skipped; nothing is run.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source, chosen = source_of(model), settings or Settings()
    task = Task(model=source, settings=chosen)
    found = ask(protocol.CHECK, task, allowance_to_read(chosen, (source,)))
    return dataclasses.replace(found, model=renamed(found.model, source))


def plan(
    model: PathLike,
    settings: Settings | None = None,
    *,
    references: int = 0,
    baseline: bool = False,
) -> ScanPlan:
    """Say what a scan would do with a model, in stages, and how long each takes here.

    A few gradient steps are timed, and nothing is searched.

    Args:
        model: An ONNX file.
        settings: Those of the scan.
        references: How many models it would be compared with: each takes as long again.
        baseline: Whether it would be judged by a baseline that the user names.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source, chosen = source_of(model), settings or Settings()
    task = Task(model=source, settings=chosen, alone=not (references or baseline))
    found = ask(protocol.PLAN, task, allowance_for(chosen, (source,)))
    deadline = chosen.deadline(1 + references)
    return dataclasses.replace(found, model=renamed(found.model, source), deadline=deadline)


def diff(suspect: PathLike, reference: PathLike, settings: Settings | None = None) -> Diff:
    """Say what a model has that another of the same network has not; neither is run.

    Each is read by a child that opens nothing else; what they answer is compared here.

    Args:
        suspect: An ONNX file.
        reference: Another, known to be clean.
        settings: Their `seed` and `limits`. A seed that whoever made the files could not know keeps
            them from hiding how far weights were moved (not that they were).

    Raises:
        ScannerError: A model cannot be opened, or has too many nodes.
    """
    chosen = settings or Settings()
    sources = (source_of(suspect), source_of(reference))
    with worker.take(PRELOAD) as one, worker.take(PRELOAD) as other:
        own, their = (
            child.ask(
                protocol.DRAW,
                Task(model=source, settings=chosen),
                allowance_to_read(chosen, (source,)),
            )
            for child, source in zip((one, other), sources, strict=True)
        )
    return Diff(
        suspect=renamed(own.model, sources[0]),
        reference=renamed(their.model, sources[1]),
        differences=differences(own.graph, their.graph),
    )


def layers(model: PathLike) -> LayerList:
    """List the activations of a model, any of which a scan can measure instead of the first.

    Raises:
        ScannerError: The model cannot be opened.
    """
    source = source_of(model)
    return ask(protocol.LAYERS, source, allowance_to_read(Settings(), (source,)))


def rules() -> tuple[DetectorDescription, ...]:
    """Describe the detectors, in the order of the report.

    Raises:
        ScannerError: A library that a scan needs cannot be loaded.
    """
    return ask(protocol.RULES, None, allowance_to_read(Settings(), ()))


def diagnose() -> Diagnosis:
    """Report what this installation can do and what is wrong with it.

    Raises:
        ScannerError: A library that a scan needs cannot be loaded.
    """
    return ask(protocol.DIAGNOSE, None, allowance_for(Settings(), ()))


def ask(
    endpoint: Endpoint[Request, Answer],
    request: Request,
    allowance: Allowance,
) -> Answer:
    """Have a new child, or the one started early, carry out one request."""
    with worker.take(PRELOAD) as child:
        return child.ask(endpoint, request, allowance)


def source_of(path: PathLike) -> Source:
    """Return the source that a path names."""
    # Not resolved: a link stays a link, and the child is told where the user pointed.
    return Source(name=os.fspath(path), path=str(Path.cwd() / path))


def allowance_for(settings: Settings, sources: Sequence[Source]) -> Allowance:
    """Let the child read what the user named: of a model its whole folder, for external data."""
    named = (settings.images_file, settings.images_folder)
    return Allowance(
        seconds=settings.deadline(len(sources)),
        limits=settings.limits,
        threads=settings.threads,
        cuda=settings.device is not Device.CPU and _is_built_for_cuda(),
        readable=(*(str(p) for s in sources for p in _places(Path(s.path))), *filter(None, named)),
        models=tuple(source.path for source in sources),
        unconfined=settings.unconfined,
    )


def allowance_to_read(settings: Settings, sources: Sequence[Source]) -> Allowance:
    """Let the child read as much, but run nothing: no device of CUDA is opened for it."""
    return dataclasses.replace(allowance_for(settings, sources), cuda=False)


@functools.cache
def _is_built_for_cuda() -> bool:
    """Whether the ONNX Runtime that is installed has a provider for CUDA; without importing it."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = [] if spec is None else spec.submodule_search_locations or []
    return any(any(Path(folder).glob("capi/*providers_cuda*")) for folder in folders)


def _places(path: Path) -> Iterator[Path]:
    """Yield the folder of a model and, where the model is a link, the file that it stands for.

    Of a download cache it is that file's folder, since external data lies there too.
    """
    yield path.parent
    blob = blob_cache.blob(path)
    if blob is not None:
        yield blob.parent
    elif os.path.islink(path):  # noqa: PTH114 - Path.is_symlink may raise
        yield path


def vouched(examination: Examination, job: Job, preparation: Preparation | None) -> Examination:
    """Return an answer that speaks of what was asked for, in words that were agreed on before.

    Types and ranges were checked when it was read.

    Raises:
        WorkerCrashedError: It names a rule that does not run, or other models.
    """
    rules = preparation.rules if preparation else ()
    extra = examination.rules[len(rules) :]
    if examination.rules[: len(rules)] != rules or any(
        rule.id != protocol.NOT_THE_FILE for rule in extra
    ):
        raise WorkerCrashedError.no_answer("rules")
    others = {protocol.NOT_THE_FILE, protocol.MODEL_RULE, protocol.IMAGES_RULE}
    known = {rule.id for rule in examination.rules} | others
    records = (examination.suspect, *examination.references)
    opinions: list[Examination | SecondOpinion] = [examination]
    opinions += [examination.second] if examination.second else []
    said = {
        *(m.rule for r in records for m in r.measurements),
        *(s.rule for r in records for s in r.skips),
        *(f.rule for r in records for f in r.failures),
        *(c.rule for opinion in opinions for c in opinion.comparisons),
        *(p.rule for opinion in opinions for p in opinion.populations),
    }
    if not said <= known:
        raise WorkerCrashedError.no_answer("rule")
    if len(examination.references) not in {0, len(job.references)}:
        raise WorkerCrashedError.no_answer("references")
    return dataclasses.replace(
        examination,
        suspect=_named(examination.suspect, job.model),
        references=tuple(map(_named, examination.references, job.references)),
    )


def _named(record: ModelRecord, source: Source) -> ModelRecord:
    """Return a record under the name that the user gave the model."""
    return dataclasses.replace(record, model=renamed(record.model, source))


def renamed(model: ModelIdentity, source: Source) -> ModelIdentity:
    """Return a model's identity under the name that the user gave it."""
    return dataclasses.replace(model, path=source.name)
