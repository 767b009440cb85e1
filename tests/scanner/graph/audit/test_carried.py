"""What is carried is told with its kind, size and place, and honest texts and weights are not."""

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import Array, plain
from onnx import TensorProto, helper, numpy_helper

from scanner.graph.audit.carried import observe, recognise
from scanner.graph.audit.checks import audit
from scanner.results import Observation, Severity

Change = Callable[[onnx.ModelProto], None]
ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\3\0\x3e\0\1\0\0\0" + bytes(range(256)) * 8
RANDOM = np.random.default_rng(1).bytes(6000)


def told(change: Change) -> list[Observation]:
    model = plain()
    change(model)
    found = observe(model, model.SerializeToString())
    return sorted(found, key=lambda o: -o.severity)


def _metadata(text: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.metadata_props.add(key="key", value=text)

    return change


def _unused(array: np.ndarray) -> Change:
    return lambda model: model.graph.initializer.append(numpy_helper.from_array(array, "stowaway"))


def test_kind_size_place_and_encoding_are_told() -> None:
    text = base64.b64encode(gzip.compress(ELF)).decode()
    (observation,) = told(_metadata(text))
    assert observation.severity is Severity.SUSPICIOUS
    assert observation.details == {
        "kind": "an ELF program", "family": "program", "encoding": ["base64", "gzip"],
        "place": "value of the entry 'key'", "size": len(text), "start": 0,
    }  # fmt: skip
    assert "an ELF program in gzip in base64" in observation.sentence


def test_the_way_to_what_lies_in_the_middle_is_told() -> None:
    (observation,) = told(_unused(np.frombuffer(RANDOM[:99] + ELF, np.uint8)))
    assert "'stowaway' (no node reads it)" in observation.nodes[0]
    program = np.frombuffer(RANDOM[:99] + ELF + RANDOM[:2], np.uint8)

    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = program.tobytes()

    inside = told(change)[0]
    assert inside.nodes[0] == "model.graph.initializer[0].raw_data"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"stride": 32, "task": "detect", "names": {i: f"class {i}" for i in range(99)}}),
        "Apache License, Version 2.0. You may not use this file except in compliance. " * 60,
        "3b1f5c0e9d2a47f83b1f5c0e9d2a47f83b1f5c0e9d2a47f83b1f5c0e9d2a47f8",
        base64.b64encode(RANDOM[:300]).decode(),
        "\n".join(chr(0x4E00 + number) for number in range(3000)),
        "['aten.conv2d.default', 'call_function', <class 'torch.nn.Module'>]" * 20,
    ],
    ids=["ultralytics", "licence", "digest", "signature", "characters", "torch"],
)
def test_ordinary_metadata_is_nothing(text: str) -> None:
    assert told(_metadata(text)) == []


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
def test_unused_weights_are_no_noise(kind: type) -> None:
    weights: Array = np.random.default_rng(0).normal(size=5000).astype(kind)
    assert told(_unused(weights)) == []


def test_a_compiled_vocabulary_that_a_node_reads_is_its_own_affair() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].attribute.append(helper.make_attribute("model", RANDOM))

    assert told(change) == []


def test_bytes_that_are_cast_are_not_weights() -> None:
    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        graph.initializer.append(numpy_helper.from_array(np.frombuffer(RANDOM, np.uint8), "table"))
        graph.node[-1].output[0] = "before"
        graph.node.append(helper.make_node("Cast", ["table"], ["numbers"], to=TensorProto.FLOAT))
        graph.node.append(helper.make_node("ReduceMax", ["numbers"], ["most"], keepdims=0))
        graph.node.append(helper.make_node("Add", ["before", "most"], ["logits"]))

    (observation,) = told(change)
    assert observation.severity is Severity.WARNING
    assert "compressed or encrypted" in observation.sentence


def test_much_that_is_carried_is_summed_up() -> None:
    def change(model: onnx.ModelProto) -> None:
        for number in range(50):
            model.metadata_props.add(key=str(number), value=f"#!/bin/sh\necho {number} # a script")

    found = [o for o in told(change) if o.code == "carried-data"]
    assert len(found) == 21
    assert "in 30 further places" in found[-1].sentence


def test_external_data_is_looked_at_where_it_was_read() -> None:
    model, whole = plain(), plain()
    _unused(np.frombuffer(ELF, np.uint8))(whole)
    codes = [o.code for o in audit(model, b"", Path("m.onnx"), whole=whole)]
    assert codes == ["carried-data"]


def test_what_external_data_holds_beside_tensors_is_looked_at(tmp_path: Path) -> None:
    model, whole = plain(), plain()
    path, data = tmp_path / "m.onnx", tmp_path / "m.data"
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)
    with data.open("ab") as file:
        file.write(ELF)
    model = onnx.load(path, load_external_data=False)
    (program,) = audit(model, b"", path, whole=whole)
    assert program.details["kind"] == "an ELF program"
    data.write_bytes(data.read_bytes()[: -len(ELF)] + b"some words")
    (spare,) = audit(model, b"", path, whole=whole)
    assert (spare.code, spare.severity) == ("spare-external-data", Severity.NOTE)
    assert "10 bytes of 'm.data' belong to no tensor" in spare.sentence


@pytest.mark.parametrize("characters", [120, 29])
def test_noise_in_base_64_is_put_together_from_names_or_comments(characters: int) -> None:
    text = base64.b64encode(RANDOM[:1500]).decode()
    pieces = [text[i : i + characters] for i in range(0, len(text), characters)]

    def change(model: onnx.ModelProto) -> None:
        last = model.graph.output[0].name
        for place, piece in enumerate(pieces):
            node = helper.make_node("Identity", [last], [f"idle{place}"])
            node.doc_string = piece
            model.graph.node.append(node)

    codes = {(o.code, o.details.get("kind")) for o in told(change)}
    assert ("carried-data", "what looks compressed or encrypted") in codes


def test_words_as_numbers_of_unused_weights_are_text() -> None:
    words = np.frombuffer(b"The quick brown fox jumps over the lazy dog. " * 4, np.uint8)
    (observation,) = told(_unused(words.astype(np.float32)))
    assert observation.details["kind"] == "text"


def test_constants_without_effect_are_counted() -> None:
    def change(model: onnx.ModelProto) -> None:
        _unused(np.ones(40_000, np.float32))(model)
        model.graph.node.append(helper.make_node("Neg", ["stowaway"], ["unread"], name="idle"))

    by_code = {o.code: o for o in told(change)}
    assert by_code["idle-constants"].severity is Severity.WARNING
    assert by_code["idle-constants"].details["bytes"] == 160_000
    assert by_code["idle-nodes"].nodes == ("idle",)


def test_bytes_of_no_known_kind_are_noise_or_nothing() -> None:
    assert recognise(RANDOM) is not None
    assert recognise(RANDOM, unknown=False) is None
    assert recognise(bytes(6000)) is None
