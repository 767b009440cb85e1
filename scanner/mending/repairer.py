"""The order of a repair: cut what the graph shows, then remove what was trained, and measure.

Each step is kept only if the model still answers the held-back images as it did before. Nothing of
the file is changed but what a step names.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner.errors import NoGradientError, UnsupportedModelError, UsageError
from scanner.graph.core.draft import Proto
from scanner.graph.core.sparse import written_out
from scanner.graph.surgery import parameters, parcel
from scanner.instruments import probes, runtime
from scanner.instruments.differentiable import Differentiable
from scanner.mending import cutting, known_trigger, normalisation, pruning, triggers, unlearning
from scanner.mending.forward import Forward, flat_graph, scorer
from scanner.mending.trainable import tensors
from scanner.modelfile.model import Model, open_model
from scanner.protocol import RepairOrder
from scanner.results import (
    KnownTrigger,
    Outcome,
    Repaired,
    RepairedFile,
    RepairStep,
    TriggerProof,
    Way,
)
from scanner.sandbox.endpoint import Progress, Step

Floats = npt.NDArray[np.float32]

MOST_IMAGES = 500
ENOUGH = 0.05  # success of the inverted triggers at which nothing further is tried
WITH_IMAGES = (
    Way.UNLEARN, Way.PRUNE_LIPSCHITZ, Way.PRUNE_WOKEN, Way.PRUNE_DORMANT, Way.NORMALISE,
)  # fmt: skip
WITHOUT = (Way.PRUNE_LIPSCHITZ, Way.PRUNE_WOKEN, Way.UNLEARN)
_SEARCHED_AGAIN = 5  # so that the proof's search starts elsewhere than those of the repair
_PARTS = 8
_PARTS_OF_THE_WAY = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)


def repair(
    model: Model, order: RepairOrder, progress: Progress, ways: Sequence[Way] | None = None
) -> tuple[Repaired, dict[str, parcel.Bulk]]:
    """Repair a model; return what was done, and the files by suffix.

    Args:
        model: The model.
        order: What is asked for.
        progress: Takes how far it has come.
        ways: By which trained backdoors are removed, in this order; None takes those that suit the
            images.

    Raises:
        ScannerError: The model cannot be run or repaired, or its own data would be overwritten.
    """
    if order.output:
        _check_data(model, order)
    if model.rewritten:
        raise UnsupportedModelError(
            f"{model.identity.path!r} is scanned in another form ({model.rewritten}), and a repair "
            "would write that form",
            remedy="export the model again, in operator set 7 or later and with a batch axis",
        )
    if model.idle:
        raise UnsupportedModelError(
            f"{model.identity.path!r} declares inputs that nothing reads "
            f"({', '.join(map(repr, model.idle))}), and a repair would leave them out",
            remedy="export the model again, with its image as the only input",
        )
    return _Repair(model, order, progress, ways).run()


def _check_data(model: Model, order: RepairOrder) -> None:
    """Refuse to write over a file in which the model or a reference keeps its tensors.

    A model that was renamed still keeps them under its old name, which the repaired one may get.

    Raises:
        UsageError: That is asked for.
    """
    output = Path(order.output)
    there = [path for path in (output, output.with_name(order.data)) if path.exists()]
    if not there:
        return
    others = (
        open_model(Path(source.path), source.name, order.settings.limits)
        for source in order.references
    )
    for read in itertools.chain([model], others):
        for written, location in itertools.product(there, parcel.locations(read.proto)):
            with contextlib.suppress(OSError):
                if written.samefile(read.path.parent / location):
                    raise UsageError(
                        f"{written.name!r} holds weights of {read.identity.path!r}, which is read, "
                        "and would be overwritten",
                        remedy="name another file to write",
                    )


class _Repair:
    """One repair; the arguments are those of `repair`."""

    def __init__(
        self, model: Model, order: RepairOrder, progress: Progress, ways: Sequence[Way] | None
    ) -> None:
        self.ways = ways or (WITH_IMAGES if order.settings.has_images else WITHOUT)
        self.order, self.settings, self.progress = order, order.settings, progress
        self.outside = parcel.outside(model.proto)
        model = _dense(model)
        self.original = self.model = model
        shape = probes.image_shape(model, self.settings)
        dtype = runtime.numpy_dtype(model.identity.inputs[0].dtype)
        span = probes.input_range(dtype, self.settings)
        self.images = probes.repair_images(self.settings, shape, span, MOST_IMAGES)
        self.triggered = None
        if order.triggered:
            path = Path(order.triggered)
            self.triggered = known_trigger.read(path, shape, span, order.targets)
        self.teacher = scorer(model, self.settings)
        self.right = self.teacher.classes(self.images.held_back)
        self._check_labels()
        self.steps: list[RepairStep] = []
        self.warnings: list[str] = []
        self.triggers: dict[int, triggers.Found] = {}
        self.done = 0

    def run(self) -> tuple[Repaired, dict[str, parcel.Bulk]]:
        structural = cutting.findings(self.model, self.settings) if self.order.structural else []
        if structural:
            self._cut()
        if self.order.targets:
            self._remove_trained()
        left = cutting.findings(self.model, self.settings) if structural else []
        answers = scorer(self.model, self.settings)
        repaired = Repaired(
            steps=tuple(self.steps),
            proofs=tuple(self._proof(target) for target in self.triggers),
            known=self._known(answers),
            agreement=self._agreement(answers),
            images=len(self.images.shown),
            held_back=len(self.images.held_back),
            source=self.images.source,
            structural_before=len(structural),
            structural_after=len(left),
            warnings=tuple(self.warnings),
        )
        repaired = self._with_accuracy(repaired, answers)
        files = self._files() if repaired.changed else {}
        parts = tuple(
            RepairedFile(suffix=name, size=data.size, sha256=data.sha256())
            for name, data in files.items()
        )
        return dataclasses.replace(repaired, parts=parts), files

    def _check_labels(self) -> None:
        """Refuse labels of which the model gets none right: of these, no repair can lose any.

        Raises:
            UsageError: They are such.
        """
        if self.images.labels is not None and not (self.right == self.images.labels).any():
            raise UsageError(
                f"the model answers none of {len(self.right)} held-back images as they are "
                "labelled",
                remedy="number the labels as the model numbers its classes, from 0, or leave the "
                "array `labels` out",
            )

    def _tell(self) -> None:
        self.done += 1
        self.progress(Step(done=min(self.done, _PARTS), total=_PARTS))

    def _cut(self) -> None:
        """Cut out what the graph shows."""
        images = cutting.ordinary(self.model, self.settings)
        for cut in cutting.cuts(
            self.model, self.settings, images, functools.partial(_rewritten, self.model)
        ):
            # Noise can open a gate, so that other answers to noise are no sign of harm.
            proven = cut.exact and not self.settings.has_images
            holds = cut.model is not None and (
                proven or self._holds(scorer(cut.model, self.settings))
            )
            if cut.model is None:
                outcome = Outcome.NOTHING
            else:
                outcome = Outcome.KEPT if holds else Outcome.REVERTED
            agreement = self._agreement(scorer(cut.model, self.settings)) if cut.model else None
            self.steps.append(
                RepairStep(
                    way=Way.CUT,
                    outcome=outcome,
                    sentence=cut.sentence,
                    changed=cut.changed,
                    agreement=agreement,
                )
            )
            if cut.model is not None and not holds:
                return
            self.model = cut.model or self.model
        self._tell()

    def _remove_trained(self) -> None:
        """Remove triggers of the target classes from the weights: the first way that does."""
        searched = triggers.differentiated(self.model, self.settings)
        outside = next((t for t in self.order.targets if t >= searched.classes), None)
        if outside is not None:
            raise UsageError(
                f"there is no class {outside}",
                remedy=f"the model has the classes 0 to {searched.classes - 1}",
            )
        for target in self.order.targets:
            self.triggers[target] = self._smallest(searched, target, 0)
        self._tell()
        if not self.settings.has_images:
            self.warnings.append(
                "no clean images were given: the repair saw noise, on which it can neither tell "
                "how accurate the model remains nor find most triggers"
            )
        by_way: Mapping[Way, Callable[[], bool]] = {
            Way.UNLEARN: self._unlearn,
            Way.PRUNE_LIPSCHITZ: self._lipschitz,
            Way.PRUNE_WOKEN: self._woken,
            Way.PRUNE_DORMANT: self._dormant,
            Way.NORMALISE: self._normalise,
        }
        for way in self.ways:
            if by_way[way]():
                return
            self._tell()

    def _unlearn(self) -> bool:
        """Unlearn by gradient steps; keep as much of the way as is not noticed."""
        rebuilt = functools.partial(_rebuilt, self.model)
        start = last = parameters.values(flat_graph(self.model), self._tensors())
        told: list[str] = []
        try:
            for lesson in unlearning.rounds(
                self.model,
                self.settings,
                self.images.shown,
                self.order.targets,
                rebuilt,
                scorer(self.model, self.settings),
            ):
                last = lesson.values
                told.append(f"on {', '.join(map(_named, lesson.found))}")
                self._tell()
        except (NoGradientError, UnsupportedModelError) as error:
            self.steps.append(_nothing(Way.UNLEARN, error.problem))
            return False
        part, kept = self._part_of_the_way(start, last)
        which = "all weights" if set(last) == set(start) else "the weights of the last layers"
        sentence = (
            f"gradient steps on {which} in {len(told)} rounds, the first {told[0]}; "
            f"the last {told[-1]}"
        )
        if part < 1:
            sentence += f"; {part:.0%} of the way, of which the whole was noticed"
        changed = [name for name in kept if not np.array_equal(start[name], kept[name])]
        return self._settle(Way.UNLEARN, rebuilt(kept), changed, sentence)

    def _part_of_the_way(
        self, start: dict[str, Floats], last: dict[str, Floats]
    ) -> tuple[float, dict[str, Floats]]:
        """Return the longest part of the way to other weights that is not noticed.

        Where all are, that is the whole way, which is then taken back.
        """
        for part in _PARTS_OF_THE_WAY:
            between = {name: start[name] + part * (last[name] - start[name]) for name in last}
            if self._holds(scorer(_rebuilt(self.model, between), self.settings)):
                return part, between
        return 1.0, last

    def _tensors(self) -> list[str]:
        return tensors(list(parameters.layers(flat_graph(self.model))))

    def _lipschitz(self) -> bool:
        which = "whose weights could answer far more strongly than the others of their layer"
        return self._prune(Way.PRUNE_LIPSCHITZ, which, pruning.lipschitz(self.model))

    def _woken(self) -> bool:
        found = list(self.triggers.values())
        channels = pruning.woken(self.model, self.settings, self.images.shown, found)
        chosen = pruning.gradually(self._values(), channels, self._tried, ENOUGH)
        return self._prune(Way.PRUNE_WOKEN, "that the inverted trigger wakes", chosen)

    def _dormant(self) -> bool:
        channels = pruning.dormant(self.model, self.settings, self.images.shown)
        chosen = pruning.gradually(self._values(), channels, self._tried, ENOUGH)
        which = "of the last convolution that clean images hardly wake"
        return self._prune(Way.PRUNE_DORMANT, which, chosen)

    def _values(self) -> dict[str, Floats]:
        return parameters.values(flat_graph(self.model), self._tensors())

    def _tried(self, values: dict[str, Floats]) -> tuple[float, bool]:
        """Return the triggers' success with other weights, and whether the answers hold."""
        forward = scorer(_rebuilt(self.model, values), self.settings)
        return self._success(forward), self._holds(forward)

    def _prune(self, way: Way, which: str, chosen: Sequence[pruning.Channel]) -> bool:
        if not chosen:
            self.steps.append(_nothing(way, f"no channel {which} can be silenced unnoticed"))
            return False
        found = _rebuilt(self.model, pruning.silenced(self._values(), chosen))
        labels = [channel.label for channel in chosen]
        channels = f"{len(chosen)} channel{'s' if len(chosen) > 1 else ''}"
        return self._settle(way, found, labels, f"silenced {channels} {which}")

    def _normalise(self) -> bool:
        rebuilt = functools.partial(_rebuilt, self.model)
        values = normalisation.measured_anew(self.model, self.settings, self.images.shown, rebuilt)
        if not values:
            nothing = "the file has no batch normalisation of its own: convolutions hold it, if any"
            self.steps.append(_nothing(Way.NORMALISE, nothing))
            return False
        sentence = "means and variances of batch normalisation measured anew on clean images"
        return self._settle(Way.NORMALISE, rebuilt(values), list(values), sentence)

    def _settle(self, way: Way, found: Model, changed: Sequence[str], sentence: str) -> bool:
        """Keep a changed model if its answers hold and the triggers' success fell; say so."""
        forward = scorer(found, self.settings)
        success, agreement = self._success(forward), self._agreement(forward)
        before = self._success(scorer(self.model, self.settings))
        holds = self._holds(forward)
        good = holds and success < before
        if not holds:
            sentence += f": it was noticed, on {1 - agreement:.1%} of the held-back images"
        elif not good:
            sentence += ": the triggers succeed as before"
        self.steps.append(
            RepairStep(
                way=way,
                outcome=Outcome.KEPT if good else Outcome.REVERTED,
                sentence=sentence,
                changed=tuple(changed),
                success=success,
                agreement=agreement,
            )
        )
        if good:
            self.model = found
        return good and success <= ENOUGH

    def _agreement(self, forward: Forward) -> float:
        return float((forward.classes(self.images.held_back) == self.right).mean())

    def _with_accuracy(self, repaired: Repaired, forward: Forward) -> Repaired:
        """Return what was measured with what the labels say, where there are some."""
        labels = self.images.labels
        if labels is None:
            return repaired
        before, after = self.right == labels, forward.classes(self.images.held_back) == labels
        return dataclasses.replace(
            repaired,
            accuracy_before=float(before.mean()),
            accuracy_after=float(after.mean()),
            lost=int((before & ~after).sum()),
            gained=int((after & ~before).sum()),
        )

    def _holds(self, forward: Forward) -> bool:
        """Whether as many held-back images are right as must be.

        Right is the label where there is one, and else what the model said before. A fraction of an
        image counts as a whole one, so that one may be lost of few.
        """
        labels = self.right if self.images.labels is None else self.images.labels
        before = int((self.right == labels).sum())
        after = int((forward.classes(self.images.held_back) == labels).sum())
        return before - after <= math.ceil((1 - self.order.keep) * before - 1e-9)

    def _success(self, forward: Forward) -> float:
        """Return the largest share of other classes' images that a class's trigger turns."""
        return max(
            (self._turned(forward, target, found) for target, found in self.triggers.items()),
            default=0.0,
        )

    def _turned(self, forward: Forward, target: int, trigger: triggers.Found) -> float:
        others = self.images.held_back[self.right != target]
        if not len(others):
            return 0.0
        return float((forward.classes(trigger.stamped(others)) == target).mean())

    def _proof(self, target: int) -> TriggerProof:
        """Measure a class's trigger before and after, and search for a new one."""
        first = self.triggers[target]
        fresh = first.size  # of a model that stayed as it was
        if self.model is not self.original:
            searched = triggers.differentiated(self.model, self.settings)
            fresh = self._smallest(searched, target, _SEARCHED_AGAIN).size
        return TriggerProof(
            class_id=target,
            before=self._turned(self.teacher, target, first),
            after=self._turned(scorer(self.model, self.settings), target, first),
            size_before=first.size if math.isfinite(first.size) else None,
            size_after=fresh if math.isfinite(fresh) else None,
        )

    def _known(self, forward: Forward) -> KnownTrigger | None:
        """Measure the trigger that the user knows before and after."""
        if self.triggered is None:
            return None
        return KnownTrigger(
            images=len(self.triggered.images),
            before=self.triggered.success(self.teacher),
            after=self.triggered.success(forward),
        )

    def _smallest(self, searched: Differentiable, target: int, place: int) -> triggers.Found:
        generator = np.random.default_rng((self.settings.seed, target, place))
        real = self.settings.has_images
        return triggers.smallest(searched, self.images.shown, target, generator, real=real)

    def _files(self) -> dict[str, parcel.Bulk]:
        """Return the repaired model as files, by suffix."""
        whole = self.model.complete(self.model.proto)
        file, data = parcel.packed(whole, self.outside, self.order.data)
        return {"": file, **({".data": data} if data.size else {})}


def _nothing(way: Way, sentence: str) -> RepairStep:
    return RepairStep(way=way, outcome=Outcome.NOTHING, sentence=sentence)


def _named(trigger: triggers.Found) -> str:
    if trigger.is_blended:
        return f"a pattern of {float(trigger.mask.flat[0]):.0%}"
    return f"{trigger.size:.1f} pixels" if math.isfinite(trigger.size) else "no patch that works"


def _dense(model: Model) -> Model:
    """Return a model whose sparse weights are written out, so that they can be changed."""
    if not model.proto.graph.sparse_initializer:
        return model
    return _rewritten(model, written_out(model.complete(model.proto)))


def _rewritten(model: Model, proto: Proto) -> Model:
    """Return a model's file with another graph."""
    data = model.complete(proto).SerializeToString()
    return Model(model.path, model.identity.path, data, model.limits)


def _rebuilt(model: Model, values: dict[str, Floats]) -> Model:
    """Return a model's file with other numbers in its tensors."""
    return _rewritten(model, parameters.replaced(model.complete(model.proto), values))
