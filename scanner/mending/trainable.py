"""A model whose weights are inputs of its gradient graph, and steps of Adam on them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import NoGradientError
from scanner.graph.core.draft import Proto
from scanner.graph.core.structure import Uses
from scanner.graph.gradient.backward import Objective, gradient_model
from scanner.graph.layers.logits import find_logits
from scanner.graph.layers.two_scores import scored
from scanner.graph.surgery import parameters
from scanner.instruments import runtime
from scanner.instruments.noise_runs import fixed_batch
from scanner.mending.forward import flat_graph
from scanner.modelfile.model import Model
from scanner.sandbox import deadline
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]

MOST_WEIGHTS = 1 << 27
"""That learn: each takes eight copies, gradients and moments among them, in float32."""
_BETAS = (0.9, 0.999)  # Kingma and Ba 2015, the recommended decay rates
_EPSILON = 1e-8
_USUAL = 0.12
"""Root mean square of the weights whose steps are as long as the rate, as most tensors' is in the
development networks."""


@dataclasses.dataclass(slots=True)
class Trainable:
    """A classifier whose weights can be changed by gradient steps.

    They are Adam's, but for two things. The second moment is one number for each tensor: steps are
    then as long as Adam's, and go where the gradient is; with a moment for each weight, those that
    have nothing to do with the backdoor move as far as the others, and few images cannot hold them.
    And heavy tensors take longer steps, in proportion to their weights (after Y. You et al., "Large
    Batch Training of Convolutional Networks", arXiv 1708.03888, section 4): narrow networks have
    heavy weights, which steps of one length for all hardly change.

    Attributes:
        session: The gradient graph, loaded; its weights are inputs.
        image: Name of its image input.
        weights: Name of the input that takes the wanted probabilities.
        ones: Sizes of its axes behind that of the classes, all 1.
        outputs: Names of the objective and the gradients.
        values: The weights and biases, by name, float32; changed in place.
    """

    session: runtime.Session
    image: str
    weights: str
    ones: tuple[int, ...]
    outputs: tuple[str, ...]
    values: dict[str, Floats]
    _first: dict[str, Floats] = dataclasses.field(default_factory=dict)
    _second: dict[str, float] = dataclasses.field(default_factory=dict)
    _time: int = 0
    _paces: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose how much longer than the rate each tensor's steps are."""
        for name, value in self.values.items():
            weight = math.sqrt(float(np.square(value).mean())) if value.size else 0.0
            self._paces[name] = max(1.0, weight / _USUAL)

    def descend(self, images: Floats, wanted: Floats, rate: float) -> float:
        """Take one step down the mean cross-entropy; return that before the step.

        Args:
            images: Shape (n, *shape).
            wanted: The probabilities that the model should give them, (n, classes).
            rate: Of learning.

        Raises:
            UnsupportedModelError: ONNX Runtime fails.
        """
        deadline.check()
        size = fixed_batch(self.session) or len(images)
        loss, *gradients = self._sums(images[:size], wanted[:size], size)
        for start in range(size, len(images), size):
            end = start + size
            more, *others = self._sums(images[start:end], wanted[start:end], size)
            loss += more
            gradients = [one + other for one, other in zip(gradients, others, strict=True)]
        self._time += 1
        for name, gradient in zip(self.values, gradients, strict=True):
            step = rate * self._paces[name]
            self._step(name, (gradient / len(images)).astype(np.float32), step)
        return float(loss / len(images))

    def _sums(self, images: Floats, wanted: Floats, size: int) -> list[Any]:
        """Return the sums over one batch of the cross-entropy and of its gradients.

        Of images that fill the batch up nothing is wanted, and so nothing is learnt.
        """
        missing = size - len(images)
        if missing:
            images = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
            wanted = np.concatenate([wanted, np.zeros((missing, wanted.shape[1]), wanted.dtype)])
        dtype = self.session.dtype
        feeds: dict[str, npt.NDArray[Any]] = {
            self.image: images.astype(dtype, copy=False),
            self.weights: wanted.astype(dtype, copy=False).reshape(*wanted.shape, *self.ones),
            **self.values,
        }
        losses, *gradients = self.session.feed(feeds, self.outputs)
        return [losses.sum(), *gradients]

    def _step(self, name: str, gradient: Floats, rate: float) -> None:
        first = self._first.setdefault(name, np.zeros_like(gradient))
        second = self._second.get(name, 0.0)
        first += (1 - _BETAS[0]) * (gradient - first)
        second += (1 - _BETAS[1]) * (float(np.square(gradient).mean()) - second)
        self._second[name] = second
        mean = first / (1 - _BETAS[0] ** self._time)
        length = math.sqrt(second / (1 - _BETAS[1] ** self._time)) + _EPSILON
        self.values[name] -= (rate / length * mean).astype(np.float32)


def trainable(model: Model, settings: Settings) -> Trainable:
    """Build and load the graph of a model's gradient by its weights.

    Raises:
        NoGradientError: An operator has no gradient, or no weights are stored as floats.
        NoLogitsError: There are no logits.
        UnsupportedModelError: The weights are quantised.
    """
    flat = flat_graph(model)
    stored = {tensor.name for tensor in model.proto.graph.initializer} | _constants(model)
    learning = _last(flat)
    names = [name for name in tensors(learning) if name in stored]
    if not learning and any(parameters.layers(flat)):
        raise NoGradientError(
            f"the last layer alone has more than {MOST_WEIGHTS:,} weights, too many to learn",
            remedy="repair it by pruning",
        )
    if not names:
        raise NoGradientError(
            "no weights of a convolution or dense layer are stored in the graph itself",
            remedy="export the model without model-local functions",
        )
    whole, scores = scored(flat, find_logits(flat, settings.logits))
    gradient = gradient_model(
        parameters.as_inputs(whole, names),
        of=scores,
        with_respect_to=names,
        objective=Objective.CROSS_ENTROPY,
    )
    session = runtime.open_session(
        model.serialise(gradient.proto), settings.device, settings.threads
    )
    return Trainable(
        session=session,
        image=model.identity.inputs[0].name,
        weights=gradient.weights,
        ones=(1,) * (_rank(session, gradient.weights) - 2),
        outputs=(gradient.objective, *(gradient.gradients[name] for name in names)),
        values={name: value.copy() for name, value in parameters.values(flat, names).items()},
    )


def _rank(session: runtime.Session, name: str) -> int:
    """Return the dimensions of an input."""
    return next(len(i.shape) for i in session.native.get_inputs() if i.name == name)


def _last(flat: Proto) -> list[parameters.Layer]:
    """Return a graph's layers, but for the first ones where all have too many weights."""
    found, weights = list(parameters.layers(flat)), 0
    constants = Uses(flat.graph).constants
    for place in reversed(range(len(found))):
        weights += math.prod(constants[found[place].weights].dims)
        if weights > MOST_WEIGHTS:
            return found[place + 1 :]
    return found


def tensors(layers: Sequence[parameters.Layer]) -> list[str]:
    """Return the names of layers' weights and biases, each once."""
    return list(dict.fromkeys(n for layer in layers for n in (layer.weights, layer.bias) if n))


def _constants(model: Model) -> set[str]:
    return {n.output[0] for n in model.proto.graph.node if n.op_type == "Constant" and n.output}
