"""The data folder: locked, marked, and never begun where something else may be missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vecdb.data_dir import DataDirError, open_data_dir


def begun(root: Path) -> str:
    data = open_data_dir(root, may_begin=True)
    data.close()
    return data.node_id


def test_a_new_folder_is_begun_once(tmp_path: Path) -> None:
    """The first opening makes folders and an id; later ones find them, and need not be allowed to begin."""
    root = tmp_path / "deep" / "data"
    data = open_data_dir(root, may_begin=True)
    assert data.is_new
    assert len(data.node_id) == 32
    assert [data.log, data.catalog, data.shards] == [root / "log", root / "catalog/state", root / "shards"]
    data.close()
    again = open_data_dir(root, may_begin=False)
    assert (again.is_new, again.node_id) == (False, data.node_id)
    again.close()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """While one holds it another is refused; afterwards it is free, also after a refusal."""
    data = open_data_dir(tmp_path, may_begin=True)
    for _ in range(2):
        with pytest.raises(DataDirError, match="in use by another"):
            open_data_dir(tmp_path, may_begin=True)
    data.close()
    assert begun(tmp_path) == data.node_id


def test_an_empty_folder_may_be_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    """Where beginning is not allowed, an empty folder is refused with what to do, and stays empty of data."""
    with pytest.raises(DataDirError, match="--init"):
        open_data_dir(tmp_path, may_begin=False)
    assert [path.name for path in tmp_path.iterdir()] == ["LOCK"]


@pytest.mark.parametrize("made", ["holiday.jpg", "log/0001.log", "shards/2/shard.db"])
def test_a_folder_with_other_things_in_it_is_not_filled(tmp_path: Path, made: str) -> None:
    """Strange files, and logs or shards without their marker, are refused and left alone."""
    path = tmp_path / made
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(DataDirError, match=made.split("/")[0]):
        open_data_dir(tmp_path, may_begin=True)
    assert path.read_text() == "mine"
    assert not (tmp_path / "NODE").exists()


def test_a_beginning_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    """Empty folders and an unfinished marker are those of a first start that was interrupted."""
    for name in ("log", "catalog", "shards", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "NODE.new").write_text("{")
    assert begun(tmp_path) == begun(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": "x", "node_id": "a"}', '{"format": null, "node_id": "a"}', "\xff"],
)
def test_a_damaged_marker_is_told(tmp_path: Path, content: str) -> None:
    """A marker that cannot be read is damage, and names the file."""
    begun(tmp_path)
    (tmp_path / "NODE").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataDirError, match=f"{tmp_path}/NODE is damaged"):
        open_data_dir(tmp_path, may_begin=True)


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    """A folder that a newer vecdb wrote is refused, whatever else its marker says."""
    begun(tmp_path)
    marker = tmp_path / "NODE"
    told = json.loads(marker.read_text()) | {"format": 2, "future": True}
    marker.write_text(json.dumps(told))
    with pytest.raises(DataDirError, match="format version 2 was written by a newer vecdb"):
        open_data_dir(tmp_path, may_begin=True)
    assert json.loads(marker.read_text()) == told
