"""What was measured before, kept in a folder: an unchanged model costs a look at its bytes.

An entry is found by everything that could change it: the bytes of the model and of its external
data, the settings, the versions of this program and of ONNX Runtime; a result also by what judged
it. Whoever can write into the folder can write verdicts, so it belongs to whoever runs the scan.
"""

import dataclasses
import itertools
import json
import mmap
import os
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from scanner import jsonfile
from scanner.errors import UsageError
from scanner.judging.courses import Choice
from scanner.judging.population import Baseline
from scanner.results import ModelRecord, ScanResult
from scanner.settings import Settings
from scanner.values import from_json, to_json
from scanner.version import PROGRAM, VERSION

T = TypeVar("T", ModelRecord, ScanResult)

_FORMAT = 4
_MOST_FILES = 1000  # in a model's folder, any of which may hold its weights
# Settings that change no number of a measurement. The time allowed does: searches end by it.
_NOT_MEASURED = frozenset({"alpha", "miss", "shipped_baselines", "require_isolation", "unconfined"})
# onnx.StringStringEntryProto {key = "location", value = TEXT}, as protobuf writes it: field 1, its
# length, the key, field 2, then the length of the value in up to two bytes.
_WORD = b"location"
_LOCATION = re.compile(rb"\x0a\x08location\x12(?:([\x00-\x7f])|([\x80-\xff])([\x01-\x7f]))")


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """Under what a model's record is kept.

    Attributes:
        name: A hash of everything that could change the record.
        sha256: Of the model file itself.
    """

    name: str
    sha256: str


