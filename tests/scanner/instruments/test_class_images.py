"""Images of other classes than the one that noise has."""

from pathlib import Path

import models
import numpy as np
import onnx

from scanner.graph.core import flatten
from scanner.instruments import class_images, effects, forcing
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

LEAD = 0.05


def leaning(lean: float = 0.3) -> onnx.ModelProto:
    """A network of edges and of brightness that prefers brightness, class 2, in all noise."""
    numbers = models.weights(planted=False)
    edge = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], np.float32)
    numbers["kernel"][:, 0] = np.stack([edge, edge.T, np.full((3, 3), 0.1), np.zeros((3, 3))])
    numbers["dense"] = np.eye(models.CHANNELS, models.CLASSES, dtype=np.float32)
    body = [models.convolution(), models.relu(), *models.head("activated")]
    body[-1].output[0] = "scores"
    body.append(onnx.helper.make_node("Add", ["scores", "lean"], ["logits"]))
    return models.build(body, {**numbers, "lean": np.array([[0, 0, lean]], np.float32)})


def rig(model: onnx.ModelProto, folder: Path) -> forcing.Rig:
    path = models.save(model, folder / "model.onnx")
    subject = Subject(model=open_model(path), settings=Settings(device=Device.CPU))
    shape = (1, models.SIDE, models.SIDE)
    return forcing.Rig(subject, flatten.flatten(subject.model.proto), shape, "logits")


def test_each_image_is_of_another_class_and_clearly_so(tmp_path: Path) -> None:
    model = rig(leaning(), tmp_path)
    found = class_images.of_other_classes(model, 2, LEAD)
    assert found
    for image in found:
        for shift in (0, 1, -1):
            scores = np.sort(model.answer_to(np.roll(image, shift, (1, 2)))[0])
            assert scores[-1] - scores[-2] >= LEAD
        assert effects.class_of(model.answer_to(image)) != 2
        assert 0 <= image.min() <= image.max() <= 1


def test_scores_may_have_further_axes_of_one(tmp_path: Path) -> None:
    model = leaning()
    shape = onnx.numpy_helper.from_array(np.array([0, -1, 1, 1]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node[-1].output[0] = "rows"
    model.graph.node.append(onnx.helper.make_node("Reshape", ["rows", "shape"], ["logits"]))
    found = class_images.of_other_classes(rig(model, tmp_path), 2, LEAD)
    assert len(found) == len(class_images.of_other_classes(rig(leaning(), tmp_path), 2, LEAD)) > 0


def test_one_score_has_no_other_class(tmp_path: Path) -> None:
    model = leaning()
    ends = [onnx.numpy_helper.from_array(np.array([n]), name) for name, n in (("a", 1), ("b", 2))]
    model.graph.initializer.extend(ends)
    model.graph.node[-1].output[0] = "rows"
    model.graph.node.append(onnx.helper.make_node("Slice", ["rows", "a", "b", "a"], ["logits"]))
    assert class_images.of_other_classes(rig(model, tmp_path), 0, LEAD) == []


def test_what_cannot_be_reached_is_left_out(tmp_path: Path) -> None:
    assert class_images.of_other_classes(rig(leaning(100.0), tmp_path), 2, LEAD) == []


def test_only_what_answers_nearly_all_noise_alike_needs_them(tmp_path: Path) -> None:
    assert rig(leaning(0.0), tmp_path).of_other_classes() == []
    assert rig(leaning(0.1), tmp_path).of_other_classes() != []
