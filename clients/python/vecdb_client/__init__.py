"""vecdb's client: documents in, nearest documents and cited passages out.

    from vecdb_client import Client, Document, Filter as F

    with Client("127.0.0.1:7700") as db:
        db.create_collection("docs", model="wordllama-256", if_not_exists=True)
        db.upsert("docs", [Document(id="a", text="Rain in Bergen", payload={"year": 2024})])
        for hit in db.search("docs", text="weather", k=10, filter=F("year") >= 2020):
            print(hit.id, hit.score, hit.text)

`AsyncClient` (also `vecdb_client.aio.Client`) has the same methods to await.
"""

from vecdb_client._calls.search import Diversity, HybridWeights
from vecdb_client._client import Client
from vecdb_client._documents import Document
from vecdb_client._errors import (
    AbortedError,
    AlreadyExistsError,
    CancelledError,
    ConflictError,
    DataLossError,
    DeadlineExceededError,
    ErrorDetails,
    FailedPreconditionError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OutOfRangeError,
    PartialWriteError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StaleSessionError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    VecdbError,
    WriteFailure,
)
from vecdb_client._filters import Condition, Filter
from vecdb_client._infos import (
    ClusterShard,
    ClusterStatus,
    CollectionConfig,
    CollectionInfo,
    Grant,
    Invitation,
    Member,
    ModelInfo,
    NamedVector,
    NewToken,
    Principal,
    QuarantinedAuthor,
    SegmentInfo,
    ShardInfo,
    SourceInfo,
    TokenInfo,
)
from vecdb_client._ingest import Chunking, IngestReport, IngestResult
from vecdb_client._results import (
    Citation,
    Context,
    ExplainStep,
    Hit,
    Hits,
    StreamAnswer,
    WriteResult,
)
from vecdb_client._snapshots import RestoreProgress, SnapshotResult
from vecdb_client._transport import TLS, RetryPolicy
from vecdb_client._vectors import SparseVector
from vecdb_client._views import Source, StoredDocument
from vecdb_client.aio import Client as AsyncClient

__all__ = [
    "TLS",
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "CancelledError",
    "Chunking",
    "Citation",
    "Client",
    "ClusterShard",
    "ClusterStatus",
    "CollectionConfig",
    "CollectionInfo",
    "Condition",
    "ConflictError",
    "Context",
    "DataLossError",
    "DeadlineExceededError",
    "Diversity",
    "Document",
    "ErrorDetails",
    "ExplainStep",
    "FailedPreconditionError",
    "FieldViolation",
    "Filter",
    "Grant",
    "Hit",
    "Hits",
    "HybridWeights",
    "IngestReport",
    "IngestResult",
    "InternalError",
    "InvalidArgumentError",
    "Invitation",
    "Member",
    "ModelInfo",
    "NamedVector",
    "NewToken",
    "NotFoundError",
    "OutOfRangeError",
    "PartialWriteError",
    "PermissionDeniedError",
    "Principal",
    "QuarantinedAuthor",
    "ResourceExhaustedError",
    "RestoreProgress",
    "RetryPolicy",
    "SegmentInfo",
    "ShardInfo",
    "SnapshotResult",
    "Source",
    "SourceInfo",
    "SparseVector",
    "StaleSessionError",
    "StoredDocument",
    "StreamAnswer",
    "TokenInfo",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "VecdbError",
    "WriteFailure",
    "WriteResult",
]
