"""Mutants of the state machine: a shard, and what travels in its snapshots."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

ENGINE = (
    Mutant(
        "the applied index is written outside of the apply transaction",
        "vecdb_index/core.py",
        "                        applier.finish()\n",
        "                    applier.finish()\n",
        listed="applied index outside the apply transaction",
    ),
    Mutant(
        "the retry window is forgotten in a snapshot",
        "vecdb_index/snapshot.py",
        "            connection.backup(copy, pages=_PAGES, progress=look)\n",
        '            connection.backup(copy) or copy.executescript("DELETE FROM retries")\n',
        listed="retry window forgotten in the snapshot",
    ),
)
