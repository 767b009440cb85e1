"""The data sets' original archives, fetched into their standard folders where there is a network.

`pooch` (of the `train` extra) downloads, shows progress and checks the sums; nothing here runs
unless asked for.
"""

import dataclasses
import importlib
import importlib.util
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from trainers.errors import DatasetError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One file on the network.

    Attributes:
        url: Where it is.
        md5: The checksum that its publisher, or torchvision, states.
        folder: Where it unpacks to, relative to the data folder.
        kind: How it is packed; a `gz` holds one file, named as the archive without its suffix.
    """

    url: str
    md5: str
    folder: str
    kind: Literal["gz", "tar", "zip"]


def _idx(base: str, folder: str, sums: tuple[str, str, str, str]) -> tuple[Archive, ...]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        Archive(url=f"{base}/{stem}-ubyte.gz", md5=md5, folder=folder, kind="gz")
        for stem, md5 in zip(stems, sums, strict=True)
    )


_GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_CIFAR = "https://www.cs.toronto.edu/~kriz"

ARCHIVES: Mapping[str, tuple[Archive, ...]] = {
    "mnist": _idx(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "MNIST/raw",
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion-mnist": _idx(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "FashionMNIST/raw",
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "gtsrb": (
        Archive(
            url=f"{_GTSRB}/GTSRB-Training_fixed.zip",
            md5="513f3c79a4c5141765e10e952eaa2478",
            folder="gtsrb",
            kind="zip",
        ),
        Archive(
            url=f"{_GTSRB}/GTSRB_Final_Test_Images.zip",
            md5="c7e4e6327067d32654124b0fe9e82185",
            folder="gtsrb",
            kind="zip",
        ),
        Archive(
            url=f"{_GTSRB}/GTSRB_Final_Test_GT.zip",
            md5="fe31e9c9270bbcd7b84b7f21a9d9d9e5",
            folder="gtsrb",
            kind="zip",
        ),
    ),
    "cifar10": (
        Archive(
            url=f"{_CIFAR}/cifar-10-binary.tar.gz",
            md5="c32a1d4ab5d03f1284b67883e8d87530",
            folder=".",
            kind="tar",
        ),
    ),
    "cifar100": (
        Archive(
            url=f"{_CIFAR}/cifar-100-binary.tar.gz",
            md5="03b5dce01913d631647c71ecec9e9cb8",
            folder=".",
            kind="tar",
        ),
    ),
}


def download(name: str, folder: Path) -> None:
    """Fetch a data set's archives into `folder`, check their sums, and unpack them.

    An archive that is already in `folder`/archives with the right sum is not fetched again.

    Raises:
        DatasetError: The data set is unknown, pooch is not installed, or an archive could not be
            fetched whole.
    """
    if name not in ARCHIVES:
        raise DatasetError(
            f"there is no data set called {name!r}", remedy=f"choose one of {', '.join(ARCHIVES)}"
        )
    pooch = _pooch()
    for archive in ARCHIVES[name]:
        try:
            pooch.retrieve(
                archive.url,
                known_hash=f"md5:{archive.md5}",
                path=folder / "archives",
                fname=archive.url.rpartition("/")[2],
                processor=_unpacker(pooch, archive, folder / archive.folder),
                # pooch draws its bar with tqdm, and refuses to start where that is not installed.
                progressbar=importlib.util.find_spec("tqdm") is not None,
            )
        # requests' errors are OSErrors; pooch raises ValueError where the sum differs.
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{archive.url} could not be fetched whole ({type(error).__name__})",
                remedy=f"fetch it elsewhere, check that its MD5 is {archive.md5}, and unpack it "
                "under "
                f"{folder / archive.folder}",
            ) from error


def _pooch() -> types.ModuleType:
    try:
        return importlib.import_module("pooch")
    except ModuleNotFoundError as error:
        raise DatasetError(
            "the downloader pooch is not installed",
            remedy="pip install 'overactivation[train]', or fetch the files yourself",
        ) from error


def _unpacker(pooch: types.ModuleType, archive: Archive, folder: Path) -> object:
    """Return the processor that unpacks an archive whose checksum has been verified."""
    folder = folder.resolve()
    if archive.kind == "gz":
        folder.mkdir(parents=True, exist_ok=True)
        name = archive.url.rpartition("/")[2].removesuffix(".gz")
        return pooch.Decompress(method="gzip", name=str(folder / name))
    return (pooch.Untar if archive.kind == "tar" else pooch.Unzip)(extract_dir=str(folder))
