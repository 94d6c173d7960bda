"""Parts and views: what a search sees.

A Part is some rows that are searched together: a sealed segment, or a block of the growing segment up to
some row. A View is every part at one applied index. Both are immutable; apply and the builder make new ones
and swap them in, so searches take no lock and see one moment in the shard's history. Rows carry docnos;
docnos are never used twice, and a part's tombstones are a bitmap of the rows that are alive.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from vecdb_index.calibrate import Efforts
from vecdb_index.filters.columns import bitmap_of, docnos_of
from vecdb_index.fulltext.words import Words
from vecdb_index.knn import F32, I64, Bits, Index, faiss, keep
from vecdb_index.near import Effort, Near

if TYPE_CHECKING:
    from vecdb_index.sealed import Manifest

Flags: TypeAlias = npt.NDArray[np.bool_]
T = TypeVar("T")

_KEPT_PARAMS: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of a part, whatever their tombstones.

    Attributes:
        docnos: (n,) int64, one a row, in the order of the vectors.
        raw: (n, dim) float32 as written.
        vectors: (n, dim) float32 as searched: normalized for cosine, else ``raw`` itself.
        flat: an IndexFlat over ``vectors``.
        words: of their documents' texts.
        near: what finds the nearest without a look at each, or None: the part is searched exactly.
        efforts: how hard that must look for a recall.
        manifest: of the sealed segment; None for a growing block.
    """

    docnos: I64
    raw: F32
    vectors: F32
    flat: Index
    words: Words
    near: Near | None = None
    efforts: Efforts | None = None
    manifest: Manifest | None = None
    # Merged segments keep no order of docnos; then `order` sorts them. None: sorted as they are.
    order: I64 | None = None
    sorted_docnos: I64 | None = None

    def __len__(self) -> int:
        return len(self.docnos)

    @property
    def id(self) -> int:
        """The id of the segment whose rows they are; a growing block has none."""
        assert self.manifest is not None, "sealed rows have manifests"
        return self.manifest.id

    @property
    def pending(self) -> bool:
        """Whether they are a segment's that waits to be indexed."""
        return self.manifest is not None and self.manifest.pending

    @property
    def extendable(self) -> bool:
        """Whether an index of them and others can be made by adding to an owned copy of theirs."""
        return self.near is not None and self.near.kind == "hnsw"

    def find(self, docnos: I64) -> tuple[I64, Flags]:
        """Rows of ``docnos``, and which of them are here; rows of absent ones mean nothing."""
        keys = self.docnos if self.sorted_docnos is None else self.sorted_docnos
        if not len(keys):
            return np.zeros(len(docnos), dtype=np.int64), np.zeros(len(docnos), dtype=bool)
        at = np.minimum(np.searchsorted(keys, docnos), len(keys) - 1)
        here = keys[at] == docnos
        return (at if self.order is None else self.order[at]), here


def sorting(docnos: I64) -> tuple[I64 | None, I64 | None]:
    """``order`` and ``sorted_docnos`` of a part."""
    if len(docnos) < 2 or bool((docnos[1:] > docnos[:-1]).all()):
        return None, None
    order = np.argsort(docnos, kind="stable")
    return order, docnos[order]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows with their tombstones."""

    rows: Rows
    alive: Bits | None = None  # bit i of byte i // 8, little-endian: row i is alive; None: all are
    dead: int = 0
    _params: dict[Any, Any] = field(default_factory=dict)  # FAISS's parameter objects and the like, made once

    @property
    def living(self) -> int:
        """The number of rows that are not deleted."""
        return len(self.rows) - self.dead

    def without(self, rows: I64) -> Part:
        """The part with more rows dead; those dead already are passed over."""
        mask = full_bits(len(self.rows)) if self.alive is None else self.alive.copy()
        np.bitwise_and.at(mask, rows >> 3, ~(np.uint8(1) << (rows & 7).astype(np.uint8)))
        living = (
            int(np.bitwise_count(mask).sum())
            if hasattr(np, "bitwise_count")
            else int(np.unpackbits(mask).sum())
        )
        return Part(self.rows, mask, len(self.rows) - living)

    def without_docnos(self, docnos: I64) -> Part:
        """The part with the rows of these documents dead, where it has any."""
        rows, here = self.rows.find(docnos)
        return self.without(rows[here]) if here.any() else self

    def is_alive(self, rows: I64) -> Flags:
        """Which of these rows are not deleted."""
        if self.alive is None:
            return np.ones(len(rows), dtype=bool)
        flags: Flags = (self.alive[rows >> 3] >> (rows & 7).astype(np.uint8) & 1).astype(bool)
        return flags

    def living_rows(self) -> I64:
        """The rows that are not deleted, ascending."""
        if self.alive is None:
            return np.arange(len(self.rows), dtype=np.int64)
        return np.flatnonzero(np.unpackbits(self.alive, count=len(self.rows), bitorder="little"))

    def living_docnos(self) -> I64:
        """Their docnos, in the order of the rows."""
        return self.rows.docnos if self.alive is None else self.rows.docnos[self.living_rows()]

    def living_flags(self) -> Flags | None:
        """Which rows are not deleted, (n,) bool; None where all are. Made once, not to be changed."""
        if self.alive is None:
            return None
        bits = self.alive
        return self.remembered(
            "living", lambda: np.unpackbits(bits, count=len(self.rows), bitorder="little").view(bool)
        )

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` made under this key: it is made once for these rows and tombstones."""
        made: T | None = self._params.get(key)
        if made is None:
            made = self._params[key] = make()
        return made

    def dead_docnos(self) -> I64:
        """The docnos of the rows that are deleted, in the order of the rows."""
        if self.alive is None:
            return np.empty(0, dtype=np.int64)
        return self.rows.docnos[~self.is_alive(np.arange(len(self.rows), dtype=np.int64))]

    def flat_params(self) -> Any:
        """Parameters for exact search among the living."""
        if self.alive is None:
            return None
        made = self._params.get("flat")
        if made is None:
            made = self._params["flat"] = faiss.SearchParameters(sel=selector_of(self.alive))
        return made

    def near_params(self, near: Near, effort: Effort, k: int) -> Any:
        """Parameters for a search of its index among the living."""
        key = (effort.width, effort.depth, k)
        made = self._params.get(key)
        if made is None:
            if len(self._params) >= _KEPT_PARAMS:  # whoever asks for many efforts shall not fill the memory
                self._params.clear()
            selector = None if self.alive is None else selector_of(self.alive)
            made = self._params[key] = near.params(effort, k, selector)
        return made


