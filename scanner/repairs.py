"""The user's side of a repair: scan, have a child repair, write the file, and prove what it is.

A child never writes. What it made comes through the pipe in pieces, is bounded and checked against
the sums that the child told, and is written under the name that the user gave, whole or not at all.
"""

import base64
import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from scanner import conclusion, pipeline, protocol, questions
from scanner.errors import UsageError, WorkerCrashedError
from scanner.judging.arithmetic import change_interval
from scanner.judging.population import Baseline
from scanner.protocol import Piece, RepairOrder
from scanner.questions import PRELOAD, PathLike
from scanner.results import (
    Ending,
    KnownTrigger,
    Part,
    Repaired,
    RepairedFile,
    RepairResult,
    ScanResult,
    Severity,
    Verdict,
)
from scanner.sandbox import worker
from scanner.sandbox.endpoint import Progress
from scanner.sandbox.worker import Worker
from scanner.settings import KEEP_ACCURACY, Settings

DATA = ".data"
STILL_WORKS = 0.1
"""Share of held-back images that a trigger must turn to count as alive after a repair."""
_PIECE = 2**23  # bytes that are handed over at a time
_SHOWN = 3  # reasons that a sentence lists


def repair(  # noqa: PLR0913 - what is repaired, beside what, how far
    model: PathLike,
    output: PathLike,
    references: Sequence[PathLike] = (),
    settings: Settings | None = None,
    *,
    targets: Sequence[int] = (),
    keep_accuracy: float = KEEP_ACCURACY,
    baseline: Baseline | None = None,
    triggered: PathLike | None = None,
    progress: Progress | None = None,
) -> RepairResult:
    """Remove a backdoor from a model, write the repaired file, and measure what became of it.

    A model that the scan does not call suspicious is left alone, unless `targets` names classes.

    Args:
        model: An ONNX file.
        output: The file to write; beside it, under the same name and `.data`, what the model keeps
            outside itself. It is replaced where it exists.
        references: Clean models, for the scans before and after.
        settings: How to scan. A repair is worth most with some hundred clean images (`images_file`
            or `images_folder`).
        targets: Classes whose triggers are to be removed; empty takes the one that the scan names.
        keep_accuracy: The least share of the model's answers to clean images that must stay.
        baseline: Clean models of the same recipe, measured before.
        triggered: An .npz of images that bear a trigger which is known, to tell what is left of it:
            `images`, and beside them `targets`, the class that each is to get (without it the
            classes whose triggers are removed), and `labels`, the right ones.
        progress: Called as `progress(step)`, as by `scan`.

    Raises:
        ScannerError: The model cannot be opened, scanned, repaired or written.
    """
    chosen, place = settings or Settings(), Path(output)
    pipeline.several("references", references)
    if not 0 < keep_accuracy <= 1:
        raise UsageError(
            f"the least accuracy to keep is {keep_accuracy:g}",
            remedy="give a share above 0 and up to 1, such as 0.98",
        )
    known = str(Path.cwd() / triggered) if triggered is not None else ""
    if known and not os.path.isfile(known):  # noqa: PTH113 - Path.is_file may raise
        raise UsageError(f"there is no file {known!r}", remedy="check the path")
    read = (model, *references, *([known] if known else []))
    _check_places(place, read, chosen)

    def scanned(path: PathLike) -> ScanResult:
        return pipeline.scan(path, references, chosen, baseline=baseline, progress=progress)

    before = scanned(model)
    if error := conclusion.unopened([before]):
        raise error
    order = RepairOrder(
        model=questions.source_of(model),
        settings=chosen,
        targets=tuple(targets) or _targets(before),
        structural=_is_structural(before),
        keep=keep_accuracy,
        output=str(place.absolute()),
        data=place.name + DATA,
        references=tuple(map(questions.source_of, references)),
        triggered=known,
    )
    result = RepairResult(model=before.model, ending=Ending.UNTOUCHED, reason="", before=before)
    if not order.targets and not order.structural:
        return _untouched(result)
    with worker.take(PRELOAD) as child:
        allowance = questions.allowance_for(chosen, (order.model, *order.references))
        readable = (*allowance.readable, *([known] if known else []))
        allowance = dataclasses.replace(allowance, seconds=chosen.deadline(3), readable=readable)
        repaired = _vouched(child.ask(protocol.REPAIR, order, allowance, progress), order)
        result = dataclasses.replace(result, repaired=repaired)
        if not repaired.changed:
            return _judged(result)
        with _Files(place) as files:
            for part in repaired.parts:
                files.add(part.suffix, _received(child, part, order))
    after = scanned(place)
    return _judged(
        dataclasses.replace(
            result,
            after=after,
            output=os.fspath(output),
            differences=pipeline.diff(place, model, chosen).differences,
        )
    )


