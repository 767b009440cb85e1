"""Whether a model is one that detectors can ask, and whether images are some to ask it with.

The first is found out from the graph, before anything runs; the second from the images.
"""

import numpy as np
import numpy.typing as npt

from scanner.errors import (
    GraphError,
    NoGradientError,
    NoLayerError,
    NoLogitsError,
    UnsupportedModelError,
    UsageError,
)
from scanner.instruments import probes, runtime
from scanner.instruments.detector import Needs
from scanner.modelfile.model import Model
from scanner.settings import Settings

RUNS = Needs.ACTIVATIONS | Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES
# Elements of pixels; a sentence or a category is made of wider integers or text.
_PLANE = 2  # axes of an image
# Noise has 0.0; of the test images of MNIST, Fashion-MNIST, GTSRB and CIFAR-10, 20 at a time, the
# median is 0.78 at least, and no single image is below 0.37.
_RELATED = 0.2
_PIXELS = frozenset({"float", "float16", "double", "bfloat16", "uint8", "int8"})


def unsuitable(model: Model, settings: Settings) -> str | None:
    """Say why no image can be shown to a model, or None where one can.

    That is a model with several inputs or none, one whose input has open sizes, or one that takes
    text or categories.
    """
    try:
        probes.image_shape(model, settings)
    except UnsupportedModelError as error:
        return _sentence(error)
    except UsageError as error:
        if settings.input_shape is not None:  # what was given is wrong: no property of the model
            return None
        return _sentence(error)
    dtype = model.identity.inputs[0].dtype
    if dtype in _PIXELS or settings.input_range is not None:
        return None
    return (
        f"{model.identity.path!r} takes {dtype} values, as text and categories are, and no pixels; "
        "if these are pixels, give their lowest and highest value with the setting `input_range`"
    )


def images_doubt(model: Model, settings: Settings) -> str:
    """Say why the user's images are none that a network was trained on; empty where they may be.

    Raises:
        UsageError: They cannot be read, or do not fit the input.
        UnsupportedModelError: The model takes no image.
    """
    shape = probes.image_shape(model, settings)
    dtype = runtime.numpy_dtype(model.identity.inputs[0].dtype)
    near = nearness(probes.varied(settings, shape, dtype))
    if near is None or near >= _RELATED:
        return ""
    return (
        f"{(settings.images_file or settings.images_folder)!r} holds noise, and no images that a "
        f"model is trained on: pixels beside one another correlate by {near:.2f}, in images by 0.4 "
        "to 1; give images of the kind that the model was trained on"
    )


def nearness(images: npt.NDArray[np.float32]) -> float | None:
    """Return by how much pixels beside one another correlate, in the median over images.

    An image of one colour counts as 1. None where there are fewer than two axes of pixels: what
    lies beside one another in a table of features need not be related.

    Args:
        images: (n, *shape), the channels on any axis.
    """
    axes = [axis for axis, size in enumerate(images.shape[1:]) if size > probes.CHANNELS]
    if len(axes) < _PLANE:
        return None
    return float(np.median([np.mean([_beside(each, axis) for axis in axes]) for each in images]))


def _beside(image: npt.NDArray[np.float32], axis: int) -> float:
    """Return the correlation of pixels with the next ones along an axis."""
    values = np.moveaxis(image.astype(np.float64), axis, 0)
    one, other = (part - part.mean() for part in (values[:-1], values[1:]))
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return 1.0 if size == 0 else float((one * other).sum()) / size


def obstacle(needs: Needs, model: Model, settings: Settings) -> str | None:
    """Say what a detector with these needs would miss in a model, or None.

    The graph tells, so nothing is run; what only a run can tell is not known here.

    Raises:
        ModelError: The model cannot be read as a graph.
    """
    if not needs & RUNS:
        return None
    # They load onnx, which a scan can often do without.
    from scanner.graph.core import flatten  # noqa: PLC0415
    from scanner.graph.gradient.backward import gradient_model  # noqa: PLC0415
    from scanner.graph.gradient.real_input import real_input  # noqa: PLC0415
    from scanner.graph.layers import activations  # noqa: PLC0415
    from scanner.graph.layers.logits import find_logits  # noqa: PLC0415

    try:
        flat = flatten.flatten(model.proto)
        if Needs.ACTIVATIONS in needs:
            activations.choose(flat, settings.layer)
        if Needs.LOGITS in needs:
            logits = find_logits(flat, settings.logits)
            if Needs.GRADIENTS in needs:
                image = model.identity.inputs[0].name
                whole = real_input(model.complete(flat))
                gradient_model(whole, of=logits.value, with_respect_to=[image])
    except (NoGradientError, NoLayerError, NoLogitsError) as error:
        return _sentence(error)
    return None


def _sentence(error: GraphError | UnsupportedModelError | UsageError) -> str:
    return str(error).removesuffix(".")
