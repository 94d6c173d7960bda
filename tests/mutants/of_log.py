"""Mutants of the log."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

LOG = (
    Mutant(
        "a snapshot keeps what contradicts it in the log",
        "wal/plan.py",
        "        reset = self.term(mark.index) != mark.term",
        "        reset = self.term(mark.index) is None",
        listed="snapshot keeps an old suffix",
    ),
    Mutant(
        "what builds on a refused write is taken",
        "wal/plan.py",
        "        if here != term or (as_last and index != self.last):",
        "        if here is None:",
    ),
    Mutant(
        "a torn tail is accepted",
        "wal/recovery.py",
        "                last.file.truncate(last.end)",
        "                last.file.size()",
        listed="torn tail accepted",
    ),
    Mutant(
        "a failed sync is tried again",
        "wal/appender.py",
        '                self._fail(f"fdatasync of {active.path}", error)',
        "                active.file.fdatasync()",
        listed="a failed sync retried",
    ),
    Mutant(
        "a sync does not sync",
        "wal/appender.py",
        "                active.file.fdatasync()\n",
        "                active.file.size()\n",
    ),
    Mutant(
        "a new segment forgets the votes of idle groups",
        "wal/appender.py",
        "        meta = encode_items(self._checkpoints())",
        "        meta = encode_items([])",
        listed="a dropped log segment that held an idle group's only vote",
    ),
    Mutant(
        "the check of a record is not checked",
        "wal/scan.py",
        "    if crc32c(meta) != head.meta_check:",
        "    if crc32c(meta) < 0:",
        listed="CRC unchecked",
    ),
    Mutant(
        "the check of the data is not checked",
        "wal/scan.py",
        "            if crc32c(data[at : at + length]) != check:",
        "            if crc32c(data[at : at + length]) < 0:",
        listed="CRC unchecked",
    ),
)