def _targets(before: ScanResult) -> tuple[int, ...]:
    """Return the class that a scan's verdict is about, where anything but the graph says so."""
    trained = any(
        f.verdict is Verdict.SUSPICIOUS and f.contribution.part is not Part.STRUCTURAL
        for f in before.findings
    )
    suspicious = before.verdict is Verdict.SUSPICIOUS and (trained or not _is_structural(before))
    return (before.target_class,) if suspicious and before.target_class is not None else ()


def _is_structural(before: ScanResult) -> bool:
    return any(
        observation.severity >= Severity.SUSPICIOUS
        for finding in before.findings
        if finding.contribution.part is Part.STRUCTURAL
        for observation in finding.observations
    )


def _untouched(result: RepairResult) -> RepairResult:
    """Return the result for a model in which there is nothing to repair, or nothing that is known.

    Suspicion without a class leaves no trigger to remove.
    """
    verdict, why = result.before.verdict, result.before.reason
    told = {
        Verdict.CLEAN: (Ending.UNTOUCHED, "the scan calls the model clean, so nothing was changed"),
        Verdict.INCONCLUSIVE: (
            Ending.UNKNOWN,
            "the scan cannot tell whether there is anything to repair, so nothing was changed",
        ),
        Verdict.SUSPICIOUS: (
            Ending.FAILED,
            "the scan names neither a class nor a part of the graph, so nothing was changed",
        ),
    }[verdict]
    return dataclasses.replace(result, ending=told[0], reason=f"{told[1]} ({why})")


def _judged(result: RepairResult) -> RepairResult:
    """Return the result with its ending: repaired only where nothing measured says otherwise."""
    repaired = result.repaired
    assert repaired is not None  # noqa: S101 - only called with one
    if not repaired.changed:
        return dataclasses.replace(
            result,
            ending=Ending.FAILED,
            reason="no step removed the backdoor and left the model's answers as they were, so "
            "nothing was written",
        )
    faults = list(_faults(result, repaired))
    if faults:
        reason = f"the written file is not to be trusted: {'; '.join(faults[:_SHOWN])}"
        return dataclasses.replace(result, ending=Ending.FAILED, reason=reason)
    return dataclasses.replace(
        result, ending=Ending.REPAIRED, reason="; ".join(_merits(result, repaired))
    )


def _faults(result: RepairResult, repaired: Repaired) -> Iterator[str]:
    after = result.after
    if repaired.structural_after:
        yield f"{repaired.structural_after} structural findings are left"
    for proof in repaired.proofs:
        if proof.after > STILL_WORKS:
            yield (
                f"the trigger of class {proof.class_id} still turns {proof.after:.0%} of the "
                "held-back images"
            )
    if repaired.known is not None and repaired.known.after > STILL_WORKS:
        yield f"the known trigger still turns {_of_known(repaired.known)}"
    if after is None or after.verdict is Verdict.SUSPICIOUS:
        yield f"a scan still calls it suspicious ({after.reason if after else 'not scanned'})"
    failed_before = {failure.rule for failure in result.before.failures}
    for failure in after.failures if after else ():
        if failure.rule not in failed_before:
            yield f"{failure.rule}, which measured the original, fails on it ({failure.sentence})"


def _merits(result: RepairResult, repaired: Repaired) -> Iterator[str]:
    if repaired.structural_before:
        yield f"no structural finding is left of {repaired.structural_before}"
    for proof in repaired.proofs:
        yield (
            f"the trigger of class {proof.class_id} turns {proof.after:.0%} of the held-back "
            f"images, {proof.before:.0%} before"
        )
    if repaired.known is not None:
        yield f"the known trigger turns {_of_known(repaired.known)}"
    yield f"{repaired.agreement:.1%} of {repaired.held_back} held-back images keep their class"
    if repaired.lost is not None and repaired.gained is not None:
        yield _of_labels(repaired.lost, repaired.gained, repaired.held_back)
    if result.after is not None:
        yield f"a scan of the written file says {result.after.verdict.value}"


def _of_known(known: KnownTrigger) -> str:
    return f"{known.after:.1%} of {known.images:,} images that bear it, {known.before:.1%} before"


