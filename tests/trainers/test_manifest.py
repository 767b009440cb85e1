"""The list of models beside the models."""

import concurrent.futures
import dataclasses
import json
from pathlib import Path

import pytest
from trainer_data import entry

from trainers import manifest
from trainers.errors import ManifestError


def test_entries_come_back_sorted_and_the_newer_wins(tmp_path: Path) -> None:
    old, other = entry("b.onnx", seed=1), entry("a.onnx")
    manifest.add(tmp_path, [old])
    manifest.add(tmp_path, [other, dataclasses.replace(old, seed=2)])
    assert manifest.read(tmp_path) == [other, dataclasses.replace(old, seed=2)]


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        added = [
            pool.submit(manifest.add, tmp_path, [entry(f"{index:02d}.onnx")]) for index in range(24)
        ]
    assert not any(future.exception() for future in added)
    assert [e.file for e in manifest.read(tmp_path)] == [f"{index:02d}.onnx" for index in range(24)]


def test_a_folder_without_a_manifest_lists_nothing(tmp_path: Path) -> None:
    assert manifest.read(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2, "models": []}', '{"schema": 1, "models": [{"file": "a.onnx"}]}'],
)
def test_a_damaged_manifest_is_named_and_kept(tmp_path: Path, text: str) -> None:
    path = tmp_path / manifest.NAME
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"manifest\.json is not a manifest of schema 1"):
        manifest.add(tmp_path, [entry("a.onnx")])
    assert path.read_text() == text


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    manifest.add(tmp_path, [entry("a.onnx")])
    data = json.loads((tmp_path / manifest.NAME).read_text())
    assert data["schema"] == 1
    assert data["models"][0]["file"] == "a.onnx"
