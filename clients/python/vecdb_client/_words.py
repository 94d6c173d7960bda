"""Enums of vecdb.v1 as words: METRIC_COSINE is "cosine"."""

from __future__ import annotations

from typing import Any

from vecdb_proto.v1 import access_pb2, collections_pb2, common_pb2, models_pb2, search_pb2


class Words:
    """The words of one enum, both ways. UNSPECIFIED is the empty word."""

    __slots__ = ("_numbers", "_what", "_words")

    def __init__(self, what: str, enum: Any, prefix: str) -> None:
        self._what = what
        self._words: dict[int, str] = {
            number: name.removeprefix(prefix).lower() for name, number in enum.items() if number
        }
        self._numbers = {word: number for number, word in self._words.items()}

    def number(self, word: str | None) -> Any:
        """The enum's number for the word; 0 for None. Raises ValueError naming the words there are."""
        if word is None:
            return 0
        try:
            return self._numbers[word]
        except (KeyError, TypeError):
            known = ", ".join(repr(name) for name in self._numbers)
            raise ValueError(f"{self._what} must be one of {known}, not {word!r}") from None

    def word(self, number: int) -> str:
        """The word for the enum's number; a newer server's number as digits."""
        return self._words.get(number, str(number) if number else "")


METRICS = Words("metric", common_pb2.Metric, "METRIC_")
INDEX_KINDS = Words("index", collections_pb2.IndexKind, "INDEX_KIND_")
STORAGES = Words("storage", collections_pb2.Storage, "STORAGE_")
FIELD_TYPES = Words("field type", collections_pb2.FieldType, "FIELD_TYPE_")
MODES = Words("mode", search_pb2.SearchMode, "SEARCH_MODE_")
EMBED_KINDS = Words("kind", models_pb2.EmbedKind, "EMBED_KIND_")
ROLES = Words("role", access_pb2.Role, "ROLE_")
