"""Making inverted indexes: from texts, and from other indexes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from vecdb_index.files import Chunk
from vecdb_index.fulltext.analysis import U64, Analyzer
from vecdb_index.fulltext.postings import MOST, U32, Group, Postings, encode, sizes
from vecdb_index.knn import I64

# Of each posting its key, its count and where its positions begin; and all positions.
Entry: TypeAlias = tuple[U64, I64, I64, U32]

# Postings and positions that are sorted at once: a hundred MiB or so.
_GROUP: Final = 2 << 20


class Source(NamedTuple):
    """An index, and where its rows go: (rows,) int64, -1 for those that are left out."""

    postings: Postings
    rows: I64


def indexed(texts: Sequence[str | None], analyzer: Analyzer) -> Iterator[Chunk]:
    """The bytes of an index of texts, a row each."""
    found = [analyzer.terms(text) if text else _NO_TERMS for text in texts]
    lengths = np.array([len(terms) for terms in found], dtype=np.uint32)
    groups = [_group_of(found, lengths)] if lengths.any() else []
    return encode(analyzer.identity, lengths, groups)


def merged(sources: Sequence[Source], rows: int, analyzer: Analyzer) -> Iterator[Chunk]:
    """The bytes of an index of ``rows`` rows that has what the sources have of them."""
    lengths = np.zeros(rows, dtype=np.uint32)
    for postings, targets in sources:
        kept = targets >= 0
        lengths[targets[kept]] = postings.lengths[kept]
    return encode(analyzer.identity, lengths, _groups(sources))


_NO_TERMS: Final[U64] = np.empty(0, dtype=np.uint64)


def _group_of(found: Sequence[U64], lengths: U32) -> Group:
    terms = np.concatenate(found)
    rows = np.repeat(np.arange(len(found), dtype=np.uint32), lengths)
    ends = np.cumsum(lengths, dtype=np.int64)
    positions = np.arange(len(terms), dtype=np.int64) - np.repeat(ends - lengths, lengths)
    order = np.argsort(terms, kind="stable")  # so rows and positions ascend within a term
    terms, rows, positions = terms[order], rows[order], positions[order]
    begins = np.flatnonzero(np.concatenate(([True], (terms[1:] != terms[:-1]) | (rows[1:] != rows[:-1]))))
    counts = np.diff(np.append(begins, len(terms)))
    if counts.max() > MOST:
        kept = np.arange(len(terms)) - np.repeat(begins, counts) < MOST
        positions, counts = positions[kept], np.minimum(counts, MOST)
    terms, rows = terms[begins], rows[begins]
    firsts = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
    many = np.diff(np.append(firsts, len(terms)))
    return Group(terms[firsts], many, rows, counts.astype(np.uint16), positions.astype(np.uint32))


def _groups(sources: Sequence[Source]) -> Iterator[Group]:
    """Ranges of terms, one after the other, that are not much to sort."""
    if not any(len(postings.terms) for postings, _ in sources):
        return
    terms = np.sort(np.concatenate([postings.terms for postings, _ in sources]))
    terms = terms[np.concatenate(([True], terms[1:] != terms[:-1]))]
    places = [np.searchsorted(terms, postings.terms) for postings, _ in sources]
    work = np.zeros(len(terms), dtype=np.int64)
    for (postings, _), at in zip(sources, places, strict=True):
        work[at] += sizes(postings.starts) + sizes(postings.spots)
    ranges = np.cumsum(work) // _GROUP
    cuts = [0, *(np.flatnonzero(ranges[1:] != ranges[:-1]) + 1).tolist(), len(terms)]
    for first, last in pairwise(cuts):
        entries: list[Entry] = []
        for (postings, targets), at in zip(sources, places, strict=True):
            low, high = np.searchsorted(at, (first, last)).tolist()
            for part in postings.groups(low, high):
                place = np.repeat(at[low : low + len(part.terms)] - first, part.sizes)
                low += len(part.terms)
                entries.append(_entry(place, targets[part.rows], part))
        made = _sorted(terms[first:last], entries)
        if len(made.terms):
            yield made


def _entry(place: I64, row: I64, part: Group) -> Entry:
    """The postings that are kept. A key sorts by term, then by row."""
    counts = part.counts.astype(np.int64)
    begins = np.cumsum(counts) - counts
    kept = np.flatnonzero(row >= 0)
    key = place[kept].astype(np.uint64) << np.uint64(32) | row[kept].astype(np.uint64)
    return key, counts[kept], begins[kept], part.positions


def _sorted(terms: U64, entries: Iterable[Entry]) -> Group:
    keys: list[U64] = []
    counts: list[I64] = []
    begins: list[I64] = []
    positions: list[U32] = []
    before = 0
    for key, count, begin, position in entries:
        keys.append(key)
        counts.append(count)
        positions.append(position)
        begins.append(begin + before)
        before += len(position)
    key = np.concatenate(keys)
    order = np.argsort(key)
    key, count = key[order], np.concatenate(counts)[order]
    position = np.concatenate(positions)[ragged(np.concatenate(begins)[order], count)]
    place = (key >> np.uint64(32)).astype(np.int64)
    many = np.bincount(place, minlength=len(terms))
    held = np.flatnonzero(many)
    rows = (key & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return Group(terms[held], many[held], rows, count.astype(np.uint16), position)


def ragged(begins: I64, counts: I64) -> I64:
    """begins[0], begins[0] + 1, ... so many as counts[0] says, then those from begins[1] on, and so forth."""
    ends = np.cumsum(counts)
    shifts: I64 = np.repeat(begins - (ends - counts), counts)
    return shifts + np.arange(len(shifts), dtype=np.int64)
