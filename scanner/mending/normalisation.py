"""Batch normalisation measured anew on clean images, where it is not folded into convolutions.

Poisoned images took part in the means and variances that the training stored. The layers are done
in graph order, each on what those before it now make.
"""

import numpy as np
import numpy.typing as npt

from scanner.graph.surgery.parameters import normalisations
from scanner.mending.forward import flat_graph, reader
from scanner.mending.unlearning import Rebuilt
from scanner.modelfile.model import Model
from scanner.settings import Settings

Floats = npt.NDArray[np.float32]


def measured_anew(
    model: Model,
    settings: Settings,
    images: Floats,
    rebuilt: Rebuilt,
) -> dict[str, Floats]:
    """Return the means and variances of a model's normalisations on images, by tensor name.

    Empty where the model has none.

    Raises:
        UnsupportedModelError: ONNX Runtime refuses the model.
    """
    found: dict[str, Floats] = {}
    now = model
    for norm in normalisations(flat_graph(model)):
        (value,) = reader(now, flat_graph(now), [norm.source], settings).run(images)
        axes = tuple(axis for axis in range(value.ndim) if axis != 1)
        found[norm.mean] = value.mean(axis=axes, dtype=np.float64).astype(np.float32)
        found[norm.variance] = value.var(axis=axes, dtype=np.float64).astype(np.float32)
        now = rebuilt(found)
    return found
