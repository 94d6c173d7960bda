"""Manifests: one way to write each, and nothing in one leads out of its folder."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vecdb_replication.snapshots import FileEntry, Manifest, ManifestRefused, decode
from vecdb_replication.snapshots.manifest import MAX_BYTES, MAX_FILE_BYTES, MAX_FILES

from tests.unit.replication.snapshots.shelf import manifest_of

ENTRY = FileEntry("shard.db", 3, 4)
NAMES = st.from_regex(r"[a-z0-9_-]{1,9}(\.[a-z]{1,3})?(/[a-z0-9]{1,9})?", fullmatch=True)
ENTRIES = st.builds(FileEntry, NAMES, st.integers(0, MAX_FILE_BYTES >> 12), st.integers(0, (1 << 32) - 1))


def packed(
    files: object, version: object = 1, group: object = 7, snapshot: object = "a1", index: object = 5
) -> bytes:
    return msgpack.packb([version, group, snapshot, index, files])


@given(
    st.lists(ENTRIES, min_size=1, max_size=5, unique_by=lambda e: e.name.split("/")[0]), st.integers(0, 99)
)
def test_what_is_encoded_comes_back(entries: list[FileEntry], index: int) -> None:
    """decode is the inverse of encode."""
    manifest = Manifest(7, "c0ffee", index, tuple(entries))
    assert decode(manifest.encode()) == manifest
    assert manifest.total == sum(entry.size for entry in entries)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a/./b",
        "a//b",
        "a/",
        "/a",
        ".hidden",
        "a/.hidden",
        "a/b/c",
        "a..b",
        "a.",
        "a\\b",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "C:",
        "~",
        "x" * 129,
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(name: str) -> None:
    """Only plain names, at most one folder deep; the one that says so is `decode`, on any bytes."""
    with pytest.raises(ManifestRefused, match="name of a file"):
        decode(packed([[name, 1, 2]]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a manifest"),
        (b"\xc1", "not a manifest"),
        (packed([["a", 1, 2]])[:-1], "not a manifest"),
        (packed([["a", 1, 2]]) + b"\0", "not a manifest"),
        (msgpack.packb({"a": 1}), "not a manifest"),
        (packed([["a", 1, 2]], version=2), "format 2"),
        (packed({}), "in place of list"),
        (packed([["a", 1]]), "not a manifest"),
        (packed([["a", True, 2]]), "bool in place of int"),
        (packed([["a", 1.0, 2]]), "float in place of int"),
        (packed([[b"a", 1, 2]]), "bytes in place of str"),
        (packed([["a", -1, 2]]), "out of range"),
        (packed([["a", MAX_FILE_BYTES + 1, 2]]), "out of range"),
        (packed([["a", 1, 1 << 32]]), "out of range"),
        (packed([["a", 1, 2]], group=-1), "out of range"),
        (packed([["a", 1, 2]], index=1 << 63), "out of range"),
        (packed([["a", 1, 2]], snapshot="../x"), "name of a snapshot"),
        (packed([["a", 1, 2]], snapshot="AB"), "name of a snapshot"),
        (packed([]), "0 files"),
        (packed([["a", 1, 2], ["a", 1, 2]]), "one name"),
        (packed([["a", 1, 2], ["a/b", 1, 2]]), "one name"),
        (packed([[f"f{i}", 1, 2] for i in range(MAX_FILES + 1)]), f"{MAX_FILES + 1} files"),
        (packed([[f"f{i}", MAX_FILE_BYTES, 2] for i in range(5)]), "is the limit"),
        (b"x" * (MAX_BYTES + 1), "is the limit"),
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes, why: str) -> None:
    """Every field has its type and range; limits hold before anything is made of them."""
    with pytest.raises(ManifestRefused, match=why):
        decode(data)


def test_there_is_one_way_to_write_a_manifest() -> None:
    """The same values in a longer form of msgpack are refused: equal manifests are equal bytes."""
    data = manifest_of().encode()
    assert data[1:2] == b"\x01"
    with pytest.raises(ManifestRefused, match="one way"):
        decode(data[:1] + b"\xcc\x01" + data[2:])


@given(st.binary(max_size=80))
def test_any_bytes_are_a_manifest_or_refused(data: bytes) -> None:
    """Nothing else comes out of decode."""
    try:
        manifest = decode(data)
    except ManifestRefused:
        return
    assert manifest.encode() == data
