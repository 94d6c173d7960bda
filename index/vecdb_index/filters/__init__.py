"""Filters over payloads, and the indexes of declared fields that answer them.

A filter is built from the clauses of ``ast``, checked by ``validate``, and evaluated in two steps:
``FieldIndexes.evaluate`` gives the candidates that declared fields leave, and where that is not exact, the
caller runs the ``Predicate`` of ``compile`` over the candidates' payloads.
"""

from vecdb_index.filters.ast import (
    AUTHOR,
    AllOf,
    And,
    AnyOf,
    Eq,
    Exists,
    Filter,
    FilterError,
    GeoBox,
    GeoRadius,
    In,
    IsNull,
    Leaf,
    Ne,
    Not,
    Or,
    Prefix,
    Range,
    Value,
    leaves,
    validate,
)
from vecdb_index.filters.fields import FieldSpec, FieldType
from vecdb_index.filters.indexes import Candidates, FieldIndexes
from vecdb_index.filters.predicate import Predicate, compile  # noqa: A004
from vecdb_index.filters.table import SCHEMA, create
from vecdb_index.filters.values import Instant, decode_payload, resolve

__all__ = [
    "AUTHOR",
    "SCHEMA",
    "AllOf",
    "And",
    "AnyOf",
    "Candidates",
    "Eq",
    "Exists",
    "FieldIndexes",
    "FieldSpec",
    "FieldType",
    "Filter",
    "FilterError",
    "GeoBox",
    "GeoRadius",
    "In",
    "Instant",
    "IsNull",
    "Leaf",
    "Ne",
    "Not",
    "Or",
    "Predicate",
    "Prefix",
    "Range",
    "Value",
    "compile",
    "create",
    "decode_payload",
    "leaves",
    "resolve",
    "validate",
]