def full_bits(count: int) -> Bits:
    """A bitmap in which the first ``count`` bits are set and no others."""
    mask = np.full(-(-count // 8), 0xFF, dtype=np.uint8)
    if count % 8:
        mask[-1] = (1 << count % 8) - 1
    return mask


def bits_of(rows: I64, count: int) -> Bits:
    """A bitmap of ``count`` bits in which those of ``rows`` are set."""
    flags = np.zeros(count, dtype=np.uint8)
    flags[rows] = 1
    return np.packbits(flags, bitorder="little")


def selector_of(bits: Bits) -> Any:
    """FAISS's selector of the set bits. It holds the array's address, so it also carries the array."""
    selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    keep(selector, bits)
    return selector


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A shard at one applied index.

    ``sealed`` are segments in the order of their ids, ``growing`` blocks in the order of their docnos.
    """

    applied: int
    documents: int
    sealed: tuple[Part, ...] = ()
    growing: tuple[Part, ...] = ()
    _universe: list[BitMap] = field(default_factory=list)
    _whole: View | None = None  # of a view that is narrowed: the view that has all documents,
    _hidden: BitMap = field(default_factory=BitMap)  # and those that it has not

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part with a living row."""
        return tuple(part for part in self.sealed + self.growing if part.living)

    def universe(self) -> BitMap:
        """The docnos of every living document; made once a view, not to be changed."""
        if not self._universe:
            if self._whole is not None:  # which gets its own from the view before it, as a rule
                self._universe.append(self._whole.universe() - self._hidden)
                return self._universe[0]
            made = [bitmap_of(part.living_docnos().astype(np.uint32)) for part in self.parts]
            self._universe.append(BitMap().union(*made) if made else BitMap())
        return self._universe[0]

    @property
    def is_narrowed(self) -> bool:
        """Whether it lacks documents that are there."""
        return self._whole is not None

    @property
    def whole(self) -> View:
        """The view of the same moment that has all documents."""
        return self if self._whole is None else self._whole

    def narrowed(self, sealed: tuple[Part, ...], growing: tuple[Part, ...], hidden: BitMap) -> View:
        """The same moment without some documents, in parts that lack them."""
        documents = sum(part.living for part in sealed + growing)
        return View(self.applied, documents, sealed, growing, [], self, hidden)

    def inherit(self, before: View, came: list[I64], went: list[int]) -> None:
        """Derive the universe from that of the view before, if that was made: cheaper than from the parts."""
        if before._universe:
            made = before._universe[0].union(*(bitmap_of(docnos.astype(np.uint32)) for docnos in came))
            made -= BitMap(went)
            self._universe.append(made)

    def locate(self, docnos: I64) -> Iterator[tuple[Part, I64, I64]]:
        """For each part that has some of the docnos: the part, the places in ``docnos``, and the rows."""
        for part in self.sealed + self.growing:
            rows, here = part.rows.find(docnos)
            if here.any():
                places = np.flatnonzero(here)
                yield part, places, rows[places]


def candidate_rows(part: Part, bitmap: BitMap) -> I64:
    """The living rows of a part whose docno is in the bitmap, ascending."""
    held = part.rows
    keys = held.docnos if held.sorted_docnos is None else held.sorted_docnos
    wanted = docnos_of(bitmap)
    if len(keys):
        wanted = wanted[np.searchsorted(wanted, keys[0]) : np.searchsorted(wanted, keys[-1], side="right")]
    if not len(keys) or not len(wanted):
        return np.empty(0, dtype=np.int64)
    at: I64 = wanted.astype(np.int64)
    if keys[-1] - keys[0] + 1 == len(keys):  # no gap: a docno says where it is
        at -= keys[0]
    elif len(at) * 8 < len(keys):
        at = np.searchsorted(keys, at[held.find(at)[1]])
    else:
        at = np.flatnonzero(np.isin(keys, at, assume_unique=True, kind="table"))
    flags = np.zeros(len(keys), dtype=bool)
    flags[at if held.order is None else held.order[at]] = True
    rows = np.flatnonzero(flags)
    return rows if part.alive is None else rows[part.is_alive(rows)]
