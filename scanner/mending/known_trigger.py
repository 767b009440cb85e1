"""Images that bear a trigger which the user knows, to tell what a repair leaves of it.

Nothing is learnt from them: what is measured on them says more than any trigger that was searched
for.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scanner.errors import UsageError
from scanner.instruments import image_files, probes
from scanner.mending.forward import Forward

Floats = npt.NDArray[np.float32]
MOST = 2000  # images that are run


@dataclasses.dataclass(frozen=True, slots=True)
class Triggered:
    """Images under a known trigger.

    Attributes:
        images: In the model's layout and range, (n, *shape).
        targets: The classes that the trigger asks for: one for each image, (n, 1), or several of
            which any will do for all, (1, k).
    """

    images: Floats
    targets: npt.NDArray[np.int64]

    def success(self, forward: Forward) -> float:
        """Return the share of the images that get a class that the trigger asks for."""
        answers = forward.classes(self.images)[:, None]
        return float((answers == self.targets).any(axis=1).mean())


def read(
    path: Path, shape: tuple[int, ...], span: tuple[float, float], targets: Sequence[int]
) -> Triggered:
    """Return the images of an .npz or .npy, the first of them where there are many.

    Args:
        path: The file. Its array `targets` names a class for each image, its array `labels` the
            right one: an image that is of the class anyway tells nothing, and is left out.
        shape: Of one image.
        span: Of the model's input.
        targets: The classes to take where the file names none.

    Raises:
        UsageError: It cannot be read, or does not fit the input, or no class is known.
    """
    images = probes.fitted(image_files.from_file(path), shape, span, str(path), least=1)
    named, right = (_classes(path, name, len(images)) for name in ("targets", "labels"))
    if named is None and not targets:
        raise UsageError(
            f"nothing says which class the trigger of {path.name!r} asks for",
            remedy="put an array `targets` beside the images, one class for each, or give the "
            "setting `targets`",
        )
    asked = np.array([targets], np.int64) if named is None else named[:, None]
    asked = np.broadcast_to(asked, (len(images), asked.shape[1]))
    told = np.ones(len(images), dtype=bool)
    if right is not None:
        told = (asked != right[:, None]).all(axis=1)
    if not told.any():
        raise UsageError(
            f"all images of {path.name!r} are of the class that the trigger asks for",
            remedy="give images of other classes",
        )
    return Triggered(images[told][:MOST], asked[told][:MOST])


def _classes(path: Path, name: str, count: int) -> npt.NDArray[np.int64] | None:
    found = image_files.labels_from_file(path, name)
    if found is not None and len(found) != count:
        raise UsageError(
            f"{path.name!r} holds {count} images and {len(found)} {name}",
            remedy="give one for each image",
        )
    return found
