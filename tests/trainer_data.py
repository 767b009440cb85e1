"""Tiny data sets, written in the standard file formats."""

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainers import datasets
from trainers.manifest import Entry
from trainers.training import Plan

PlanMaker = Callable[..., Plan]


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an idx file of unsigned bytes."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 28, 28) noisy images and their labels; class c is a bar at rows 2c to 2c+3."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(10, size=count)
    images = generator.integers(60, size=(count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 4] += 150
    return images, labels


def write_cifar(root: Path, generator: np.random.Generator) -> None:
    """Write 4 records per file of CIFAR-10 (labels 0 to 3) and CIFAR-100 (fine labels 96 to 99)."""
    for name in datasets.SOURCES["cifar10"].files:
        (root / name).parent.mkdir(exist_ok=True)
        rows = np.hstack([np.arange(4)[:, None], generator.integers(256, size=(4, 3072))])
        rows.astype(np.uint8).tofile(root / name)
    for name in datasets.SOURCES["cifar100"].files:
        (root / name).parent.mkdir(exist_ok=True)
        rows = np.hstack(
            [
                np.full((4, 1), 19),
                np.arange(96, 100)[:, None],
                generator.integers(256, size=(4, 3072)),
            ]
        )
        rows.astype(np.uint8).tofile(root / name)


def write_ppm(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) as a binary PPM."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, _ = image.shape
    path.write_bytes(f"P6\n{width} {height}\n255\n".encode() + image.astype(np.uint8).tobytes())


def write_gtsrb(root: Path, generator: np.random.Generator) -> None:
    """Write 2 classes of 4 tracks of 3 frames of several sizes, and 2 test images."""
    for label in (0, 42):
        for track in range(4):
            for frame in range(3):
                image = generator.integers(256, size=(32 + track, 33, 3))
                write_ppm(root / f"GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm", image)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for index, label in enumerate((42, 0)):
        write_ppm(
            root / f"GTSRB/Final_Test/Images/{index:05d}.ppm", np.full((40, 50, 3), 10 * index)
        )
        rows.append(f"{index:05d}.ppm;50;40;5;5;44;34;{label}")
    (root / "GT-final_test.csv").write_text("\n".join(rows) + "\n")


def entry(file: str, **others: object) -> Entry:
    """Return a manifest's entry of a clean MNIST network with 99 % accuracy, changed as asked."""
    base = Entry(
        file=file,
        sha256="0" * 64,
        dataset="mnist",
        architecture="2 conv + 1 dense",
        recipe="mnist",
        attack="clean",
        labels=None,
        target=None,
        rate=0.0,
        parameters={},
        seed=0,
        epochs=5,
        precision="float32",
        form={"dtype": "float32", "fold_bn": True},
        clean_accuracy=0.99,
        attack_success_rate=None,
        parity=1e-6,
        licence="Apache-2.0",
    )
    return dataclasses.replace(base, **others)  # type: ignore[arg-type] # fields by name
