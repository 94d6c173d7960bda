"""Finding files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from vecdb.knowledge.errors import ParseTooLarge, SourceError
from vecdb.knowledge.records import iter_jsonl, read_lines
from vecdb.knowledge.source import Limits
from vecdb.knowledge.walk import FoundFile, read_file, read_limited, scope_of, walk


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "docs/b.md",
        "docs/a.txt",
        "docs/sub/c.md",
        "docs/sub/.hidden",
        "docs/.git/x",
        "other/d.md",
        ".e.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*paths: str | Path, **options: object) -> list[str]:
    return [found.name for found in walk(paths, **options)]


def test_folders_are_walked_in_order(tree: Path) -> None:
    """Files come sorted, named as they were asked for; hidden ones are left out."""
    assert names("docs") == ["docs/a.txt", "docs/b.md", "docs/sub/c.md"]
    assert names("./docs/../docs/") == names("docs")
    assert names(".") == ["docs/a.txt", "docs/b.md", "docs/sub/c.md", "other/d.md"]
    assert names(tree / "other") == [f"{tree.as_posix()}/other/d.md"]
    assert names("other", "docs/a.txt") == ["other/d.md", "docs/a.txt"]
    assert [(found.path, found.size) for found in walk(["other"])] == [(Path("other/d.md"), 10)]


def test_files_that_are_named_are_taken(tree: Path) -> None:
    """A hidden file, or one that no pattern matches, is taken when it is named."""
    assert names(".e.md", "docs/sub/.hidden", include=["*.txt"], exclude=["*.md"]) == [
        ".e.md",
        "docs/sub/.hidden",
    ]


def test_each_file_comes_once(tree: Path) -> None:
    """Paths that overlap, and links to the same file, give it once."""
    Path("docs/z-link.md").symlink_to(tree / "docs/b.md")
    assert names("docs/b.md", "docs", "docs") == ["docs/b.md", "docs/a.txt", "docs/sub/c.md"]


def test_patterns(tree: Path) -> None:
    """Globs without a slash look at the last part, with one at the path below the folder."""
    assert names("docs", include=["*.md"]) == ["docs/b.md", "docs/sub/c.md"]
    assert names("docs", include=["sub/*"]) == ["docs/sub/c.md"]
    assert names("docs", exclude=["sub"]) == ["docs/a.txt", "docs/b.md"]
    assert names("docs", include=["*.md"], exclude=["sub/c.*"]) == ["docs/b.md"]


def test_loops_and_odd_files(tree: Path) -> None:
    """Links are followed once; loops, dangling links, pipes and unreadable things stop nothing."""
    Path("docs/sub/loop").symlink_to(tree / "docs")
    Path("docs/sub/out").symlink_to(tree / "other")
    Path("docs/dangling.md").symlink_to(tree / "nowhere")
    os.mkfifo("docs/pipe.md")
    skipped: list[tuple[str, str]] = []
    found = names("docs", on_skip=lambda name, why: skipped.append((name, why)))
    assert found == ["docs/a.txt", "docs/b.md", "docs/sub/c.md", "docs/sub/out/d.md"]
    assert skipped == [("docs/dangling.md", "No such file or directory")]


def test_large_files_are_skipped(tree: Path) -> None:
    """A file beyond the limit is told of and left out."""
    Path("docs/big.txt").write_bytes(b"x" * 101)
    skipped: list[tuple[str, str]] = []
    assert "docs/big.txt" not in names(
        "docs", max_bytes=100, on_skip=lambda name, why: skipped.append((name, why))
    )
    assert skipped == [("docs/big.txt", "101 bytes, more than max_bytes (100)")]
    assert names("docs", max_bytes=5) == []


def test_missing_paths_are_refused(tree: Path) -> None:
    """A path that does not exist is an error, not an empty folder."""
    with pytest.raises(SourceError, match="nowhere: No such file"):
        names("nowhere")


def test_names_are_utf8(tree: Path) -> None:
    """A file name in another encoding is spelled so that it can be sent."""
    Path(os.fsdecode(b"other/caf\xe9.txt")).write_text("x")
    assert names("other") == ["other/caf\\udce9.txt", "other/d.md"]


def test_scopes() -> None:
    """The scope of a path is what the names under it begin with."""
    assert [scope_of(path) for path in (".", "./docs/", Path("/a/b"), "x.jsonl", "/")] == [
        "",
        "docs",
        "/a/b",
        "x.jsonl",
        "/",
    ]


def test_the_root_folder(tmp_path: Path) -> None:
    """Names below a root have one slash."""
    assert next(
        iter(
            walk(
                ["/"],
                include=["etc/hostname", "etc/passwd"],
                exclude=[
                    "proc",
                    "sys",
                    "work",
                    "usr",
                    "var",
                    "tmp",
                    "home",
                    "root",
                    "opt",
                    "mnt",
                    "dev",
                    "run",
                    "lib*",
                ],
            )
        )
    ).name.startswith("/etc/")


def test_reading_is_limited(tree: Path) -> None:
    """A file is read whole, or not at all if it grew beyond the limit or vanished."""
    (found,) = walk(["other"])
    assert read_file(found) == b"other/d.md"
    with pytest.raises(ParseTooLarge, match="max_bytes"):
        read_file(found, max_bytes=9)
    with pytest.raises(SourceError, match="No such file"):
        read_file(FoundFile("gone", Path("gone"), 0))
    assert read_limited(io.BytesIO(b"12345"), "stdin", 5) == b"12345"
    with pytest.raises(ParseTooLarge, match="stdin"):
        read_limited(io.BytesIO(b"123456"), "stdin", 5)


def test_lines_are_read_one_by_one() -> None:
    """A stream of records is never read whole, not even its endless line."""

    class Endless(io.RawIOBase):
        """Zeros without end, and without a newline."""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: bytearray) -> int:
            buffer[:] = b"0" * len(buffer)
            return len(buffer)

    limits = Limits(max_record_bytes=100)
    lines = b'{"text": "a"}\n{"text": "b"}'
    assert [source.text for source in iter_jsonl("stdin", read_lines(io.BytesIO(lines), limits), limits)] == [
        "a",
        "b",
    ]
    with pytest.raises(ParseTooLarge, match="line 1"):
        list(iter_jsonl("stdin", read_lines(io.BufferedReader(Endless()), limits), limits))
