"""Our own reading of a file, flattened and run, to be set beside the file itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import GraphError, ScannerError, WorkerError
from scanner.instruments import original, runtime
from scanner.instruments.agreement import row_distances
from scanner.modelfile.model import Model
from scanner.settings import Settings

Array = npt.NDArray[Any]

_MOST_VALUES = 1_000  # inner values that are exposed at once to find the first that differs


def open_whole(model: Model, values: Sequence[str], settings: Settings) -> runtime.Session:
    """Load the graph as it is read here, as far as it leads to some of its values.

    Raises:
        ModelError: ONNX Runtime refuses the graph, or a guard does.
        GraphError: A value is not in it.
    """
    from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx

    whole = extract.upstream(flatten.flatten(model.proto), list(values))
    return runtime.open_session(model.serialise(whole), settings.device, settings.threads)


def open_by_node(model: Model, values: Sequence[str], settings: Settings) -> runtime.Session:
    """Load the float twin of the graph, codes with their ends and no two operators fused.

    Args:
        model: The file.
        values: What it is to answer.
        settings: Where to run.

    Raises:
        ModelError: ONNX Runtime refuses the graph, or a guard does.
        GraphError: A value is not in it.
    """
    from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx
    from scanner.graph.gradient.float_twin import float_twin  # noqa: PLC0415 - as above

    whole = extract.upstream(float_twin(flatten.flatten(model.proto)), list(values))
    data = model.serialise(whole)
    return runtime.open_session(data, settings.device, settings.threads, optimise=False)


def behind(
    model: Model, value: str, scores: Array, answers: original.Answers, settings: Settings
) -> dict[str, Array]:
    """Return the outputs that the graph computes from given numbers of a value.

    Args:
        model: The file.
        value: The value.
        scores: Its numbers for each image, (n, ...).
        answers: What the original answered to these images.
        settings: Where to run.

    Raises:
        ModelError: ONNX Runtime refuses what lies behind the value.
        GraphError: Nothing does.
    """
    from scanner.graph.core import extract, flatten, shapes  # noqa: PLC0415 - onnx
    from scanner.graph.layers.head import as_input  # noqa: PLC0415 - as above

    flat = flatten.flatten(model.proto)
    there = {output.name for output in flat.graph.output}
    names = [name for name in answers.alone if name in there]
    known = shapes.value_types(flat).get(value)
    if known is not None:
        scores = scores.astype(_numpy_type(known.dtype), copy=False)
    rest = extract.between(flat, as_input(value, scores, None), names)
    session = runtime.open_session(model.serialise(rest), settings.device, settings.threads)
    rows: dict[str, list[Array]] = {name: [] for name in names}
    wanted = {given.name for given in session.native.get_inputs()}
    for index in range(len(scores)):
        places = [index] * answers.batch
        feeds = {name: (scores if name == value else answers.images)[places] for name in wanted}
        for name, array in zip(names, session.feed(feeds, names), strict=True):
            rows[name].append(array[0] if np.ndim(array) else array)
    return {name: np.stack(found) for name, found in rows.items()}


def follows(model: Model, name: str, value: str) -> bool:
    """Whether an output is computed from a value alone, the image not asked again."""
    from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx
    from scanner.graph.layers.head import as_input  # noqa: PLC0415 - as above

    flat = flatten.flatten(model.proto)
    source = as_input(value, np.zeros((1, 1), np.float32), None)
    try:
        rest = extract.between(flat, source, [name])
    except GraphError:
        return False
    return {given.name for given in rest.graph.input} <= {value}


def first_difference(
    model: Model, data: bytes, image: Array, tolerance: float, settings: Settings
) -> str | None:
    """Return the first value, in graph order, in which the file and our reading differ.

    Every value that has a name in both is exposed in both. None where it cannot be told.
    """
    from scanner.graph.core import extract, flatten  # noqa: PLC0415 - onnx

    try:
        flat = flatten.flatten(model.proto)
        computed = extract.dependent(flat.graph)
        there = {name for node in model.proto.graph.node for name in node.output if name}
        names = [n for node in flat.graph.node for n in node.output if n in there & computed]
        names = names[:_MOST_VALUES]
        theirs = original.inner_values(model, data, set(names), image, settings.threads)
        ours = original.ask_alone(open_whole(model, names, settings), image)
    except (ScannerError, ValueError, RuntimeError) as error:
        if isinstance(error, WorkerError):
            raise
        return None  # that they differ is known; where, cannot be told
    for name in names:
        if name in theirs and name in ours and theirs[name].dtype.kind == "f":
            distance = row_distances(theirs[name], ours[name])[0]
            if not distance <= tolerance:
                return str(name)
    return None


def _numpy_type(number: int) -> np.dtype[np.generic]:
    names = {1: "float32", 10: "float16", 11: "float64"}
    return np.dtype(names.get(number, "float32"))
