"""Files stay inside the folder that they are written into, whatever lies there already."""

import errno
import os
from pathlib import Path
from typing import Any, Self

import pytest

from scanner.report.folder import write_file


def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    write_file(tmp_path / "new", ("a", "b"), "file", b"data")
    write_file(tmp_path / "new", ("a", "b"), "file", b"again")
    assert (tmp_path / "new" / "a" / "b" / "file").read_bytes() == b"again"


def test_a_link_in_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "step").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        write_file(tmp_path / "folder", ("step",), "file", b"data")
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_a_link_in_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept", tmp_path / "folder" / "file"
    kept.write_bytes(b"mine")
    link.parent.mkdir()
    link.symlink_to(kept)
    write_file(link.parent, (), link.name, b"data")
    assert kept.read_bytes() == b"mine"
    assert link.read_bytes() == b"data"
    assert not link.is_symlink()


def test_a_file_that_is_cut_off_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.fdopen

    def full(descriptor: int, mode: str) -> Any:
        file = opened(descriptor, mode)
        file.write(b"da")

        class Full:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, _: bytes) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path, (), "file", b"data")
    assert [*tmp_path.iterdir()] == []
