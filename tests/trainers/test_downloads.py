"""Archives from a web server on this machine."""

import functools
import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainers import downloads
from trainers.datasets import SOURCES
from trainers.downloads import ARCHIVES, Archive
from trainers.errors import DatasetError

CONTENT = b"some images"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine, and the folder that it serves."""
    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", root
        web.shutdown()
        thread.join()


def _pack(kind: str) -> bytes:
    packed = io.BytesIO()
    if kind == "gz":
        return gzip.compress(CONTENT)
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("folder/images", CONTENT)
    else:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo("folder/images")
            member.size = len(CONTENT)
            archive.addfile(member, io.BytesIO(CONTENT))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("gz", "images.gz"), ("zip", "a.zip"), ("tar", "a.tar.gz")],
)
def test_an_archive_is_fetched_checked_and_unpacked(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    url, root = server
    (root / name).write_bytes(_pack(kind))
    md5 = hashlib.md5((root / name).read_bytes(), usedforsecurity=False).hexdigest()
    archive = Archive(url=f"{url}/{name}", md5=md5, folder="set", kind=kind)  # type: ignore[arg-type] # from the table
    monkeypatch.setitem(ARCHIVES, "mnist", (archive,))
    downloads.download("mnist", tmp_path / "data")
    unpacked = "images" if kind == "gz" else "folder/images"
    assert (tmp_path / "data/set" / unpacked).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_says_what_to_do(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, root = server
    (root / "images.gz").write_bytes(_pack("gz"))
    archive = Archive(url=f"{url}/images.gz", md5="0" * 32, folder="set", kind="gz")
    monkeypatch.setitem(ARCHIVES, "mnist", (archive,))
    with pytest.raises(DatasetError, match=r"images\.gz could not be fetched whole") as caught:
        downloads.download("mnist", tmp_path / "data")
    assert "0" * 32 in caught.value.remedy
    assert not (tmp_path / "data/set/images").exists()


def test_no_network_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 9 of this machine: nothing listens there.
    archive = Archive(url="http://127.0.0.1:9/images.gz", md5="0" * 32, folder="set", kind="gz")
    monkeypatch.setitem(ARCHIVES, "mnist", (archive,))
    with pytest.raises(DatasetError, match="could not be fetched whole") as caught:
        downloads.download("mnist", tmp_path)
    assert f"unpack it under {tmp_path / 'set'}" in caught.value.remedy


def test_without_the_downloader_there_is_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DatasetError, match=r"pip install 'overactivation\[train\]'"):
        downloads.download("mnist", tmp_path)


def test_every_data_set_has_archives_with_checksums() -> None:
    assert ARCHIVES.keys() == SOURCES.keys()
    for archive in (archive for archives in ARCHIVES.values() for archive in archives):
        assert len(bytes.fromhex(archive.md5)) == 16
