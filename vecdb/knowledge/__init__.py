"""Reading sources, cutting them into passages, and laying passages out for an answer.

A pure library: it knows no store and no network. The way of a document is `walk` (find it), `parse` or
`parse_untrusted` (bytes to `SourceText`), `plan_source` (what to write and to delete), and back
`build_context` (hits to cited text). Vectors are read by `vecdb.knowledge.vectors`.
"""

from vecdb.knowledge.chunking import CHUNKER_VERSION, Chunk, ChunkOptions, Section, chunk
from vecdb.knowledge.context import Citation, Context, Passage, build_context
from vecdb.knowledge.errors import ParseTimeout, ParseTooLarge, SourceError
from vecdb.knowledge.formats import HEAD_BYTES, detect, parse
from vecdb.knowledge.ids import chunk_id, chunk_prefix
from vecdb.knowledge.plan import (
    NewChunk,
    SourcePlan,
    StoredChunk,
    is_current,
    plan_prune,
    plan_source,
    revision_of,
)
from vecdb.knowledge.records import iter_jsonl, read_lines
from vecdb.knowledge.sandbox import Sandbox, SandboxOptions, aparse_untrusted, parse_untrusted
from vecdb.knowledge.source import DEFAULT_LIMITS, PARSER_VERSION, Format, Limits, SourceText
from vecdb.knowledge.tokens import TokenCounter, estimate_tokens
from vecdb.knowledge.walk import FoundFile, read_file, read_limited, scope_of, walk

__all__ = [
    "CHUNKER_VERSION",
    "DEFAULT_LIMITS",
    "HEAD_BYTES",
    "PARSER_VERSION",
    "Chunk",
    "ChunkOptions",
    "Citation",
    "Context",
    "Format",
    "FoundFile",
    "Limits",
    "NewChunk",
    "ParseTimeout",
    "ParseTooLarge",
    "Passage",
    "Sandbox",
    "SandboxOptions",
    "Section",
    "SourceError",
    "SourcePlan",
    "SourceText",
    "StoredChunk",
    "TokenCounter",
    "aparse_untrusted",
    "build_context",
    "chunk",
    "chunk_id",
    "chunk_prefix",
    "detect",
    "estimate_tokens",
    "is_current",
    "iter_jsonl",
    "parse",
    "parse_untrusted",
    "plan_prune",
    "plan_source",
    "read_file",
    "read_limited",
    "read_lines",
    "revision_of",
    "scope_of",
    "walk",
]
