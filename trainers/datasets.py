"""Images and labels, read from the standard folders and formats, held as tensors.

A split is two tensors, so that an augmentation or a trigger is one more function over a batch, and
loading a batch is one indexing operation.
"""

import csv
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainers.errors import DatasetError
from trainers.files import sha256
from trainers.recipes import Variant


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One half of a data set.

    Attributes:
        images: uint8, (N, C, H, W).
        labels: int64, (N,).
        tracks: int64, (N,): images that share one are near duplicates, and stay together when a
            split is divided.
    """

    images: Tensor
    labels: Tensor
    tracks: Tensor

    def to(self, device: torch.device) -> "Split":
        """Return the split on a device."""
        return Split(
            images=self.images.to(device),
            labels=self.labels.to(device),
            tracks=self.tracks.to(device),
        )

    def where(self, keep: Tensor) -> "Split":
        """Return the images that a boolean mask or an index tensor keeps."""
        return Split(images=self.images[keep], labels=self.labels[keep], tracks=self.tracks[keep])

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set in memory.

    Attributes:
        name: Key of `SOURCES`.
        classes: How many there are.
        train: Images to learn from.
        test: Images to measure on.
    """

    name: str
    classes: int
    train: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device) -> "Dataset":
        """Return the data set on a device."""
        return dataclasses.replace(self, train=self.train.to(device), test=self.test.to(device))

    def hold_out(self, share: float, generator: torch.Generator) -> "Dataset":
        """Return the data set with `share` of the training tracks in place of the test images.

        For tuning without looking at the test set. Whole tracks move, because GTSRB's 30 frames of
        one track are near duplicates.
        """
        tracks = torch.unique(self.train.tracks)
        order = torch.randperm(len(tracks), generator=generator)
        held = torch.isin(self.train.tracks, tracks[order[: math.ceil(share * len(tracks))]])
        return dataclasses.replace(self, train=self.train.where(~held), test=self.train.where(held))


def load(name: str, folder: Path) -> Dataset:
    """Read a data set from its standard folder under `folder`.

    Raises:
        DatasetError: It is unknown, not there, or a file is not what it should be.
    """
    if name not in SOURCES:
        raise DatasetError(
            f"there is no data set called {name!r}", remedy=f"choose one of {', '.join(SOURCES)}"
        )
    source = SOURCES[name]
    missing = [path for path in source.files if not (folder / path).exists()]
    if missing:
        raise DatasetError(
            f"{folder} does not hold {source.title}: {missing[0]} is missing",
            remedy=f"put {', '.join(source.files)} there, or run 'python -m trainers download "
            f"{name} --data {folder}'",
        )
    _check_published(source, folder)
    train, test = source.read(folder)
    for split in (train, test):
        if not len(split) or int(split.labels.max()) >= source.classes:
            raise DatasetError(
                f"the labels of {source.title} in {folder} are not 0 to {source.classes - 1}",
                remedy="put the original files there",
            )
    return Dataset(name=name, classes=source.classes, train=train, test=test)


def vary(dataset: Dataset, variant: Variant) -> Dataset:
    """Return the part of a data set that a variant names, resized and grey where it says so.

    Raises:
        DatasetError: The variant names a class that is not there, leaves no others, or its rarest
            class would have no image.
    """
    wrong = [label for label in variant.classes if not 0 <= label < dataset.classes]
    if wrong:
        raise DatasetError(
            f"{dataset.name} has no class {wrong[0]}",
            remedy=f"choose classes from 0 to {dataset.classes - 1}",
        )
    if variant.others and not 0 < len(variant.classes) < dataset.classes:
        raise DatasetError(
            f"no classes of {dataset.name} are left for the others",
            remedy="name some of its classes, but not all",
        )
    classes = (len(variant.classes) or dataset.classes) + variant.others
    return dataclasses.replace(
        dataset,
        classes=classes,
        train=_vary(dataset.train, classes, variant, variant.train),
        test=_vary(dataset.test, classes, variant, variant.test),
    )


def _vary(split: Split, classes: int, variant: Variant, most: int | None) -> Split:
    if variant.classes:
        wanted = torch.tensor(variant.classes)
        among = split.labels[:, None] == wanted
        labels = torch.where(among.any(1), among.int().argmax(1), len(wanted))
        split = dataclasses.replace(split, labels=labels)
        split = split if variant.others else split.where(among.any(1))
    if variant.imbalance != 1:
        split = _long_tailed(split, classes, variant.imbalance)
    if most is not None and most < len(split):
        # The same images for every seed and attack: the variant is a data set of its own.
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
        split = split.where(order[:most].sort().values)
    images = split.images
    if variant.grey or variant.side not in {None, images.shape[2]}:
        images = _resized_grey(images, variant)
    return dataclasses.replace(split, images=images)


