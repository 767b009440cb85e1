"""Whether a model is one that detectors can ask: found out from its graph, before anything runs."""

from scanner.errors import (
    GraphError,
    NoGradientError,
    NoLayerError,
    NoLogitsError,
    UnsupportedModelError,
    UsageError,
)
from scanner.instruments import probes
from scanner.instruments.detector import Needs
from scanner.modelfile.model import Model
from scanner.settings import Settings

RUNS = Needs.ACTIVATIONS | Needs.LOGITS | Needs.GRADIENTS | Needs.IMAGES
# Elements of pixels; a sentence or a category is made of wider integers or text.
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
                gradient_model(real_input(flat), of=logits.value, with_respect_to=[image])
    except (NoGradientError, NoLayerError, NoLogitsError) as error:
        return _sentence(error)
    return None


def _sentence(error: GraphError | UnsupportedModelError | UsageError) -> str:
    return str(error).removesuffix(".")
