"""The standard file formats, read; what is wrong with a folder, said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainer_data import bars, write_idx, write_ppm

from trainers import datasets
from trainers.errors import DatasetError
from trainers.recipes import Variant


def test_idx_files_become_tensors(folder: Path) -> None:
    data = datasets.load("mnist", folder)
    images, labels = bars(960, seed=960)
    assert data.shape == (1, 28, 28)
    assert data.classes == 10
    np.testing.assert_array_equal(data.train.images[:, 0], images)
    np.testing.assert_array_equal(data.train.labels, labels)
    assert len(data.test) == 200


def test_cifar10_joins_its_five_files_in_order(folder: Path) -> None:
    data = datasets.load("cifar10", folder)
    assert data.train.images.shape == (20, 3, 32, 32)
    assert data.train.labels.tolist() == [0, 1, 2, 3] * 5
    second = np.fromfile(folder / "cifar-10-batches-bin/data_batch_2.bin", np.uint8)
    np.testing.assert_array_equal(data.train.images[4].flatten(), second[1:3073])


def test_cifar100_takes_the_fine_label(folder: Path) -> None:
    data = datasets.load("cifar100", folder)
    assert data.train.labels.tolist() == [96, 97, 98, 99]
    assert data.classes == 100


def test_gtsrb_reads_class_folders_the_table_and_any_size(folder: Path) -> None:
    data = datasets.load("gtsrb", folder)
    assert data.train.images.shape == (24, 3, 32, 32)
    assert sorted(set(data.train.labels.tolist())) == [0, 42]
    assert data.test.labels.tolist() == [42, 0]
    # A constant image stays so when it is resized.
    assert set(data.test.images[1].flatten().tolist()) == {10}


def test_gtsrb_tracks_are_apart_across_classes(folder: Path) -> None:
    train = datasets.load("gtsrb", folder).train
    assert len(set(train.tracks.tolist())) == 8


def test_hold_out_moves_whole_tracks(folder: Path) -> None:
    data = datasets.load("gtsrb", folder)
    tuned = data.hold_out(0.25, torch.Generator().manual_seed(0))
    assert len(tuned.train) + len(tuned.test) == len(data.train)
    assert len(tuned.test) == 2 * 3
    assert not set(tuned.train.tracks.tolist()) & set(tuned.test.tracks.tolist())


def test_a_32_pixel_ppm_is_read_unchanged(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(256, size=(32, 32, 3))
    write_ppm(tmp_path / "image.ppm", image)
    np.testing.assert_array_equal(datasets._ppm(tmp_path / "image.ppm"), image.transpose(2, 0, 1))


def test_an_unknown_data_set_names_those_there_are(folder: Path) -> None:
    with pytest.raises(DatasetError, match="'minst'; choose one of mnist, fashion-mnist"):
        datasets.load("minst", folder)


@pytest.mark.parametrize("name", datasets.SOURCES)
def test_an_empty_folder_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        datasets.load(name, tmp_path)
    for path in datasets.SOURCES[name].files:
        assert path in caught.value.remedy
    assert f"download {name}" in caught.value.remedy


def _copy(folder: Path, name: str, into: Path) -> None:
    for path in datasets.SOURCES[name].files:
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        (into / path).write_bytes((folder / path).read_bytes())


@pytest.mark.parametrize("size", [0, 3, 7, 16, 5000])
def test_an_idx_file_cut_short_is_named(folder: Path, tmp_path: Path, size: int) -> None:
    _copy(folder, "mnist", tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DatasetError, match="train-images-idx3-ubyte is not a complete idx file"):
        datasets.load("mnist", tmp_path)


def test_a_file_of_the_published_size_and_other_bytes_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    """A damaged copy, or FashionMNIST's files in MNIST's folder: names and sizes are the same."""
    _copy(folder, "mnist", tmp_path)
    write_idx(tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte", np.zeros(10_000))
    with pytest.raises(
        DatasetError,
        match=r"t10k-labels-idx1-ubyte has the size of MNIST's file, but another SHA-256",
    ):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_every_single_file_has_a_published_size_and_sum(name: str) -> None:
    source = datasets.SOURCES[name]
    assert tuple(source.published) == source.files
    assert len({digest for _, digest in source.published.values()}) == len(source.files)
    assert all(
        size > 10_000 and len(bytes.fromhex(digest)) == 32
        for size, digest in source.published.values()
    )


def test_images_and_labels_of_different_sets_are_refused(folder: Path, tmp_path: Path) -> None:
    _copy(folder, "mnist", tmp_path)
    raw = tmp_path / "MNIST/raw"
    (raw / "train-labels-idx1-ubyte").write_bytes((raw / "t10k-labels-idx1-ubyte").read_bytes())
    with pytest.raises(DatasetError, match="do not belong together"):
        datasets.load("mnist", tmp_path)


def test_a_label_that_is_no_class_is_refused(folder: Path, tmp_path: Path) -> None:
    _copy(folder, "mnist", tmp_path)
    path = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DatasetError, match="are not 0 to 9"):
        datasets.load("mnist", tmp_path)


@pytest.mark.parametrize("size", [0, 3072, 3074])
def test_a_cifar_file_of_the_wrong_size_is_named(folder: Path, tmp_path: Path, size: int) -> None:
    _copy(folder, "cifar10", tmp_path)
    (tmp_path / "cifar-10-batches-bin/data_batch_3.bin").write_bytes(bytes(size))
    with pytest.raises(DatasetError, match=rf"data_batch_3.bin is {size} bytes"):
        datasets.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    "blob", [b"", b"P5\n2 2\n255\n0000", b"P6\n2 2\n255\n" + bytes(11), b"P6\n9999999 2\n255\n"]
)
def test_a_damaged_ppm_is_named(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "sign.ppm").write_bytes(blob)
    with pytest.raises(DatasetError, match=r"sign\.ppm"):
        datasets._ppm(tmp_path / "sign.ppm")


def test_a_folder_in_place_of_a_file_is_named(folder: Path, tmp_path: Path) -> None:
    _copy(folder, "mnist", tmp_path)
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        datasets.load("mnist", tmp_path)


def _images(seed: int) -> torch.Tensor:
    return torch.rand(5, 2, 8, 6, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 2**32))
def test_flip_mirrors_each_image_or_leaves_it(seed: int) -> None:
    images = _images(seed)
    flipped = datasets.flip(images, torch.Generator().manual_seed(seed))
    for before, after in zip(images, flipped, strict=True):
        assert torch.equal(after, before) or torch.equal(after, before.flip(2))


@given(seed=st.integers(0, 2**32), name=st.sampled_from([("crop", 4), ("shift", 2)]))
def test_shifts_move_each_image_within_reach_and_fill_with_zeros(
    seed: int, name: tuple[str, int]
) -> None:
    images, reach = _images(seed), name[1]
    moved = datasets.AUGMENTATIONS[name[0]](images, torch.Generator().manual_seed(seed))
    padded = torch.nn.functional.pad(images, (reach,) * 4)
    for index, after in enumerate(moved):
        candidates = [
            padded[index, :, row : row + 8, column : column + 6]
            for row in range(2 * reach + 1)
            for column in range(2 * reach + 1)
        ]
        assert any(torch.equal(after, candidate) for candidate in candidates)


def _colours() -> datasets.Dataset:
    """Return 6 images of 4x4 pixels in 3 classes; image i is (10 i, 20 i, 30 i) throughout."""
    colour = torch.arange(6)[:, None] * torch.tensor([10, 20, 30])
    split = datasets.Split(
        images=colour[:, :, None, None].expand(6, 3, 4, 4).to(torch.uint8),
        labels=torch.arange(6) % 3,
        tracks=torch.arange(6),
    )
    return datasets.Dataset(name="colours", classes=3, train=split, test=split)


def test_the_default_variant_changes_nothing() -> None:
    data = _colours()
    varied = datasets.vary(data, Variant())
    assert varied.classes == 3
    assert varied.train.images is data.train.images
    assert varied.train.labels is data.train.labels


def test_a_subset_of_classes_is_renumbered_in_the_order_named() -> None:
    varied = datasets.vary(_colours(), Variant(classes=(2, 0)))
    assert varied.classes == 2
    for split in (varied.train, varied.test):
        assert split.tracks.tolist() == [0, 2, 3, 5]
        assert split.labels.tolist() == [1, 0, 1, 0]
        assert split.images[:, 0, 0, 0].tolist() == [0, 20, 30, 50]


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(DatasetError, match="colours has no class 3; choose classes from 0 to 2"):
        datasets.vary(_colours(), Variant(classes=(0, 3)))


def test_the_others_are_one_more_class_the_last() -> None:
    varied = datasets.vary(_colours(), Variant(classes=(2,), others=True))
    assert varied.classes == 2
    for split in (varied.train, varied.test):
        assert split.tracks.tolist() == [0, 1, 2, 3, 4, 5]
        assert split.labels.tolist() == [1, 1, 0, 1, 1, 0]


@pytest.mark.parametrize("classes", [(), (0, 1, 2)])
def test_without_further_classes_there_are_no_others(classes: tuple[int, ...]) -> None:
    with pytest.raises(DatasetError, match="no classes of colours are left for the others; name"):
        datasets.vary(_colours(), Variant(classes=classes, others=True))


def _labelled(counts: list[int]) -> datasets.Dataset:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    images = torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8)
    split = datasets.Split(images=images, labels=labels, tracks=torch.arange(len(labels)))
    return datasets.Dataset(name="labelled", classes=len(counts), train=split, test=split)


@given(
    counts=st.lists(st.integers(50, 200), min_size=2, max_size=8),
    imbalance=st.floats(1.5, 20),
)
def test_a_long_tail_falls_by_equal_factors_to_the_imbalance(
    counts: list[int], imbalance: float
) -> None:
    data = _labelled(counts)
    varied = datasets.vary(data, Variant(imbalance=imbalance)).train
    left = torch.bincount(varied.labels, minlength=len(counts))
    assert (left <= torch.tensor(counts)).all()
    shares = imbalance ** (-torch.arange(len(counts)) / (len(counts) - 1))
    most = float((torch.tensor(counts) / shares).min())
    assert (left - most * shares).abs().max() <= 1.01  # each is rounded down
    for label, count in enumerate(left.tolist()):  # the first of each class, in their order
        of_class = data.train.tracks[data.train.labels == label][:count]
        assert varied.tracks[varied.labels == label].tolist() == of_class.tolist()


def test_a_class_without_an_image_is_named() -> None:
    with pytest.raises(DatasetError, match="class 1 would have no image; choose a smaller"):
        datasets.vary(_labelled([3, 3, 3]), Variant(imbalance=10))


def test_grey_is_the_mean_of_the_colours() -> None:
    varied = datasets.vary(_colours(), Variant(grey=True))
    assert varied.shape == (1, 4, 4)
    assert varied.train.images[:, 0, 1, 2].tolist() == [0, 20, 40, 60, 80, 100]


def test_resizing_averages_and_keeps_a_constant_image() -> None:
    varied = datasets.vary(_colours(), Variant(side=2))
    assert varied.shape == (3, 2, 2)
    assert varied.test.images[5, :, 1, 0].tolist() == [50, 100, 150]
    ramp = torch.arange(0, 64, 4, dtype=torch.uint8).reshape(1, 1, 4, 4)
    split = datasets.Split(
        images=ramp, labels=torch.zeros(1, dtype=torch.int64), tracks=torch.zeros(1)
    )
    data = datasets.Dataset(name="ramp", classes=1, train=split, test=split)
    halved = datasets.vary(data, Variant(side=2)).train.images
    assert halved.flatten().float().mean().item() == pytest.approx(30, abs=1)
    assert halved[0, 0, 0, 0] < halved[0, 0, 0, 1] < halved[0, 0, 1, 0] < halved[0, 0, 1, 1]


def test_a_smaller_number_of_images_is_the_same_draw_every_time() -> None:
    one, other = (datasets.vary(_colours(), Variant(train=3, test=2)) for _ in range(2))
    assert (len(one.train), len(one.test)) == (3, 2)
    assert torch.equal(one.train.tracks, other.train.tracks)
    assert one.train.labels.tolist() == (one.train.tracks % 3).tolist()
    assert len(datasets.vary(_colours(), Variant(train=7)).train) == 6
