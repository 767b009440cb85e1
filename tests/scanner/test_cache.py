"""What is remembered is found by everything that could change it, and by nothing else."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner import cache as caches
from scanner.cache import Cache, judges, renamed
from scanner.errors import UsageError
from scanner.limits import Limits
from scanner.pipeline import measure
from scanner.settings import Budget, Device, Noise, Settings

SETTINGS = Settings(images=4, device=Device.CPU, detectors=("overactivation",))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models.save(models.plain(), tmp_path / "model.onnx")


def name(cache: Cache, model: Path, settings: Settings = SETTINGS) -> str:
    key = cache.key(model, settings)
    assert key is not None
    return key.name


def test_a_record_comes_back_unchanged(cache: Cache, model: Path) -> None:
    key = cache.key(model, SETTINGS)
    assert key is not None
    assert cache.record(key) is None
    record = measure(model, SETTINGS)
    cache.keep_record(key, record)
    assert cache.record(key) == record


CHANGES = {
    "noise": Noise.GAUSSIAN, "images": 5, "seed": 1, "input_range": (-1.0, 1.0),
    "input_shape": (1, 8, 8), "layer": "a", "logits": "b", "budget": Budget.STANDARD,
    "classes": (1,), "device": Device.AUTO, "threads": 2, "detectors": (),
    "limits": Limits(nodes=7), "timeout": 7.0,
}  # fmt: skip
SAME = {
    "alpha": 0.1,
    "miss": 0.2,
    "shipped_baselines": False,
    "require_isolation": True,
    "unconfined": True,
}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Settings)])
def test_settings_that_change_a_number_change_the_key(
    field: str, cache: Cache, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "i.npz").write_bytes(b"1")
    files = {"images_file": str(tmp_path / "i.npz"), "images_folder": str(tmp_path / "cache")}
    changed: dict[str, Any] = {field: {**CHANGES, **SAME, **files}[field]}
    other = dataclasses.replace(SETTINGS, **changed)
    assert (name(cache, model) == name(cache, model, other)) is (field in SAME)


def test_a_model_alone_is_asked_more(cache: Cache, model: Path) -> None:
    assert cache.key(model, Settings()) != cache.key(model, Settings(), alone=True)


def test_other_images_change_the_key(cache: Cache, model: Path, tmp_path: Path) -> None:
    images = tmp_path / "i.npz"
    chosen = dataclasses.replace(SETTINGS, images_file=str(images))
    images.write_bytes(b"1")
    before = name(cache, model, chosen)
    images.write_bytes(b"22")
    assert name(cache, model, chosen) != before


def test_a_copy_has_the_same_key_and_one_other_byte_another(
    cache: Cache, model: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    assert name(cache, copy) == name(cache, model)
    copy.write_bytes(model.read_bytes() + b"\0")
    assert name(cache, copy) != name(cache, model)


def with_external_data(folder: Path, location: str = "weights.bin") -> Path:
    """Save a model whose weights are in a file beside it."""
    proto = models.plain()
    path = folder / "external.onnx"
    onnx.save_model(
        proto, str(path), save_as_external_data=True, location=location, size_threshold=0
    )
    return path


def test_external_data_is_part_of_the_key(cache: Cache, tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    before = name(cache, path)
    data = tmp_path / "weights.bin"
    changed = np.frombuffer(data.read_bytes(), np.uint8) ^ 1
    data.write_bytes(changed.tobytes())
    os.utime(data, ns=(1, 1))
    assert name(Cache(str(tmp_path / "cache")), path) != before
    (tmp_path / "unrelated.bin").touch()
    assert name(cache, path) == name(Cache(tmp_path / "cache"), path)


def test_a_location_written_otherwise_takes_the_whole_folder(cache: Cache, tmp_path: Path) -> None:
    """Fields in another order are valid protobuf: a reader of bytes must not miss the file."""
    path = with_external_data(tmp_path)
    entry = b"\x0a\x08location\x12\x0bweights.bin"
    turned = b"\x12\x0bweights.bin\x0a\x08location"
    data = path.read_bytes()
    assert entry in data
    path.write_bytes(data.replace(entry, turned))
    assert onnx.load(str(path), load_external_data=False).graph.initializer[0].external_data
    before = name(cache, path)
    (tmp_path / "weights.bin").write_bytes(b"other")
    assert name(cache, path) != before


def test_data_in_a_folder_below_is_not_missed_where_the_word_stands_elsewhere(
    tmp_path: Path,
) -> None:
    """A node's name is enough to hide a file of weights from who only looks at one folder."""
    proto = models.plain()
    proto.graph.node[0].name = "relocation"
    (tmp_path / "below").mkdir()
    path = tmp_path / "model.onnx"
    onnx.save_model(
        proto, str(path), save_as_external_data=True, location="below/w.bin", size_threshold=0
    )
    before = name(Cache(tmp_path / "cache"), path)
    (tmp_path / "cache" / "entry.json").touch()  # the cache's own growth is no change
    assert name(Cache(tmp_path / "cache"), path) == before
    (tmp_path / "below" / "w.bin").write_bytes(b"other")
    assert name(Cache(tmp_path / "cache"), path) != before


def test_a_model_has_no_key_among_too_many_files(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_MOST_FILES", 2)
    proto = models.plain()
    proto.doc_string = "a location"
    path = models.save(proto, tmp_path / "model.onnx")
    assert cache.key(path, SETTINGS) is not None
    for number in range(2):
        (tmp_path / f"{number}.bin").touch()
    assert cache.key(path, SETTINGS) is None


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd"])
def test_data_outside_the_folder_is_never_remembered(
    location: str, cache: Cache, tmp_path: Path
) -> None:
    inside = tmp_path / "models"
    inside.mkdir()
    path = with_external_data(inside)
    old, new = b"weights.bin", location.encode()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\x12\x0b" + old, b"\x12" + bytes([len(new)]) + new))
    assert cache.key(path, SETTINGS) is None


@pytest.mark.parametrize("path", ["missing.onnx", "."])
def test_what_cannot_be_read_has_no_key(path: str, cache: Cache) -> None:
    assert cache.key(path, SETTINGS) is None


def test_a_record_of_other_bytes_is_not_kept(cache: Cache, model: Path) -> None:
    """The file was exchanged between the look at its bytes and its measurement."""
    key = cache.key(model, SETTINGS)
    assert key is not None
    models.save(models.plain(planted=True), model)
    cache.keep_record(key, measure(model, SETTINGS))
    assert cache.record(key) is None


@given(junk=st.binary(max_size=200))
def test_a_damaged_entry_is_none(junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cache")
    key = caches.Key(name="k", sha256="0")
    (folder / "k.record.json").write_bytes(junk)
    assert Cache(folder).record(key) is None


def test_judges_are_told_apart(model: Path) -> None:
    record = measure(model, SETTINGS)
    names = {
        judges([], None, SETTINGS),
        judges([record], None, SETTINGS),
        judges([], None, dataclasses.replace(SETTINGS, alpha=0.1)),
        judges([], None, dataclasses.replace(SETTINGS, miss=0.2)),
        judges([renamed(record, "other.onnx")], None, SETTINGS),
    }
    assert len(names) == 5


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        Cache(tmp_path / "file" / "cache")


def test_entries_are_json(cache: Cache, model: Path, tmp_path: Path) -> None:
    key = cache.key(model, SETTINGS)
    assert key is not None
    cache.keep_record(key, measure(model, SETTINGS))
    (entry,) = (tmp_path / "cache").iterdir()
    assert json.loads(entry.read_text(encoding="utf-8"))["model"]["sha256"] == key.sha256
