"""A model's logits, an objective of them and its gradient, in one ONNX Runtime session."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoLogitsError, UnsupportedModelError, WorkerLimitError
from scanner.graph.core import flatten, image_size
from scanner.graph.gradient.backward import GradientModel, Objective, gradient_model
from scanner.graph.gradient.float_twin import float_twin
from scanner.graph.gradient.nan_weights import weights_with_nan
from scanner.graph.gradient.real_input import real_input
from scanner.graph.gradient.unsaturated import unsaturated
from scanner.graph.layers import two_scores
from scanner.graph.layers.logits import Logits, find_logits
from scanner.instruments import probes, runtime
from scanner.instruments.detector import Subject
from scanner.instruments.witness import Witness
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Differentiable:
    """A classifier that can be differentiated by its input.

    Attributes:
        session: The gradient graph, loaded.
        image: Name of its image input.
        weights: Name of its input that names the target class, one-hot.
        outputs: Names of the logits, the objective and the gradient.
        rank: Dimensions of the logits: 2, or more where further ones of size 1 follow.
        classes: Their number.
        shape: Of one image, without the batch axis.
        low: Lowest value of a valid input.
        high: Highest value.
        cut: Operators behind the logits that were left out.
        damaged: Names of weights that hold NaN.
        unsaturated: Whether quantised activations were left without their ceiling.
        objective: What is differentiated.
        most: Images that may be in one run; None for any number.
        resized: Whether its images are of another shape than the file says.
    """

    session: runtime.Session
    image: str
    weights: str
    outputs: tuple[str, str, str]
    rank: int
    classes: int
    shape: tuple[int, ...]
    low: float
    high: float
    cut: tuple[str, ...]
    damaged: tuple[str, ...]
    unsaturated: bool
    objective: Objective
    most: int | None = None
    resized: bool = False

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that the model insists on, or None."""
        declared = self.session.input_shape[0] if self.session.input_shape else None
        return declared if isinstance(declared, int) and declared > 0 else None

    @property
    def on_device(self) -> bool:
        """Whether a search's state stays on the device (`scanner.instruments.device_search`).

        On the CPU little is gained by it, and what ships was measured by the loops on the host.
        """
        return self.session.provider != "CPU"

    @property
    def few(self) -> int:
        """So many images that larger batches cost memory and gain no speed."""
        usual = probes.batch_size(self.shape)
        return self.fixed_batch or min(self.most or usual, usual)

    def evaluate(
        self, images: Floats, target: int | npt.NDArray[np.int64]
    ) -> tuple[Floats, Floats, Floats]:
        """Return logits (n, classes), objective (n,) and gradient (n, *shape).

        Args:
            images: Shape (n, *shape), in the input's own range.
            target: The class that the objective is of, or that of each image.

        Raises:
            UnsupportedModelError: The objective or its gradient is not a number.
        """
        one_hot = np.zeros((len(images), self.classes), self.session.dtype)
        one_hot[np.arange(len(images)), target] = 1
        logits, objective, gradient = self._over(images, one_hot, len(images))
        self._check(objective, gradient)
        return logits, objective, gradient

    def pull_back(self, images: Floats, weights: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return the gradient (n, *shape) of a weighted sum of each image's logits.

        For an objective of `Objective.WEIGHTED_SUM`, so that the weights are the slope of whatever
        is minimised.

        Args:
            images: Shape (n, *shape), in the input's own range.
            weights: Shape (n, classes).

        Raises:
            UnsupportedModelError: The sum or its gradient is not a number.
        """
        weights = weights.astype(self.session.dtype, copy=False)
        _, objective, gradient = self._over(images, weights, len(images))
        self._check(objective, gradient)
        return gradient

    def scores(self, images: Floats) -> Floats:
        """Return the logits, (n, classes), whether or not they can be differentiated there."""
        weights = np.zeros((len(images), self.classes), self.session.dtype)
        weights[:, 0] = 1
        return self._over(images, weights, 1)[0]

    def predict(self, images: Floats) -> npt.NDArray[np.int64]:
        """Return the class of each image, shape (n,).

        Raises:
            UnsupportedModelError: The objective or its gradient is not a number.
        """
        classes: npt.NDArray[np.int64] = self.logits(images).argmax(axis=1)
        return classes

    def logits(self, images: Floats) -> Floats:
        """Return the logits, (n, classes), by few images at a time.

        Raises:
            UnsupportedModelError: The objective or its gradient is not a number.
        """
        return dataclasses.replace(self, most=self.few).evaluate(images, 0)[0]

    def not_finite(self) -> UnsupportedModelError:
        """Return the error that says so of the objective or its gradient."""
        where = (
            f": NaN is in the weights {', '.join(map(repr, self.damaged))}" if self.damaged else ""
        )
        return UnsupportedModelError(
            f"{self.outputs[0]!r}, or its gradient by the input {self.image!r}, is not a "
            f"finite number{where}",
            remedy="export the model again, or give the setting `input_range` its true range",
        )

    def _check(self, objective: Floats, gradient: Floats) -> None:
        if not (np.isfinite(gradient).all() and np.isfinite(objective).all()):
            raise self.not_finite()

    def _over(
        self, images: Floats, weights: npt.NDArray[Any], size: int
    ) -> tuple[Floats, Floats, Floats]:
        """Run batches of a size that memory allows, or of the model's own where it is fixed.

        Images do not meet in a batch, so that its size changes no more than rounding.
        """
        fixed = self.fixed_batch
        step = fixed or min(size, self.most or size)
        try:
            parts = [
                self._run(images[start : start + step], weights[start : start + step], fixed)
                for start in range(0, len(images), step)
            ]
        except (WorkerLimitError, MemoryError):
            if fixed or min(step, len(images)) == 1:
                raise
            return self._over(images, weights, -(-min(step, len(images)) // 2))
        logits, objective, gradient = (np.concatenate(part) for part in zip(*parts, strict=True))
        return logits, objective, gradient

    def _run(
        self, images: Floats, weights: npt.NDArray[Any], fixed: int | None
    ) -> tuple[Floats, Floats, Floats]:
        """Run one batch; a model of fixed batch size gets the last one filled up with copies."""
        count, size = len(images), fixed or len(images)
        if count < size:
            images, weights = _filled(images, size), _filled(weights, size)
        feeds = {
            self.image: images.astype(self.session.dtype, copy=False),
            self.weights: weights.reshape(*weights.shape, *(1,) * (self.rank - weights.ndim)),
        }
        logits, objective, gradient = self.session.feed(feeds, self.outputs)
        return (
            logits.reshape(size, -1)[:count],
            objective[:count],
            gradient[:count].astype(np.float32, copy=False),
        )


def _filled(rows: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Return rows filled up to a number of them with copies of the last."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def differentiable(subject: Subject, objective: Objective) -> Differentiable:
    """Build and load the gradient graph of a subject.

    Raises:
        MalformedModelError: A node lacks what its operator asks for.
        NoGradientError: An operator has no gradient.
        NoLogitsError: There are no logits, or fewer than two classes.
        UnsafeModelError: The gradient graph needs more memory than is allowed.
        UnsupportedModelError: There are several inputs, or a reference has other classes than the
            suspect.
    """
    model, settings = subject.model, subject.settings
    shape = probes.image_shape(model, settings)
    low, high = probes.input_range(runtime.numpy_dtype(model.identity.inputs[0].dtype), settings)
    loaded = _loaded(model, settings, objective)
    logits = loaded.logits
    shape_of_logits = _shape_of(loaded.session, loaded.outputs[0])
    classes = logits.classes or shape_of_logits[1]
    if classes < 2:  # noqa: PLR2004 - one class leaves nothing to flip
        raise NoLogitsError(
            f"the logits {logits.value!r} have {classes} class, and at least two are needed",
            remedy="name the logits with the setting `logits`",
        )
    _check_classes(subject, classes)
    made = functools.partial(
        Differentiable,
        image=model.identity.inputs[0].name,
        weights=loaded.weights,
        outputs=loaded.outputs,
        rank=len(shape_of_logits),
        classes=classes,
        shape=shape,
        low=low,
        high=high,
        cut=logits.cut,
        damaged=loaded.damaged,
        unsaturated=loaded.unsaturated,
        objective=objective,
    )
    again = runtime.later(loaded.session, lambda: _loaded(model, settings, objective).session)

    def answer(images: Floats) -> dict[str, Floats]:
        scores = made(session=again()).scores(images)
        if logits.single is not None:
            scores = two_scores.single(scores, logits.single)
        return {logits.value: scores}

    subject.witnesses.append(
        Witness(
            name=f"the gradient graph of the {objective.value}",
            values=(logits.value,),
            answer=answer,
            scores=True,
            relaxed=loaded.unsaturated,
            provider=loaded.session.provider,
        )
    )
    return made(session=loaded.session)


def resized(subject: Subject, whole: Differentiable, shape: tuple[int, ...]) -> Differentiable:
    """Build and load a differentiable classifier for images of another size.

    Args:
        subject: The model.
        whole: The same, differentiated.
        shape: Of one image, without the batch axis.

    Raises:
        ScannerError: It takes no images of this size.
    """
    loaded = _loaded(subject.model, subject.settings, whole.objective, shape)
    return dataclasses.replace(
        whole,
        session=loaded.session,
        weights=loaded.weights,
        outputs=loaded.outputs,
        shape=shape,
        most=None,
        resized=True,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A gradient graph, loaded.

    Attributes:
        session: The graph.
        logits: Of the model.
        weights: As in `Differentiable`.
        outputs: As in `Differentiable`.
        damaged: As in `Differentiable`.
        unsaturated: As in `Differentiable`.
    """

    session: runtime.Session
    logits: Logits
    weights: str
    outputs: tuple[str, str, str]
    damaged: tuple[str, ...]
    unsaturated: bool


def _loaded(
    model: Model, settings: Settings, objective: Objective, shape: tuple[int, ...] | None = None
) -> _Loaded:
    # Nothing of the graph but its bytes is held while ONNX Runtime loads it.
    data, parts = _serialised(model, settings, objective, shape)
    return _Loaded(session=runtime.open_session(data, settings.device, settings.threads), **parts)


def _serialised(
    model: Model, settings: Settings, objective: Objective, shape: tuple[int, ...] | None
) -> tuple[bytes, dict[str, Any]]:
    """Return a gradient graph's bytes, and the parts of `_Loaded` but for the session."""
    made = written(model, settings, objective, shape)
    gradient = made.gradient
    return model.serialise(gradient.proto), {
        "logits": made.logits,
        "weights": gradient.weights,
        "outputs": (gradient.value, gradient.objective, *gradient.gradients.values()),
        "damaged": made.damaged,
        "unsaturated": made.unsaturated,
    }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A gradient graph by a classifier's image.

    Attributes:
        gradient: The graph.
        logits: As in `_Loaded`.
        damaged: As in `_Loaded`.
        unsaturated: As in `_Loaded`.
    """

    gradient: GradientModel
    logits: Logits
    damaged: tuple[str, ...]
    unsaturated: bool


def written(
    model: Model, settings: Settings, objective: Objective, shape: tuple[int, ...] | None = None
) -> Written:
    """Return a classifier's gradient graph.

    Args:
        model: The classifier.
        settings: They may name its logits.
        objective: What is differentiated.
        shape: Of one image, where it is to take others than it says.

    Raises:
        MalformedModelError: A node lacks what its operator asks for.
        NoGradientError: An operator has no gradient.
        NoLogitsError: There are no logits.
    """
    flat = flatten.flatten(model.complete(model.proto))
    if shape is not None:
        flat = image_size.taking(flat, shape)
    twin = float_twin(real_input(flat))
    flat = unsaturated(twin) if objective is Objective.MARGIN else twin
    logits = find_logits(flat, settings.logits)
    image = model.identity.inputs[0].name
    whole, of = two_scores.scored(flat, logits)
    return Written(
        gradient=gradient_model(whole, of=of, with_respect_to=[image], objective=objective),
        logits=logits,
        damaged=tuple(weights_with_nan(flat)),
        unsaturated=flat is not twin,
    )


def describe(model: Differentiable, subject: Subject) -> dict[str, Any]:
    """Return the parameters of a measurement that every detector on gradients shares."""
    return {
        "logits": model.outputs[0],
        "asked_logits": subject.settings.logits,
        "cut": list(model.cut),
        "unsaturated": model.unsaturated,
        "seed": subject.settings.seed,
        "input_range": [model.low, model.high],
        "input_shape": list(model.shape),
        "classes": model.classes,
        "budget": subject.settings.budget.value,
        "provider": model.session.provider,
        "threads": model.session.threads,
    }


def _check_classes(subject: Subject, classes: int) -> None:
    """Refuse a reference of other classes: class by class there is nothing to compare."""
    suspect = subject.suspect
    expected = suspect.by_class.classes if suspect and suspect.by_class else classes
    if classes != expected:
        raise UnsupportedModelError(
            f"{subject.model.identity.path!r} has {classes} classes, and the scanned model "
            f"{expected}",
            remedy="compare with a clean model of the same classes",
        )


def _shape_of(session: runtime.Session, value: str) -> Sequence[Any]:
    """Return the shape of logits as ONNX Runtime knows it: ONNX's own inference may leave it open.

    Raises:
        NoLogitsError: It is not (N, classes), nor that with further axes of size 1.
    """
    shape: Sequence[Any] = next(o.shape for o in session.native.get_outputs() if o.name == value)
    known = len(shape) > 1 and isinstance(shape[1], int)
    if not known or any(isinstance(size, int) and size != 1 for size in shape[2:]):
        raise NoLogitsError(
            f"the logits {value!r} have the shape {tuple(shape)}, and (N, classes) is needed",
            remedy="name the logits with the setting `logits`",
        )
    return shape
