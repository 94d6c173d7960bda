"""Small files that are there whole or not at all, whatever happens."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's share of it, has no more room."""
    return error.errno in _FULL


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of what `path` holds; durable on return. OSError leaves the old."""
    made = path.with_suffix(".new")
    try:
        with made.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        made.unlink(missing_ok=True)
        raise
    made.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make durable which names a directory holds."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
