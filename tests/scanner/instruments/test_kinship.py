"""Relatives by their weights, and strangers by their answers."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import triggered
from hypothesis import given
from hypothesis import strategies as st

from scanner.graph.layers import weights as layer_weights
from scanner.graph.layers.weights import Weights
from scanner.instruments import kept, kinship
from scanner.modelfile.model import open_model
from scanner.results import Likeness
from scanner.settings import Device, Settings

SAMPLES = Path(__file__).parents[3] / "samples"
SETTINGS = Settings(device=Device.CPU)


def liken(path: Path) -> Likeness:
    return kinship.likeness(open_model(path), SETTINGS)


def saved(model: onnx.ModelProto, path: Path) -> Likeness:
    return liken(models.save(model, path))


def test_a_copy_is_alike_and_a_sister_is_not() -> None:
    names = ("mnist-badnets", "mnist-clean-1", "mnist-clean")
    suspect, sister, twin = (liken(SAMPLES / f"{name}.onnx") for name in names)
    assert kinship.weights_alike(suspect, suspect) == pytest.approx(1.0)
    apart, same_seed = (kinship.weights_alike(suspect, other) for other in (sister, twin))
    assert apart is not None
    assert same_seed is not None
    assert abs(apart) < 0.3 < same_seed < 0.85


def test_other_layers_are_not_compared(tmp_path: Path) -> None:
    one = saved(models.plain(), tmp_path / "a.onnx")
    other = saved(triggered.classifier(), tmp_path / "b.onnx")
    assert kinship.weights_alike(one, other) is None


@given(seed=st.integers(0, 1000), classes=st.integers(3, 12))
def test_shuffled_classes_agree_on_nothing(seed: int, classes: int) -> None:
    """Hoeffding's mean and variance are those of all shuffles."""
    generator = np.random.default_rng(seed)
    one = kinship.levelled(generator.standard_normal((80, classes)))
    other = kinship.levelled(generator.standard_normal((80, classes)))
    zs = []
    for _ in range(200):
        found = kinship.agreement_of(one, other[:, generator.permutation(classes)])
        zs.append(found.z)
    assert abs(np.mean(zs)) < 0.4
    assert 0.7 < np.std(zs) < 1.3


def test_the_same_answers_agree() -> None:
    logits = kinship.levelled(np.random.default_rng(0).standard_normal((80, 10)))
    found = kinship.agreement_of(logits, logits)
    assert found.correlation == pytest.approx(1.0)
    assert found.z > 5
    assert found.images == 80


def test_models_of_one_recipe_agree_and_of_other_data_do_not() -> None:
    names = ("mnist-badnets", "mnist-clean-1", "fashion-mnist-clean-1")
    suspect, sister, stranger = (liken(SAMPLES / f"{name}.onnx") for name in names)
    near, far = (kinship.agreement(suspect, other) for other in (sister, stranger))
    assert near is not None
    assert far is not None
    assert near.z > far.z


def test_other_numbers_of_classes_are_not_compared(tmp_path: Path) -> None:
    one = saved(triggered.classifier(classes=3), tmp_path / "a.onnx")
    other = saved(triggered.classifier(classes=4), tmp_path / "b.onnx")
    assert kinship.agreement(one, other) is None


def test_a_sketch_keeps_angles_and_short_layers_whole() -> None:
    """Weights that correlate by 0.8 do so in their sketches, to within a few of its deviations."""
    generator = np.random.default_rng(0)
    one, noise = generator.standard_normal((2, 300, 1000, 1))
    other = 0.8 * one + 0.6 * noise
    sketches = [kinship._sketch(Weights(stored=layer)) for layer in (one, other)]
    assert [s.values.shape for s in sketches] == [(kinship._SKETCH,)] * 2
    alike = kinship.weights_alike(*(Likeness(layers=(s,)) for s in sketches))
    assert alike == pytest.approx(0.8, abs=0.08)
    short = generator.standard_normal((8, 9, 1))
    kept_whole = kinship._unpacked(kinship._sketch(Weights(stored=short)).values)
    np.testing.assert_allclose(kept_whole, short.ravel(), 1e-6)


@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(st.integers(20, 60), st.integers(20, 60), st.integers(1, 4)),
    block=st.integers(1, 4000),
)
def test_a_sketch_made_in_blocks_is_that_of_all_weights(
    seed: int, shape: tuple[int, int, int], block: int
) -> None:
    weights = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    flat = weights.ravel().astype(np.float64)
    if flat.size > kinship._SKETCH:
        signs = np.random.default_rng(kinship._SEED).integers(0, 2, flat.size, dtype=np.int8)
        signed = np.pad(np.where(signs, flat, -flat), (0, -flat.size % kinship._SKETCH))
        flat = signed.reshape(-1, kinship._SKETCH).sum(axis=0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layer_weights, "_BLOCK", block)
        sketch = kinship._sketch(Weights(stored=weights))
    assert sketch.shape == shape
    np.testing.assert_allclose(kinship._unpacked(sketch.values), flat, rtol=1e-6, atol=1e-6)


def test_all_models_are_shown_the_same_noise() -> None:
    """Whatever the user's images are, and the seed."""
    model = open_model(SAMPLES / "mnist-clean.onnx")
    plain = Settings(input_range=(0.0, 1.0))
    asked = dataclasses.replace(plain, seed=7, images_file="nowhere.npz")
    assert kinship.on_noise(model, asked) == kinship.on_noise(model, plain) is not None


def test_models_of_one_recipe_share_what_their_classes_mean() -> None:
    """It is the levelled mean."""
    generator = np.random.default_rng(0)
    common = generator.standard_normal((96, 5))
    own = [common + 0.3 * generator.standard_normal(common.shape) for _ in range(4)]
    levelled = list(map(kinship.levelled, own))
    tables = list(map(kept.packed, levelled))
    together = kinship.shared(tables)
    assert together is not None
    expected = kinship.levelled(np.mean(levelled, axis=0))
    np.testing.assert_allclose(kinship._unpacked(together), expected, atol=1e-5)
    assert kinship.shared(tables[:1]) is not None


def test_models_that_do_not_agree_share_nothing() -> None:
    generator = np.random.default_rng(0)
    common = kept.packed(kinship.levelled(generator.standard_normal((96, 5))))
    other = kept.packed(kinship.levelled(generator.standard_normal((96, 5))))
    fewer = kept.packed(np.ones((96, 4)))
    endless = kept.packed(np.full((96, 5), np.nan))
    assert kinship.shared([common] * 3) is not None
    for odd in (other, fewer, endless, None):
        assert kinship.shared([common, common, odd]) is None
    assert kinship.shared([]) is None


def test_what_a_child_makes_up_is_no_likeness() -> None:
    """Numbers that are none, and a table of another rank, agree with nothing and raise nothing."""
    known = Likeness(answers=kept.packed(np.ones((4, 3))))
    for made_up in (np.full((4, 3), np.nan), np.ones((12,))):
        assert kinship.agreement(Likeness(answers=kept.packed(made_up)), known) is None
        assert kinship.agreement_on(kept.packed(made_up), known.answers) is None
    endless = Likeness(layers=(kinship._sketch(Weights(stored=np.full((8, 8, 1), np.inf))),))
    assert kinship.weights_alike(endless, endless) == 0.0
