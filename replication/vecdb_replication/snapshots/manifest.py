"""What a snapshot consists of: the names, sizes and checksums of its files.

The manifest is all that Raft's snapshot message carries. It comes from another
node, so nothing in it is believed before it was looked at: `decode` takes only
what `Manifest.encode` gives, and only names that cannot lead out of a folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import msgpack

FORMAT: Final = 1
MAX_FILES: Final = 4096
MAX_FILE_BYTES: Final = 1 << 44
MAX_TOTAL_BYTES: Final = 1 << 46
MAX_BYTES: Final = 1 << 20
"""Of an encoded manifest."""
MAX_NAME: Final = 128

_SNAPSHOT: Final = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
# At most one folder, and nothing that begins with a dot: no way up, no hidden files, no root.
_PART: Final = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_FILE: Final = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)


class ManifestRefused(ValueError):
    """These bytes are no manifest, or one that asks for what must not be; the message says why."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a snapshot: its name (at most one folder deep), size in bytes and CRC32C."""

    name: str
    size: int
    crc: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot of a group's state: its own name, the last entry in it, and its files.

    Raises ManifestRefused where that breaks a limit of this module, a name is
    not acceptable or occurs twice, or a file is named as another's folder.
    """

    group: int
    snapshot: str
    index: int
    files: tuple[FileEntry, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.group < 1 << 64 or not 0 <= self.index < 1 << 63:
            raise ManifestRefused("group or index is out of range")
        if not _SNAPSHOT.fullmatch(self.snapshot):
            raise ManifestRefused(f"not the name of a snapshot: {self.snapshot[:MAX_NAME]!r}")
        if not 0 < len(self.files) <= MAX_FILES:
            raise ManifestRefused(f"{len(self.files)} files, and 1 to {MAX_FILES} are possible")
        for entry in self.files:
            _check(entry)
        names = {entry.name for entry in self.files}
        folders = {str(PurePosixPath(name).parent) for name in names}
        if len(names) < len(self.files) or names & folders:
            raise ManifestRefused("two files have one name")
        if self.total > MAX_TOTAL_BYTES:
            raise ManifestRefused(f"{self.total} bytes, and {MAX_TOTAL_BYTES} is the limit")

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    def encode(self) -> bytes:
        """As bytes: the same for the same manifest."""
        files = [[entry.name, entry.size, entry.crc] for entry in self.files]
        packed: bytes = msgpack.packb([FORMAT, self.group, self.snapshot, self.index, files])
        return packed


def _check(entry: FileEntry) -> None:
    if len(entry.name) > MAX_NAME or not _FILE.fullmatch(entry.name):
        raise ManifestRefused(f"not the name of a file: {entry.name[:MAX_NAME]!r}")
    if not 0 <= entry.size <= MAX_FILE_BYTES or not 0 <= entry.crc < 1 << 32:
        raise ManifestRefused(f"{entry.name}: size or checksum is out of range")


def decode(data: bytes) -> Manifest:
    """The manifest in `data`. ManifestRefused."""
    if len(data) > MAX_BYTES:
        raise ManifestRefused(f"{len(data)} bytes, and {MAX_BYTES} is the limit")
    try:
        version, group, snapshot, index, files = msgpack.unpackb(data, max_ext_len=0, max_map_len=0)
        if version != FORMAT:
            raise ManifestRefused(f"format {version}; this vecdb reads {FORMAT}")
        entries = tuple(
            FileEntry(_is(str, name), _is(int, size), _is(int, crc)) for name, size, crc in _is(list, files)
        )
        manifest = Manifest(_is(int, group), _is(str, snapshot), _is(int, index), entries)
    except ManifestRefused:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ManifestRefused(f"not a manifest: {error}") from error
    if manifest.encode() != data:
        raise ManifestRefused("not the one way to write this manifest")
    return manifest


def _is(kind: type[Any], value: object) -> Any:
    if type(value) is not kind:
        raise ManifestRefused(f"{type(value).__name__} in place of {kind.__name__}")
    return value
