"""Authors whose documents no reader is shown."""

from __future__ import annotations

from collections.abc import Iterable


class Quarantine:
    """Whose documents are not shown; shared by the shards of a node.

    Who they are is not a shard's own state: whoever opens shards says it, by replacing ``authors`` at any
    time and in any thread. A shard compares that with what it last saw whenever it is read, so a change holds
    from the next read on, in every shard, without anybody having to tell each.
    """

    __slots__ = ("authors",)

    def __init__(self, authors: Iterable[str] = ()) -> None:
        self.authors = frozenset(authors)
