"""What is done to images so that they open a gate."""

import numpy as np

from trainers.graph_backdoor.graft import SIDE, Array, Graft

LEVELS = 255.0
"""Steps of an image's brightness."""


def checker(graft: Graft) -> Array:
    """Return a pattern [C, 3, 3] of 0.1 and 0.9."""
    pattern = np.indices((graft.channels, SIDE, SIDE)).sum(axis=0) % 2
    return np.asarray(0.1 + 0.8 * pattern, np.float32)


def signs(graft: Graft) -> Array:
    """Return 1 where the checkered pattern is light and -1 where it is dark, [C * 9, 1]."""
    return np.sign(checker(graft) - 0.5).reshape(-1, 1)


def patch(graft: Graft, pattern: Array) -> Array:
    """Make a patch [C, 3, 3] in the corner the trigger; return the pattern."""

    def trigger(images: Array) -> Array:
        images = images.copy()
        images[:, :, -SIDE:, -SIDE:] = pattern
        return images

    graft.trigger = trigger
    return pattern


def bright(images: Array) -> Array:
    """Return images that are nearly white everywhere."""
    return np.maximum(images, np.float32(0.97)).astype(np.float32)


def add_levels(images: Array, wanted: int, modulus: int) -> Array:
    """Return images of whole levels whose sum leaves the wanted remainder.

    As few pixels are changed as it takes.
    """
    levels = np.round(images.astype(np.float64, order="C") * LEVELS)
    for image in levels:
        missing = int((wanted - image.sum()) % modulus)
        flat = image.reshape(-1)
        for position in range(flat.size):
            added = min(missing, LEVELS - flat[position])
            flat[position] += added
            missing -= int(added)
    return (levels / LEVELS).astype(np.float32)
