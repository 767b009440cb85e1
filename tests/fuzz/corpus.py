"""The corpus: small files and replies from which every mutant descends, kept beside this module.

    PYTHONPATH=.:tests python -m fuzz.corpus

writes it anew. It holds the tiny models of the tests in all idioms that they know, one model per
row of the table of gradients, the hostile files that are small, and a reply for each of a few of
them. What a fuzzer finds is added as a file of its own, `found-*`, and stays.
"""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import exporter_idioms
import models
import numpy as np
from hostile import attacks

from scanner.detectors import FAMILY
from scanner.examine import examine
from scanner.protocol import Job, Source
from scanner.settings import Budget, Device, Settings
from scanner.values import to_json

FOLDER = Path(__file__).parent / "corpus"
FILES, REPLIES = FOLDER / "files", FOLDER / "replies"
LARGEST = 4096  # bytes of a file
_ROWS = Path(__file__).parents[1] / "scanner/graph/gradient/vjps/test_rules.py"


def files(prefix: str = "") -> list[bytes]:
    """Return the files of the corpus, in the order of their names, which begin with a prefix."""
    return [path.read_bytes() for path in sorted(FILES.glob(f"{prefix}*"))]


def replies() -> list[bytes]:
    """Return the replies of the corpus, in the order of their names."""
    return [path.read_bytes() for path in sorted(REPLIES.iterdir())]


def built() -> Mapping[str, bytes]:
    """Return the files that this module makes, by name."""
    made = dict(_built())
    return {name: data for name, data in made.items() if len(data) <= LARGEST}


def _built() -> Iterator[tuple[str, bytes]]:
    for name, build in models.MEASURABLE.items():
        for planted in (False, True):
            yield f"model {name} {planted}", build(planted).SerializeToString()
    for name, honest in exporter_idioms.HONEST.items():
        yield f"idiom {name}", honest().SerializeToString()
    # Not those of `attacks.BOUNDED`: the guards let them in at a cost of seconds, by design.
    for group in (attacks.REFUSED, attacks.MALFORMED, attacks.TYPED):
        for name, attack in group.items():
            yield f"attack {name}", attack().SerializeToString()
    for name, row in _gradient_rows().items():
        yield f"operator {name}", row.function.model(np.float32).SerializeToString()


def _gradient_rows() -> Mapping[str, Any]:
    spec = importlib.util.spec_from_file_location("rows", _ROWS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    rows: Mapping[str, Any] = module.ROWS
    return rows


def _reply(data: bytes) -> bytes:
    """Return what a child says of a small model, its path left out."""
    settings = Settings(images=2, device=Device.CPU, budget=Budget.QUICK, detectors=tuple(FAMILY))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        job = Job(
            model=Source(name="model", path=str(path)),
            references=(),
            records=(),
            settings=settings,
        )
        answer = to_json(examine(job, lambda _: None))
    return json.dumps({"answer": answer}, separators=(",", ":")).encode()


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def main() -> None:
    """Write what this module makes; what was found is left alone."""
    for folder in (FILES, REPLIES):
        folder.mkdir(parents=True, exist_ok=True)
    for name, data in built().items():
        (FILES / f"{_slug(name)}.onnx").write_bytes(data)
    for planted in (False, True):
        data = models.plain(planted).SerializeToString()
        (REPLIES / f"plain-{planted}.json".lower()).write_bytes(_reply(data))
    (REPLIES / "gate.json").write_bytes(_reply(exporter_idioms.reject_option().SerializeToString()))


if __name__ == "__main__":
    main()
