"""Mutants of the files of snapshots."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

SNAPSHOTS = (
    Mutant(
        "a file of a snapshot is not compared with its checksum",
        "snapshots/incoming.py",
        "        return self.whole and self._crc == self._entry.crc",
        "        return self.whole",
    ),
    Mutant(
        "what lies on the disk already is believed",
        "snapshots/incoming.py",
        "                    crc = crc32c.crc32c(piece, crc)",
        "                    crc = entry.crc",
    ),
    Mutant(
        "a file of a snapshot is not synced",
        "snapshots/incoming.py",
        "        self._disk.sync_file(self._path)",
        "        pass",
    ),
    Mutant(
        "what could not be synced is synced again",
        "snapshots/incoming.py",
        "        with suppress(OSError):\n            self._clear()\n",
        "        self._doubtful = False\n",
    ),
    Mutant(
        "a snapshot is handed over in the middle of a fetch",
        "snapshots/incoming.py",
        "            if self._busy:",
        "            if False:",
    ),
    Mutant(
        "another snapshot than the one that arrived is handed over",
        "snapshots/incoming.py",
        "            if self._whole != manifest:\n                raise",
        "            if self._whole is None:\n                raise",
    ),
    Mutant(
        "the names in a manifest are not looked at",
        "snapshots/manifest.py",
        "    if len(entry.name) > MAX_NAME or not _FILE.fullmatch(entry.name):",
        "    if len(entry.name) > MAX_NAME:",
    ),
    Mutant(
        "a staged snapshot's name is not synced",
        "snapshots/area.py",
        "            self.disk.sync_folder(target.parent)\n",
        "",
    ),
    Mutant(
        "the old state is removed before the new one is known to be in its place",
        "snapshots/area.py",
        "        disk.rename(new, path)\n    disk.sync_folder(path.parent)\n",
        "        disk.remove(old)\n        disk.rename(new, path)\n",
    ),
    Mutant(
        "a snapshot is removed under its reader",
        "snapshots/outgoing.py",
        "        return held.pins > 0 or self._clock() - held.read < _READING_SECONDS",
        "        return self._clock() - held.read < _READING_SECONDS",
    ),
)
