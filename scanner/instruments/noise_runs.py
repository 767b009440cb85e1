"""A model's answers to noise, image by image."""

from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.errors import UnsupportedModelError, WorkerLimitError
from scanner.instruments import probes, runtime
from scanner.instruments.detector import Subject
from scanner.settings import Noise

Array = npt.NDArray[Any]

_SAME = 1e-3  # relative; the same image alone and in a batch differs by rounding only


def over_noise(session: runtime.Session, shape: tuple[int, ...], subject: Subject) -> list[Array]:
    """Return each output of a session over all noise images, (images, ...).

    A model that mixes the images of a batch is run one image at a time; what it then has on axis 0
    counts as that image's.

    Raises:
        UnsupportedModelError: An output is not a finite number, or has no part for each image.
    """
    settings, done = subject.settings, 0
    batch = fixed_batch(session) or (None if _keeps_images_apart(session, shape, subject) else 1)
    parts: list[list[Array]] = []
    for images in probes.noise_batches(shape, session.dtype, settings, batch):
        parts.append(_run(session, images, batch))
        done += len(images)
        subject.progress(done, settings.images)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    if not all(np.isfinite(column).all() for column in columns):
        raise UnsupportedModelError(
            "an inner value is not a finite number on noise images: weights hold NaN or infinity, "
            "or overflow",
            remedy="export the model again, or give the setting `input_range` its true range",
        )
    return columns


def _run(session: runtime.Session, images: Array, batch: int | None) -> list[Array]:
    """Run images at once, or in halves where memory does not suffice and no size is asked for."""
    try:
        return run_filled(session, images, batch or len(images))
    except (WorkerLimitError, MemoryError):
        if batch or len(images) == 1:
            raise
    half = -(-len(images) // 2)
    parts = [_run(session, part, None) for part in (images[:half], images[half:])]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def conditions(
    session: runtime.Session, shape: tuple[int, ...], subject: Subject
) -> dict[str, Any]:
    """Return the parameters that `over_noise` depends on."""
    settings = subject.settings
    used = (
        settings.images_file or settings.images_folder if settings.noise is Noise.SHUFFLED else None
    )
    return {
        "noise": settings.noise.value,
        **({"data": used} if used else {}),
        "images": settings.images,
        "seed": settings.seed,
        "input_range": list(probes.input_range(session.dtype, settings)),
        "input_shape": list(shape),
        "dtype": str(session.dtype),
        "provider": session.provider,
        "threads": session.threads,
    }


def fixed_batch(session: runtime.Session) -> int | None:
    """Return the batch size that a model insists on, or None."""
    first = session.input_shape[0] if session.input_shape else None
    return first if isinstance(first, int) and first > 0 else None


def run_filled(session: runtime.Session, rows: Array, batch: int) -> list[Array]:
    """Run one batch of exactly `batch` rows, filled with copies of the last row."""
    missing = batch - len(rows)
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
    return [_by_image(output, batch)[: len(rows)] for output in session.run(filled)]


def _by_image(output: Array, batch: int) -> Array:
    if output.shape[:1] == (batch,):
        return output
    if output.size % batch:
        raise UnsupportedModelError(
            f"an inner value of shape {output.shape} cannot be told apart by image, of which there "
            f"were {batch}",
            remedy="choose another layer with the setting `layer`",
        )
    return output.reshape(batch, -1)


def _keeps_images_apart(session: runtime.Session, shape: tuple[int, ...], subject: Subject) -> bool:
    """Whether an image's numbers are the same in a batch as alone.

    They are not where axis 0 is not the batch everywhere.
    """
    pair = next(probes.noise_batches(shape, session.dtype, subject.settings, 2))
    together, alone = session.run(pair), run_filled(session, pair[:1], 1)
    return all(
        both.size == len(pair) * one.size
        and np.allclose(
            both.reshape(len(pair), -1)[0], one.reshape(-1), rtol=_SAME, atol=_SAME, equal_nan=True
        )
        for both, one in zip(together, alone, strict=True)
    )
