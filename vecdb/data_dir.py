"""The folder that holds everything a node keeps.

NODE        JSON: the format version and the node's id
LOCK        held while a node runs
log/        the durable log
catalog/    the catalogue
shards/N/   shard N

Beside a shard and the catalogue lie their snapshots, see docs/snapshots.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vecdb.durable import replace_file

FORMAT: Final = 1


class DataDirError(Exception):
    """The folder cannot be used; the message says why and what to do."""


@dataclass(slots=True)
class DataDir:
    """An opened, locked data folder."""

    root: Path
    node_id: str
    is_new: bool
    _lock: int

    @property
    def log(self) -> Path:
        """The durable log."""
        return self.root / "log"

    @property
    def catalog(self) -> Path:
        """The catalogue's file."""
        return self.root / "catalog" / "state"

    @property
    def shards(self) -> Path:
        """The folder of shards."""
        return self.root / "shards"

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._lock)


def open_data_dir(root: Path, *, may_begin: bool) -> DataDir:
    """Lock a data folder and read who it belongs to; begin a new one where there is none.

    `may_begin` is False where an empty folder is more likely a mistake (a disk
    that is not mounted) than a wish. Raises DataDirError, OSError.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(root / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirError(f"{root} is in use by another vecdb process") from None
        marker = root / "NODE"
        is_new = not marker.exists()
        if is_new:
            _refuse_strangers(root)
            if not may_begin:
                raise DataDirError(
                    f"{root} is empty: say --init to begin a new cluster in it, or mount what should be there"
                )
            _begin(root, marker)
        return DataDir(root, _read(marker), is_new, lock)
    except BaseException:
        os.close(lock)
        raise


def _refuse_strangers(root: Path) -> None:
    """A folder with other things in it is not ours to fill. What a first start left unfinished is."""
    ours = {"LOCK", "NODE.new", "log", "catalog", "shards", "lost+found"}
    strangers = sorted(path.name for path in root.iterdir() if path.name not in ours)
    begun = [path for path in (root / "log", root / "shards") if path.is_dir() and any(path.iterdir())]
    if strangers or begun:
        shown = ", ".join(strangers[:3] or [path.name for path in begun])
        raise DataDirError(f"{root} is no vecdb data directory, and not empty: it has {shown}")


def _begin(root: Path, marker: Path) -> None:
    for name in ("log", "catalog", "shards"):
        (root / name).mkdir(exist_ok=True)
    told = {"format": FORMAT, "node_id": secrets.token_hex(16), "created_at": int(time.time())}
    replace_file(marker, json.dumps(told).encode() + b"\n")


def _read(marker: Path) -> str:
    try:
        told = json.loads(marker.read_text())
        version, node_id = int(told["format"]), str(told["node_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirError(f"{marker} is damaged: {error}") from None
    if version > FORMAT:
        raise DataDirError(
            f"{marker}: format version {version} was written by a newer vecdb; this one reads up to {FORMAT}"
        )
    return node_id
