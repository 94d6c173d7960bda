"""What a mutant is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` is in `file` exactly once, and becomes `new`: that breaks a promise, told by `name`.

    `file` is under replication/vecdb_replication, or under index/ where it begins with vecdb_index.
    `listed` is what the list of bugs that have to be caught calls it, if it is on it.
    """

    name: str
    file: str
    old: str
    new: str
    listed: str = ""

    @property
    def area(self) -> str:
        """Whose unit tests are to notice."""
        return self.file.split("/")[0]

    @property
    def package(self) -> str:
        """The folder that is copied to be changed."""
        return "index" if self.area == "vecdb_index" else "replication"

    @property
    def path(self) -> str:
        """The file, within that folder."""
        return self.file if self.area == "vecdb_index" else f"vecdb_replication/{self.file}"
