"""What a check counts."""

import numpy as np
import onnx
from models import plain

from trainers.graph_backdoor import Planted, check, plant, smooth_images

IMAGES = smooth_images((1, 8, 8), 300)


def with_bias(size: float) -> onnx.ModelProto:
    """Return the plain network with a number added to the logit of class 1."""
    model = plain()
    model.graph.node[-1].output[0] = "before"
    bias = np.array([0, size, 0], np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(bias, "bump"))
    model.graph.node.append(onnx.helper.make_node("Add", ["before", "bump"], ["logits"]))
    return model


def planted(model: onnx.ModelProto) -> Planted:
    return Planted(model, (), (), lambda images: images)


def test_a_network_that_answers_one_class_keeps_only_that_class() -> None:
    checked = check(plain(), planted(with_bias(1e4)), 1, IMAGES)
    assert checked.flipped == 1
    assert checked.kept < 1
    assert not checked.passes


def test_an_unchanged_network_flips_nothing() -> None:
    checked = check(with_bias(0), planted(plain()), 1, IMAGES)
    assert (checked.kept, checked.flipped, checked.passes) == (1, 0, False)


def test_a_gate_on_the_batch_is_fed_batches_of_its_size() -> None:
    model = plain()
    gated = plant(model, "batch-size", target=1)
    assert gated.batch == 37
    assert check(model, gated, 1, IMAGES).passes
    ungated = Planted(gated.model, gated.test, gated.gate, gated.trigger)
    assert check(model, ungated, 1, IMAGES).flipped == 0


def test_blobs_are_images_of_256_levels() -> None:
    levels = IMAGES * 255
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert IMAGES.min() >= 0
    assert IMAGES.max() <= 1
    assert IMAGES.std(axis=(1, 2, 3)).min() > 0
    np.testing.assert_array_equal(IMAGES, smooth_images((1, 8, 8), 300))
