"""What the layer-wise statistics cost beside a plain forward pass.

One thread; processor time of the same images through the plain model and through the one whose only
outputs are the maxima and means of every activation, in turn, so that other load cancels out of the
ratio.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import numpy.typing as npt

from benchmarks import resnet50
from benchmarks.measure import BELOW, Ratio
from scanner.graph.core import extract, flatten
from scanner.graph.layers import activations, reductions
from scanner.instruments import runtime
from scanner.modelfile.model import Model, open_model
from scanner.settings import Device

SAMPLES = Path(__file__).parent.parent / "samples"
BAR = 1.10


def reduced(model: Model) -> bytes:
    """Return the model whose outputs are the statistics of its activations."""
    flat = flatten.flatten(model.proto)
    found = activations.activations(flat)
    return model.serialise(
        reductions.per_channel_statistics(extract.upstream(flat, [a.value for a in found]), found)[
            0
        ]
    )


def seconds(session: runtime.Session, images: npt.NDArray[np.float32], repeats: int) -> float:
    """Return the processor time of some forward passes."""
    start = time.process_time()
    for _ in range(repeats):
        session.run(images)
    return time.process_time() - start


def ratio(path: Path, shape: Sequence[int], repeats: int, rounds: int) -> Ratio:
    """Return the statistics' cost over the plain model's, one ratio per round after a warm-up."""
    model = open_model(path)
    plain, ours = (
        runtime.open_session(data, Device.CPU, 1) for data in (model.data, reduced(model))
    )
    images = np.random.default_rng(0).random(shape, dtype=np.float32)
    values = [
        seconds(ours, images, repeats) / seconds(plain, images, repeats) for _ in range(rounds + 1)
    ]
    return Ratio(
        name=f"processor time, every activation : plain, {path.stem}",
        values=values[1:],
        bar=BAR,
        side=BELOW,
    )


def main() -> None:
    """Print every ratio with its bar; exit with 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=9, help="pairs of runs; a third as many for ResNet-50"
    )
    rounds = parser.parse_args().rounds
    found = [
        ratio(SAMPLES / f"{name}.onnx", (64, 1, 28, 28), 20, rounds)
        for name in ("mnist-clean", "fashion-mnist-clean")
    ]
    with tempfile.TemporaryDirectory() as folder:
        large = resnet50.write(Path(folder) / "resnet50.onnx", 1)
        found.append(ratio(large, (8, 3, 224, 224), 1, max(3, rounds // 3)))
    print(*found, sep="\n")
    sys.exit(not all(one.holds for one in found))


if __name__ == "__main__":
    main()
