"""Whether a file in 16 bits can compute what no search on it in 32 bits sees."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError
from scanner.instruments import original, runtime
from scanner.modelfile.model import Model
from scanner.results import Observation, Severity
from scanner.settings import Settings

Array = npt.NDArray[Any]

_LARGEST = 65_504.0  # float16's; beyond it lies infinity
_SLACK = 8.0
"""Times what a layer reads on the images that were tried: others may drive it further."""
_LISTED = 5  # values that a finding names


def beyond(model: Model, data: bytes, images: Array, settings: Settings) -> Iterator[Observation]:
    """Yield a warning where a layer can drive a value in float16 beyond its largest number.

    Of each layer, what it reads is watched on images; its weights tell how far that can drive it.

    Args:
        model: The file as it was read.
        data: Its bytes, as ONNX Runtime gets them.
        images: The images, (n, *shape), in the type of the input.
        settings: Where to run.

    Raises:
        ModelError: ONNX Runtime refuses the file, or a guard does.
    """
    from scanner.graph.core import flatten  # noqa: PLC0415 - onnx
    from scanner.graph.dormancy import half_range  # noqa: PLC0415 - as above

    found = half_range.find(flatten.flatten(model.complete(model.proto)))
    if found is None:
        return
    entrances = set(found.entrances)
    watched = original.inner_values(model, data, entrances, images, settings.threads)
    watched |= dict.fromkeys(entrances & {model.identity.inputs[0].name}, images)
    boxes = {
        name: _box(rows, found.entrances[name])
        for name, rows in watched.items()
        if name in entrances and rows.dtype.kind == "f" and rows.ndim > 1
    }
    try:
        graph = half_range.reach(found, {name: ends[0].shape for name, ends in boxes.items()})
        if not graph.values:
            return
        session = runtime.open_session(
            model.serialise(graph.proto), settings.device, settings.threads
        )
        names = [output.name for output in session.native.get_outputs()]
        feeds = {
            end: numbers
            for name, pair in graph.box.items()
            for end, numbers in zip((pair.low, pair.high), boxes[name], strict=True)
        }
        made = dict(zip(names, session.feed(feeds), strict=True))
    except UnsupportedModelError:
        return  # an older operator set, or sizes that do not fit one image: nothing is known
    sizes = {
        name: float(max(-made[pair.low], made[pair.high])) for name, pair in graph.values.items()
    }
    far = {name: size for name, size in sizes.items() if size > _LARGEST}
    if far:
        first, size = max(far.items(), key=lambda item: item[1])
        yield Observation(
            code="beyond-float16",
            severity=Severity.WARNING,
            sentence=f"The file holds {first!r} in float16, whose largest number is 65,504, and "
            f"what its layer reads, if {_SLACK:g} times as large as on the images that were tried, "
            f"drives it to {size:.3g}: there the file answers otherwise than the network in 32 "
            "bits that was searched; scan the model as it was before its conversion",
            details={"values": sorted(far, key=lambda name: -far[name])[:_LISTED]},
        )


def _box(rows: Array, axis: int) -> tuple[Array, Array]:
    """Return how low and high each channel may go, (1, ...): as far as on images, and some more.

    A channel that no image moves may go as far as any.
    """
    numbers = np.nan_to_num(rows.astype(np.float32))
    others = tuple(n for n in range(rows.ndim) if n != axis % rows.ndim)
    low, high = numbers.min(axis=others, keepdims=True), numbers.max(axis=others, keepdims=True)
    still = low == high
    low, high = (np.where(still, end(numbers), own) for own, end in ((low, np.min), (high, np.max)))
    ends = (np.minimum(low, 0) * _SLACK, np.maximum(high, 0) * _SLACK)
    low, high = (np.ascontiguousarray(np.broadcast_to(e, (1, *rows.shape[1:]))) for e in ends)
    return low.astype(np.float32), high.astype(np.float32)
