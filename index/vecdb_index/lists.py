"""Inverted lists: rows grouped around centres, of which a search looks into the nearest few.

A segment's rows are written in the order of their lists, so a list is a run of rows, in the matrix of vectors
as in that of codes, and neither is kept twice: FAISS is given each run in place. With codes of one bit what
is coded is a row's difference from its centre. (J. Sivic, A. Zisserman, "Video Google", ICCV 2003; H. Jegou,
M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor Search", TPAMI 2011, for codes in lists.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from vecdb_index.codes import Codec, bounded, rotation_for, scalar_kind
from vecdb_index.knn import F32, I64, Index, faiss, faiss_metric, search
from vecdb_index.pieces import Pieces
from vecdb_index.schema import Metric, Storage

_ROUNDS: Final = 10
_ROWS_A_CENTRE: Final = 64  # that centres are found with
_SEED: Final = 7


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Rows, grouped.

    Attributes:
        centres: (lists, dim) float32.
        sizes: (lists,) int64 rows of each list.
        order: (n,) int64: the rows, list after list.
        sample: (m, dim) float32, vectors to train a codec with.
    """

    centres: F32
    sizes: I64
    order: I64
    sample: F32

    @property
    def lists(self) -> I64:
        """The list of each row, in the order of ``order``."""
        return np.repeat(np.arange(len(self.sizes), dtype=np.int64), self.sizes)


def cluster(pieces: Pieces) -> Clusters:
    """Group rows around as many centres as the root of their number: to find the nearest centres then costs
    about as much as to search a list.

    Whatever the metric, a row is in the list of the centre at the least distance.
    """
    count = max(1, math.isqrt(len(pieces)))
    random = np.random.default_rng(_SEED)
    picks = np.sort(
        random.choice(len(pieces), min(len(pieces), count * _ROWS_A_CENTRE), replace=False)
    ).astype(np.int64)
    sample = bounded(pieces.vectors(picks))
    kmeans = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=_ROUNDS,
        seed=_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=_ROWS_A_CENTRE,
    )
    kmeans.train(sample)
    coarse = faiss.IndexFlatL2(sample.shape[1])
    coarse.add(kmeans.centroids)
    nearest = [search(coarse, bounded(rows), 1)[1][:, 0] for rows in pieces.chunks()]
    where = np.concatenate(nearest)
    order = np.argsort(where, kind="stable").astype(np.int64)
    return Clusters(kmeans.centroids, np.bincount(where, minlength=count), order, sample)


def list_codec(storage: Storage, metric: Metric, clusters: Clusters) -> Codec:
    """A codec for the rows of lists; that of ``f32`` takes the vectors themselves."""
    dim, lists, kind = clusters.centres.shape[1], len(clusters.centres), faiss_metric(metric)
    rotation = rotation_for(dim, storage)
    if rotation is not None:
        coarse = _coarse(rotation.apply(clusters.centres), kind)
        inner = faiss.IndexIVFRaBitQ(coarse, rotation.d_out, lists, kind)
        codec = Codec.of(faiss.IndexPreTransform(rotation, inner))
    elif storage == "f32":
        codec = Codec.of(faiss.IndexIVFFlat(_coarse(clusters.centres, kind), dim, lists, kind))
    else:
        coarse = _coarse(clusters.centres, kind)
        codec = Codec.of(faiss.IndexIVFScalarQuantizer(coarse, dim, lists, scalar_kind(storage), kind, False))
    codec.train(clusters.sample)
    return codec


def _coarse(centres: F32, kind: int) -> Index:
    """What finds the lists to look into: by the metric, for that is what their rows are wanted for."""
    coarse = faiss.IndexFlat(centres.shape[1], kind)
    coarse.add(centres)
    return coarse
