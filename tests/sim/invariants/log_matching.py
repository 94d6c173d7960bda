"""Log matching: one (index, term), one entry, and one history before it (Raft paper, 5.3 and figure 3).

Whenever an entry is written to a disk, what it is and the term before it must be what they were
wherever the same (index, term) was written before. By induction over the index the logs then agree
in all entries up to any that they share.
"""

from __future__ import annotations

from vecdb_replication import wal

from tests.sim.facts import DurableLog, GroupFacts, fail


def check(group: int, facts: GroupFacts, disk: DurableLog, update: wal.GroupUpdate) -> None:
    """`disk` is as it was before the update."""
    if not update.entries:
        return
    first = update.entries[0].index
    mark = update.snapshot
    before = mark.term if mark and mark.index == first - 1 else disk.term_at(first - 1)
    if before is None:
        fail(f"group {group}: entry {first} is written behind a gap")
    for entry in update.entries:
        found = (before, entry.kind, entry.data)
        known = facts.appended.setdefault((entry.index, entry.term), found)
        if known != found:
            what = f"entry {entry.index} of term {entry.term}"
            fail(f"group {group}: {what} is {found} here and {known} elsewhere")
        before = entry.term
