"""What the catalogue answers."""

from __future__ import annotations

from dataclasses import dataclass

from vecdb.catalog.records import CollectionRecord


@dataclass(frozen=True, slots=True)
class CatalogResult:
    """What became of a command: `code` is empty for done, else the name of a gRPC status."""

    code: str = ""
    reason: str = ""
    message: str = ""
    record: CollectionRecord | None = None