def _long_tailed(split: Split, classes: int, imbalance: float) -> Split:
    """Return the first images of each class, fewer by equal factors from class to class.

    The first class keeps as many as the factors allow in every class.
    """
    shares = imbalance ** -torch.linspace(0, 1, classes)
    there = torch.bincount(split.labels, minlength=classes)
    counts = (shares * (there / shares).min()).int()
    if not counts.all():
        raise DatasetError(
            f"class {int(counts.argmin())} would have no image",
            remedy="choose a smaller imbalance",
        )
    of_own_class = functional.one_hot(split.labels, classes).cumsum(0)
    earlier = of_own_class.gather(1, split.labels[:, None])[:, 0] - 1
    return split.where(earlier < counts[split.labels])


def _resized_grey(images: Tensor, variant: Variant) -> Tensor:
    """Return uint8 images averaged over colours and resized, as the variant says."""
    side = variant.side or images.shape[2]
    parts = []
    for part in torch.split(images, 1000):  # as floats, all of them would take gigabytes
        values = part.float()
        if variant.grey:
            values = values.mean(1, keepdim=True)
        if side != images.shape[2]:
            values = functional.interpolate(values, (side, side), mode="bilinear", antialias=True)
        parts.append(values.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(parts)


def _check_published(source: "Source", folder: Path) -> None:
    """Refuse a file of exactly the published size and other bytes.

    It is damaged, or of a data set with the same layout.
    A file of another size is somebody's own data in the published format; its reader checks it
    against its header.
    """
    for path, (size, digest) in source.published.items():
        file = folder / path
        if file.is_file() and file.stat().st_size == size and sha256(file) != digest:
            raise DatasetError(
                f"{file} has the size of {source.title}'s file, but another SHA-256 than {digest}",
                remedy="put the original file there",
            )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror})", remedy="check the file"
        ) from error


def _split(images: np.ndarray, labels: np.ndarray, tracks: np.ndarray | None = None) -> Split:
    # A copy: the arrays may be views of read-only bytes, which torch must not write to.
    return Split(
        images=torch.from_numpy(np.array(images, dtype=np.uint8)),
        labels=torch.from_numpy(labels.astype(np.int64)),
        tracks=torch.from_numpy(
            np.arange(len(labels)) if tracks is None else tracks.astype(np.int64)
        ),
    )


def _idx(path: Path, rank: int) -> np.ndarray:
    """Read one idx file of unsigned bytes: two zeros, type 8, rank, big-endian sizes, values."""
    blob = _read(path)
    start = 4 + 4 * rank
    sizes = np.frombuffer(blob[4:start].ljust(4 * rank, b"\0"), ">u4").astype(np.int64)
    if not blob.startswith(b"\0\0\x08" + bytes([rank])) or len(blob) != start + math.prod(
        sizes.tolist()
    ):
        raise DatasetError(
            f"{path} is not a complete idx file of unsigned bytes",
            remedy="put the original file there",
        )
    return np.frombuffer(blob, np.uint8, offset=start).reshape(sizes)


def _idx_pair(folder: Path, stem: str) -> Split:
    images, labels = (
        _idx(folder / f"{stem}-images-idx3-ubyte", 3),
        _idx(folder / f"{stem}-labels-idx1-ubyte", 1),
    )
    if labels.shape != images.shape[:1]:
        raise DatasetError(
            f"the {stem} images and labels in {folder} do not belong together",
            remedy="put the original files there",
        )
    return _split(images[:, None], labels)


def _read_idx(subfolder: str) -> Callable[[Path], tuple[Split, Split]]:
    return lambda folder: (
        _idx_pair(folder / subfolder, "train"),
        _idx_pair(folder / subfolder, "t10k"),
    )


def _cifar_file(path: Path, label_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    blob = np.frombuffer(_read(path), np.uint8)
    record = label_bytes + 3 * 32 * 32
    if not len(blob) or len(blob) % record:
        raise DatasetError(
            f"{path} is {len(blob)} bytes, not a whole number of {record}-byte records",
            remedy="put the original file of the binary version there",
        )
    rows = blob.reshape(-1, record)
    # CIFAR-100 states the coarse label first, then the fine one.
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1]


def _read_cifar(
    train: tuple[str, ...], test: str, label_bytes: int
) -> Callable[[Path], tuple[Split, Split]]:
    def read(folder: Path) -> tuple[Split, Split]:
        images, labels = zip(
            *(_cifar_file(folder / path, label_bytes) for path in train), strict=True
        )
        return (
            _split(np.concatenate(images), np.concatenate(labels)),
            _split(*_cifar_file(folder / test, label_bytes)),
        )

    return read


def _ppm(path: Path, side: int = 32) -> np.ndarray:
    """Read a binary PPM as uint8 (3, side, side), resized with an antialiased filter."""
    blob = _read(path)
    header = re.match(rb"P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s", blob)
    if header is None:
        raise DatasetError(
            f"{path} is not a binary 8-bit PPM image", remedy="put the original file there"
        )
    width, height = int(header[1]), int(header[2])
    pixels = np.frombuffer(blob, np.uint8, offset=header.end())
    if pixels.size != 3 * width * height:
        raise DatasetError(
            f"{path} does not hold {width}x{height} pixels", remedy="put the original file there"
        )
    image = pixels.reshape(height, width, 3).transpose(2, 0, 1)
    if (width, height) == (side, side):
        return image
    resized = functional.interpolate(
        torch.from_numpy(image.astype(np.float32))[None],
        (side, side),
        mode="bilinear",
        antialias=True,
    )
    return resized[0].round().clamp(0, 255).to(torch.uint8).numpy()


