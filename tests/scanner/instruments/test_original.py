"""The file itself answers, from its own bytes, with inner values exposed."""

import dataclasses
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import triggered

from scanner.errors import UnsupportedModelError
from scanner.instruments import original
from scanner.instruments.detector import Subject
from scanner.modelfile.model import open_model
from scanner.settings import Device, Settings

SHAPE = (1, models.SIDE, models.SIDE)
IMAGES = np.random.default_rng(0).random((9, *SHAPE), dtype=np.float32)


def opened(model: onnx.ModelProto, folder: Path, **save: bool) -> Subject:
    path = models.save(model, folder / "model.onnx", **save)
    return Subject(model=open_model(path), settings=Settings(images=4, device=Device.CPU))


def test_bytes_behind_a_file_make_inner_values_its_outputs(tmp_path: Path) -> None:
    data, rewritten = original.own_bytes(opened(models.plain(), tmp_path).model)
    assert not rewritten
    session = original.open_original(data, 1, ["activated", "convolved"])
    assert [o.name for o in session.native.get_outputs()] == ["logits", "activated", "convolved"]
    found = original.ask_alone(session, IMAGES)
    assert (found["activated"] == np.maximum(found["convolved"], 0)).all()
    assert original.exposing([]) == b""


def test_weights_in_a_second_file_are_put_inside(tmp_path: Path) -> None:
    data, rewritten = original.own_bytes(opened(models.plain(), tmp_path, external=True).model)
    assert rewritten
    assert original.ask_alone(original.open_original(data, 1), IMAGES)["logits"].shape == (9, 3)


@pytest.mark.parametrize("batch", [None, 4])
def test_each_image_is_asked_alone_in_company_and_again(batch: int | None, tmp_path: Path) -> None:
    model = triggered.classifier(batch=batch) if batch else triggered.classifier()
    subject = opened(model, tmp_path)
    session = original.open_original(original.own_bytes(subject.model)[0], 1)
    shape = tuple(subject.model.identity.inputs[0].shape[1:])
    images = np.random.default_rng(0).random((8, *map(int, shape)), dtype=np.float32)
    answers = original.ask(session, images)
    (name,) = answers.alone
    assert answers.batch == (batch or 1)
    np.testing.assert_allclose(answers.together[name], answers.alone[name], rtol=1e-4, atol=1e-5)
    assert (answers.again[name] == answers.alone[name][:1]).all()


def test_batches_of_the_sizes_that_users_choose_are_asked(tmp_path: Path) -> None:
    subject = opened(models.plain(), tmp_path)
    session = original.open_original(original.own_bytes(subject.model)[0], 1)
    answers = original.ask(session, IMAGES)
    assert len(answers.members) == sum(original._CROWDS)
    assert set(answers.members) == set(range(len(IMAGES)))
    expected = answers.alone["logits"][answers.members]
    np.testing.assert_allclose(answers.crowds["logits"], expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_refuses_some_sizes_is_asked_in_the_others(tmp_path: Path) -> None:
    """This one runs multiples of four: no batch of two or three, yet all that users choose."""
    model = models.plain()
    model.graph.node.append(onnx.helper.make_node("Reshape", ["logits", "most"], ["short"]))
    most = onnx.helper.make_tensor("most", onnx.TensorProto.INT64, [3], [-1, 4, models.CLASSES])
    model.graph.initializer.append(most)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["short", "back"], ["scores"]))
    back = onnx.helper.make_tensor("back", onnx.TensorProto.INT64, [2], [-1, models.CLASSES])
    model.graph.initializer.append(back)
    model.graph.output[0].name = "scores"
    subject = opened(model, tmp_path)
    session = original.open_original(original.own_bytes(subject.model)[0], 1)
    with pytest.raises(UnsupportedModelError):
        session.run(IMAGES[:2])
    members, crowds = original._in_crowds(session, ["scores"], IMAGES, None)
    assert len(members) == sum(original._CROWDS)
    assert crowds["scores"].shape == (len(members), models.CLASSES)


def test_probes_hold_extremes_and_what_searches_saw_last(tmp_path: Path) -> None:
    special = np.full((1, *SHAPE), 0.25, np.float32)
    subject = dataclasses.replace(opened(models.plain(), tmp_path), seen=[special])
    images = original.probe_images(subject, SHAPE, np.dtype(np.float32))
    assert (images[-1] == special[0]).all()
    assert {0.0, 0.5, 1.0} <= {float(i.flat[0]) for i in images if np.ptp(i) == 0}


def test_images_for_an_input_of_integers_are_rounded() -> None:
    cast = original.cast(np.array([0.4, 254.6], np.float32), np.dtype(np.uint8))
    assert cast.dtype == np.uint8
    assert cast.tolist() == [0, 255]


def test_the_peak_is_that_of_each_image() -> None:
    assert (original.peak(IMAGES) == [image.max() for image in IMAGES]).all()
