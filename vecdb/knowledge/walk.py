"""Finding the files to ingest."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.source import DEFAULT_LIMITS


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to ingest: its name as a source, where it is, and its size in bytes."""

    name: str
    path: Path
    size: int


OnSkip = Callable[[str, str], None]


def _ignore(name: str, reason: str) -> None:
    """The default for `on_skip`."""


def walk(
    paths: Iterable[str | Path],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_bytes: int = DEFAULT_LIMITS.max_bytes,
    on_skip: OnSkip = _ignore,
) -> Iterator[FoundFile]:
    """Find files, in sorted order under each path.

    A file's name is its path as it was written, normalized ("./docs/../docs/a.md" is "docs/a.md", and what
    is under "." has no prefix): the same command in the same place finds the same names again, which is
    what a second ingest and `--prune` go by.

    In folders, hidden files and folders, and all that is no regular file, are left out. Links are followed,
    but no folder is entered twice, so loops end. Each file comes once.

    Args:
        paths: files and folders. A file named here is taken even if it is hidden or matches no pattern.
        include: globs; if any, a file in a folder must match one. A pattern with a slash is matched
            against the path below the folder, one without against the last part. `*` matches slashes too.
        exclude: globs of files and folders to leave out, matched in the same way.
        max_bytes: larger files are skipped.
        on_skip: called with the name and the reason for each file that is too large or cannot be read.

    Raises:
        SourceError: for a path that does not exist.

    """
    seen: set[tuple[int, int]] = set()
    for given in paths:
        root = Path(os.path.normpath(given))
        try:
            status = root.stat()
        except OSError as error:
            raise SourceError(str(given), error.strerror or "cannot be read") from None
        if stat.S_ISDIR(status.st_mode):
            found = _folder(root, scope_of(given), include, exclude, seen, on_skip)
        else:
            found = iter([(_utf8(root.as_posix()), root, status)])
        for name, path, about in found:
            if not stat.S_ISREG(about.st_mode) or (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            if about.st_size > max_bytes:
                on_skip(name, f"{about.st_size} bytes, more than max_bytes ({max_bytes})")
            else:
                yield FoundFile(name, path, about.st_size)


def scope_of(given: str | Path) -> str:
    """What names under a path given to `walk` begin with: the scope that `plan_prune` takes; "" for "."."""
    root = Path(os.path.normpath(given))
    return "" if root == Path() else _utf8(root.as_posix())


def _folder(
    root: Path,
    prefix: str,
    include: Sequence[str],
    exclude: Sequence[str],
    seen: set[tuple[int, int]],
    on_skip: OnSkip,
) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Entries below `root` that are no folders, depth first, each folder sorted by name."""
    stack: list[tuple[Path, str]] = [(root, "")]
    while stack:
        path, below = stack.pop()
        name = _utf8(f"/{below}" if prefix == "/" else "/".join(filter(None, (prefix, below))))
        try:
            about = path.stat()
            is_folder = stat.S_ISDIR(about.st_mode)
            if is_folder and (about.st_dev, about.st_ino) not in seen:
                seen.add((about.st_dev, about.st_ino))
                entries = sorted((entry.name for entry in path.iterdir()), reverse=True)
                stack.extend(
                    (path / entry, inner)
                    for entry in entries
                    if not entry.startswith(".")
                    and not _matches(inner := f"{below}/{entry}".lstrip("/"), exclude)
                )
        except OSError as error:
            on_skip(name, error.strerror or "cannot be read")
            continue
        if not is_folder and (not include or _matches(below, include)):
            yield name, path, about


def _matches(below: str, patterns: Sequence[str]) -> bool:
    last = below.rpartition("/")[2]
    return any(fnmatchcase(below if "/" in pattern else last, pattern) for pattern in patterns)


def _utf8(name: str) -> str:
    """A file name in an unknown encoding, with what is no UTF-8 spelled out: names are sent as UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_limited(stream: BinaryIO, name: str, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """Read all of a stream, standard input or a file that may have grown since it was found.

    Raises:
        ParseTooLarge: if it has more than `max_bytes`.

    """
    parts = []
    left = max_bytes + 1
    while left and (part := stream.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    if not left:
        raise ParseTooLarge(name, f"more than max_bytes ({max_bytes})")
    return b"".join(parts)


def read_file(found: FoundFile, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> bytes:
    """The content of a file that was found.

    Raises:
        SourceError: if it cannot be read any more.
        ParseTooLarge: if it has grown beyond `max_bytes`.

    """
    try:
        with found.path.open("rb") as stream:
            return read_limited(stream, found.name, max_bytes)
    except OSError as error:
        raise SourceError(found.name, error.strerror or "cannot be read") from None