def _of_labels(lost: int, gained: int, of: int) -> str:
    """Say what became of the accuracy, and how little so few images tell of it."""
    low, high = (round(100 * end) for end in change_interval(lost, gained, of))
    return (
        f"by their labels {lost} that were right are wrong and {gained} that were wrong are right, "
        f"so the accuracy has changed by {low:+} to {high:+} points (95% interval)"
    )


def _vouched(repaired: Repaired, order: RepairOrder) -> Repaired:
    """Return an answer that speaks of what was asked for, and whose files may be written.

    Raises:
        WorkerCrashedError: It does not.
    """
    suffixes = [part.suffix for part in repaired.parts]
    if suffixes not in ([], [""], ["", DATA]) or bool(suffixes) != repaired.changed:
        raise WorkerCrashedError.no_answer("parts")
    if sum(part.size for part in repaired.parts) > order.settings.limits.memory:
        raise WorkerCrashedError.no_answer("size")
    if not {proof.class_id for proof in repaired.proofs} <= set(order.targets):
        raise WorkerCrashedError.no_answer("proofs")
    if (repaired.lost or 0) + (repaired.gained or 0) > repaired.held_back:
        raise WorkerCrashedError.no_answer("lost")
    if repaired.known is not None and not order.triggered:
        raise WorkerCrashedError.no_answer("known")
    return repaired


def _received(child: Worker, part: RepairedFile, order: RepairOrder) -> Iterator[bytes]:
    """Yield the bytes of a file that a child has made.

    Raises:
        WorkerCrashedError: They are not those that it told of.
    """
    allowance = questions.allowance_for(order.settings, (order.model,))
    digest = hashlib.sha256()
    for start in range(0, part.size, _PIECE):
        piece = Piece(suffix=part.suffix, start=start, size=min(_PIECE, part.size - start))
        data = base64.b64decode(child.ask(protocol.HAND_OVER, piece, allowance).data)
        if len(data) != piece.size:
            raise WorkerCrashedError.no_answer("piece")
        digest.update(data)
        yield data
    if digest.hexdigest() != part.sha256:
        raise WorkerCrashedError.no_answer("sha256")


def _check_places(place: Path, files: Sequence[PathLike], settings: Settings) -> None:
    """Refuse to write over a file that is read, over a link, or over what is no file.

    That a file can be written there at all is tried now, and not after minutes of measuring.

    Raises:
        UsageError: That is asked for.
    """
    if not place.name:
        raise UsageError(
            f"{str(place)!r} is a folder, not a file to write", remedy="name a file in it"
        )
    images = [settings.images_file] if settings.images_file else []
    if settings.images_folder:
        with contextlib.suppress(OSError):  # it is told when the images are read
            images += map(str, Path(settings.images_folder).iterdir())
    for path in (place, place.with_name(place.name + DATA)):
        try:
            taken = path.is_symlink() or (path.exists() and not path.is_file())
        except OSError as error:  # the name is too long
            raise _unwritable(path, error) from error
        if taken:
            raise UsageError(
                f"{str(path)!r} cannot be written (it is a link, a folder, a device or a pipe)",
                remedy="name another file to write",
            )
        for read in (*files, *images):
            with contextlib.suppress(OSError):
                if path.exists() and path.samefile(read):
                    raise UsageError(
                        f"{str(path)!r} is a file that is read, and would be overwritten",
                        remedy="name another file to write",
                    )
    if not place.absolute().parent.is_dir():
        raise UsageError(
            f"{str(place)!r} cannot be written (there is no folder {str(place.parent)!r})",
            remedy="make the folder, or name another file to write",
        )
    try:
        with tempfile.NamedTemporaryFile(dir=place.absolute().parent, suffix=".tmp"):
            pass
    except OSError as error:
        raise _unwritable(place, error) from error


class _Files:
    """Files that appear whole under their names once all are there, or not at all."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._temporary: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, suffix: str, pieces: Iterator[bytes]) -> None:
        """Write a file under a temporary name.

        Raises:
            UsageError: It cannot be written.
        """
        path = self._place.with_name(self._place.name + suffix)
        try:
            with tempfile.NamedTemporaryFile(
                dir=path.absolute().parent, suffix=".tmp", delete=False
            ) as file:
                self._temporary[path] = Path(file.name)
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Give the files their names, what the model refers to first; after an error, none."""
        try:
            if kind is None:
                mask = os.umask(0)
                os.umask(mask)
                for path in reversed(self._temporary):
                    self._temporary[path].chmod(0o666 & ~mask)
                    self._temporary[path].replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        finally:
            for temporary in self._temporary.values():
                temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{str(path)!r} cannot be written ({error.strerror})", remedy="name another file to write"
    )
