"""A crash while the shards of a collection are being made."""

from __future__ import annotations

import asyncio
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

from tests.crash.pieces import copied, opened

# Calls into C that change, or may have changed, what is on disk.
STEPS = {"execute", "connect", "mkdir", "rename", "replace", "fsync", "open", "close", "unlink", "rmdir"}
FIELDS = {"year": "int", "tag": "keyword"}


async def test_killed_at_each_step_of_making_a_collection(tmp_path: Path) -> None:
    """Wherever a kill cuts the making of a shard, the next start makes it, with the fields it declares."""
    root, copies = tmp_path / "data", tmp_path / "copies"
    copies.mkdir()
    made: list[Path] = []

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event in {"c_call", "c_return"} and function.__name__ in STEPS:
            sys.setprofile(None)
            made.append(copied(root, copies / str(len(made))))
            sys.setprofile(profile)

    async with opened(root) as pieces:
        executor = ThreadPoolExecutor(1, initializer=sys.setprofile, initargs=(profile,))
        asyncio.get_running_loop().set_default_executor(executor)
        await pieces.create("docs", 8, 1, FIELDS)
        (shard,) = pieces.shard_ids()
        executor.shutdown()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    assert len(made) > 50
    stages = set()
    for copy in made:
        if (state := _state(copy)) in stages:
            continue
        stages.add(state)
        async with opened(copy) as pieces:
            assert pieces.shard_ids() == [shard]
            held = {spec.name: spec.type.value for spec in pieces.shards.get(shard).schema.fields}
            assert held == FIELDS
        assert [path.name for path in (copy / "shards").iterdir()] == [str(shard)]
        shutil.rmtree(copy)
    assert len(stages) > 10


def _state(root: Path) -> tuple[Any, ...]:
    """What tells one stage from another: which files there are, and what is in them."""
    return tuple(
        (str(path.relative_to(root)), path.read_bytes() if path.is_file() else None)
        for path in sorted((root / "shards").rglob("*"))
    )
