"""Links of a download cache: a snapshot names its files, and the folder `blobs` holds them by hash.

Hugging Face's cache is laid out so, and a model in it is a link, as is its external data. Such a
link is followed, and no other: its target is relative, leads up to a folder `blobs`, and ends in
nothing but a hash. What it can reach is another file of the same download.
"""

import os
import re
from pathlib import Path

_TARGET = re.compile(r"(?:\.\./)+blobs/[0-9a-f]{40,64}")


def blob(path: Path) -> Path | None:
    """Return the file in `blobs` that a link stands for; None for whatever is no such link."""
    try:
        target = str(path.readlink())
    except (OSError, ValueError):
        return None
    return Path(os.path.normpath(path.parent / target)) if _TARGET.fullmatch(target) else None