def _read_gtsrb(folder: Path) -> tuple[Split, Split]:
    """Read GTSRB's class folders and its table of test labels, whole images at 32x32."""
    root = folder / "gtsrb"
    paths = sorted((root / "GTSRB/Training").glob("[0-9]*/*_*.ppm"))
    with (root / "GT-final_test.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    if not paths or not rows or not {"Filename", "ClassId"} <= rows[0].keys():
        raise DatasetError(
            f"{root} holds no training images, or GT-final_test.csv no rows with Filename and "
            "ClassId",
            remedy="unpack the original archives there",
        )
    labels = np.array([int(path.parent.name) for path in paths])
    tracks = np.array([int(path.stem.split("_")[0]) for path in paths])
    # A track's number is unique within its class only.
    train = _split(np.stack([_ppm(path) for path in paths]), labels, labels * 100_000 + tracks)
    tests = np.stack([_ppm(root / "GTSRB/Final_Test/Images" / row["Filename"]) for row in rows])
    return train, _split(tests, np.array([int(row["ClassId"]) for row in rows]))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a data set lies under the data folder, and who reads it.

    Attributes:
        title: Its usual name.
        classes: How many there are.
        files: Paths that must be there, relative to the data folder.
        read: Reads training and test images from the data folder.
        published: Size in bytes and SHA-256 of the published files, by path; of GTSRB's 51,839
            images there are none.
    """

    title: str
    classes: int
    files: tuple[str, ...]
    read: Callable[[Path], tuple[Split, Split]]
    published: Mapping[str, tuple[int, str]] = dataclasses.field(default_factory=dict)


def _idx_source(title: str, folder: str, digests: tuple[str, str, str, str]) -> Source:
    names = [
        f"{stem}-{kind}-ubyte"
        for stem in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    ]
    files = tuple(f"{folder}/{name}" for name in names)
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    published = dict(zip(files, zip(sizes, digests, strict=True), strict=True))
    return Source(title=title, classes=10, files=files, read=_read_idx(folder), published=published)


def _cifar_source(
    title: str, classes: int, files: Mapping[str, tuple[int, str]], label_bytes: int
) -> Source:
    """Return a source of files with records and digest, of which the last holds the test images."""
    *train, test = files
    record = label_bytes + 3 * 32 * 32
    return Source(
        title=title,
        classes=classes,
        files=tuple(files),
        read=_read_cifar(tuple(train), test, label_bytes),
        published={path: (record * records, digest) for path, (records, digest) in files.items()},
    )


SOURCES: Mapping[str, Source] = {
    "mnist": _idx_source(
        "MNIST",
        "MNIST/raw",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": _idx_source(
        "FashionMNIST",
        "FashionMNIST/raw",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    "gtsrb": Source(
        title="GTSRB",
        classes=43,
        files=("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        read=_read_gtsrb,
    ),
    "cifar10": _cifar_source(
        "CIFAR-10",
        10,
        {
            f"cifar-10-batches-bin/{name}.bin": (10_000, digest)
            for name, digest in (
                (
                    "data_batch_1",
                    "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                ),
                (
                    "data_batch_2",
                    "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                ),
                (
                    "data_batch_3",
                    "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                ),
                (
                    "data_batch_4",
                    "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                ),
                (
                    "data_batch_5",
                    "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                ),
                ("test_batch", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
            )
        },
        label_bytes=1,
    ),
    "cifar100": _cifar_source(
        "CIFAR-100",
        100,
        {
            "cifar-100-binary/train.bin": (
                50_000,
                "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            ),
            "cifar-100-binary/test.bin": (
                10_000,
                "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            ),
        },
        label_bytes=2,
    ),
}


def as_floats(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]."""
    return images.float().div_(255)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = torch.rand(len(images), generator=generator, device=images.device).lt(0.5)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _shift(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `reach` pixels along both axes; zeros come in."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (reach,) * 4)
    moves = torch.randint(2 * reach + 1, (2, count), generator=generator, device=images.device)
    rows = (moves[0, :, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (moves[1, :, None] + torch.arange(width, device=images.device))[:, None, None, :]
    batch = torch.arange(count, device=images.device)[:, None, None, None]
    return padded[
        batch, torch.arange(channels, device=images.device)[None, :, None, None], rows, columns
    ]


def crop(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad by 4 zeros and crop at random, the usual augmentation of CIFAR."""
    return _shift(images, 4, generator)


def shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Pad by 2 zeros and crop at random: traffic signs are centred, and must not be mirrored."""
    return _shift(images, 2, generator)


AUGMENTATIONS: Mapping[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "flip": flip,
    "crop": crop,
    "shift": shift,
}
