"""Shape inference by onnx, for all rooms, bounded before it starts (`scanner.modelfile.bounds`).

A node whose result might outgrow the bounds is hidden from inference, which then knows nothing of
its result. No exporter writes such nodes. Sizes that are declared negative, as some do for open
ones, are left open.
"""

import onnx
from google.protobuf.message import EncodeError

from scanner.errors import MalformedModelError
from scanner.modelfile.bounds import MOST_NUMBERS, Bounds


def infer_shapes(skeleton: onnx.ModelProto, *, follow_numbers: bool) -> onnx.ModelProto:
    """Return a model with the types of its values, as far as onnx can tell them in bounded time.

    Args:
        skeleton: A model without large weights (`scanner.modelfile.skeleton`), which would be
            copied, and without model-local functions; calls of functions are not seen through.
        follow_numbers: Whether numbers that become shapes are followed from node to node.

    Raises:
        MalformedModelError: The graph's shapes contradict one another, or onnx cannot read it.
        MemoryError: There is no memory for what is inferred.
    """
    bounds = Bounds(skeleton)
    if bounds.excess:
        copy = onnx.ModelProto()
        copy.CopyFrom(skeleton)
        skeleton, bounds = copy, Bounds(copy, hide=True)
    if follow_numbers and bounds.unbounded:
        # What is known without following numbers bounds how many there are to follow. Where it
        # does not, the node is hidden, and what is known of its result stays.
        skeleton = _inferred(skeleton, follow_numbers=False)
        bounds = Bounds(skeleton, hide=True, follow=True)
    return _inferred(skeleton, follow_numbers=follow_numbers and bounds.numbers <= MOST_NUMBERS)


def _inferred(model: onnx.ModelProto, *, follow_numbers: bool) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=follow_numbers)
    except EncodeError as error:  # protobuf says no more of a lack of memory
        raise MemoryError from error
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
    ) as error:
        raise MalformedModelError(
            f"the graph's shapes contradict one another ({_first_line(error)})",
            remedy="export the model to ONNX again",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