class Cache:
    """A folder of records and results, one file each.

    Args:
        folder: Made where it is missing.

    Raises:
        UsageError: The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"the cache {str(folder)!r} cannot be made ({error.strerror})",
                remedy="name another folder as the setting `cache`",
            ) from error
        self._versions = {PROGRAM: VERSION, "onnxruntime": _installed("onnxruntime")}
        self._hashes: dict[tuple[str, int, int], str] = {}

    def key(
        self,
        model: str | os.PathLike[str],
        settings: Settings,
        *,
        alone: bool = False,
        choice: Choice | None = None,
        among: int = 0,
    ) -> Key | None:
        """Return the key of a model as it is now; None where it has none, and is always measured.

        That is a file that cannot be read, whose external data lies outside its folder, or may be
        any of very many files.

        Args:
            model: Its file.
            settings: How it is measured.
            alone: Whether no clean model that the user names judges it.
            choice: For a reference, what a suspect chose for it; None for a model by itself.
            among: How many references there are, where there is a choice.
        """
        path = Path(model)
        try:
            own = self._hash(path)
            files = {
                name: self._hash(path.parent / name) for name in _external_data(path, self._folder)
            }
            images = [self._hash(file) for file in _image_files(settings)]
        except (OSError, ValueError):
            return None
        asked = {n: v for n, v in to_json(settings).items() if n not in _NOT_MEASURED}
        facts = [_FORMAT, own, files, images, asked, alone, self._versions]
        if choice is not None:
            facts += [to_json(choice), among]
        return Key(name=_digest(json.dumps(facts, sort_keys=True)), sha256=own)

    def record(self, key: Key) -> ModelRecord | None:
        """Return the record that was kept, or None."""
        return self._read(f"{key.name}.record.json", ModelRecord)

    def keep_record(self, key: Key, record: ModelRecord) -> None:
        """Keep a record, unless it is of other bytes: the file may have changed meanwhile."""
        if record.model.sha256 == key.sha256:
            self._write(f"{key.name}.record.json", record)

    def result(self, key: Key, judges: str) -> ScanResult | None:
        """Return the result that was kept for these judges (`judges`), or None."""
        return self._read(f"{key.name}.{judges}.json", ScanResult)

    def keep_result(self, key: Key, judges: str, result: ScanResult) -> None:
        """Keep a result, unless it is of other bytes."""
        if result.model.sha256 == key.sha256:
            self._write(f"{key.name}.{judges}.json", result)

    def _hash(self, path: Path) -> str:
        """Return the SHA-256 of a file, read once per run as long as it looks the same."""
        import hashlib  # noqa: PLC0415 - only a scan with a cache needs it

        status = path.stat()
        if not path.is_file():
            raise ValueError(f"{path} is not a file")
        name = (str(path), status.st_size, status.st_mtime_ns)
        if name not in self._hashes:
            with path.open("rb") as file:
                self._hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._hashes[name]

    def _read(self, name: str, kind: type[T]) -> T | None:
        """Return what a file holds; a damaged one is as good as none."""
        try:
            return from_json(kind, jsonfile.parse(jsonfile.read(self._folder / name)))
        except ValueError:  # among them `UnreadableError` and `UnfitError`
            return None

    def _write(self, name: str, value: ModelRecord | ScanResult) -> None:
        """Write a file that appears whole; a full disk costs the entry, not the scan."""
        path = self._folder / name
        # Two threads may have measured copies of one file.
        temporary = self._folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            temporary.write_text(json.dumps(to_json(value)), encoding="utf-8")
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)


def judges(references: Sequence[ModelRecord], baseline: Baseline | None, settings: Settings) -> str:
    """Return a short name for everything that a result depends on besides its record."""
    facts = [
        to_json(references),
        to_json(baseline) if baseline else None,
        settings.alpha,
        settings.miss,
        settings.shipped_baselines,
    ]
    return _digest(json.dumps(facts, sort_keys=True))[:16]


def renamed(value: T, path: str) -> T:
    """Return a record or result under the name that its model has now."""
    return dataclasses.replace(value, model=dataclasses.replace(value.model, path=path))


def _external_data(model: Path, cache: Path) -> Iterator[str]:
    """Yield the files in a model's folder that hold its external data.

    They are looked up in the bytes, not parsed. Where the word appears in another way than onnx
    writes it, any file in the folder or below may be meant, and all are taken.

    Args:
        model: Its file.
        cache: The cache's own folder, which changes with every model and holds no weights.

    Raises:
        ValueError: One lies outside the folder, or too many may be meant.
    """
    if model.stat().st_size == 0:
        return
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = list(_LOCATION.finditer(data))
        names = {data[m.end() : m.end() + _length(m)] for m in found}
        plain = len(found) == sum(1 for _ in re.finditer(_WORD, data))
    if not plain:
        names |= {os.fsencode(name) for name in _below(model.parent.absolute(), cache.absolute())}
    root = model.parent.resolve()
    for name in sorted(os.fsdecode(raw) for raw in names):
        if not (root / name).resolve().is_relative_to(root):
            raise ValueError(f"{name!r} lies outside the model's folder")
        yield name


def _below(folder: Path, cache: Path) -> list[Path]:
    """Return the files in a folder and below, relative to it, but for those of a cache inside.

    Raises:
        ValueError: There are too many to look at for one model.
    """
    own = cache if folder in cache.parents else None
    files = (p for p in folder.rglob("*") if p.is_file() and own not in p.parents)
    found = list(itertools.islice(files, _MOST_FILES + 1))
    if len(found) > _MOST_FILES:
        raise ValueError(f"{str(folder)!r} holds more than {_MOST_FILES:,} files")
    return [path.relative_to(folder) for path in found]


def _length(match: re.Match[bytes]) -> int:
    """Return the length of a value from its one or two bytes (protobuf's base 128)."""
    if match[1] is not None:
        return match[1][0]
    return (match[2][0] & 0x7F) | match[3][0] << 7


def _image_files(settings: Settings) -> Iterator[Path]:
    if settings.images_file:
        yield Path(settings.images_file)
    if settings.images_folder:
        yield from sorted(p for p in Path(settings.images_folder).rglob("*") if p.is_file())


def _installed(distribution: str) -> str:
    from importlib import metadata  # noqa: PLC0415 - only a scan with a cache needs it

    for name in (distribution, f"{distribution}-gpu"):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "none"


def _digest(text: str) -> str:
    import hashlib  # noqa: PLC0415 - only a scan with a cache needs it

    return hashlib.sha256(text.encode()).hexdigest()
