"""A graph takes images of another size, and the file's own graph stays as it was."""

import models
import numpy as np
import onnx
import onnxruntime as ort

from scanner.graph.core.image_size import taking


def test_it_answers_images_of_another_size() -> None:
    model = models.plain()
    model.graph.value_info.append(
        onnx.helper.make_tensor_value_info("activated", 1, ["N", models.CHANNELS, 8, 8])
    )
    before = model.SerializeToString()
    resized = taking(model, (1, 12, 6))
    assert model.SerializeToString() == before
    assert not resized.graph.value_info
    image = np.random.default_rng(0).random((2, 1, 12, 6), dtype=np.float32)
    (answers,) = ort.InferenceSession(resized.SerializeToString()).run(None, {"image": image})
    assert answers.shape == (2, models.CLASSES)


def test_open_sizes_are_settled() -> None:
    resized = taking(models.plain(input_shape=("N", 1, "H", "W")), (1, 4, 4))
    sizes = resized.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in sizes] == ["N", 1, 4, 4]
