"""Tokens with roles: who may do what, on which collection, and for how long."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from vecdb_client import Client, Grant, NotFoundError, PermissionDeniedError, UnauthenticatedError
from vecdb_proto.v1 import (
    access_pb2,
    cluster_pb2,
    collections_pb2,
    common_pb2,
    documents_pb2,
    knowledge_pb2,
    models_pb2,
    search_pb2,
)

from tests.support.inprocess import InProcessNode, refusal
from tests.unit.vecdb.api.bad_input import token as token_request

TOKEN = "0123456789abcdef0123456789abcdef"
DENIED = grpc.StatusCode.PERMISSION_DENIED
UNKNOWN = grpc.StatusCode.UNAUTHENTICATED
Headers = list[tuple[str, str]]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessNode]:
    folder = tmp_path_factory.mktemp("access")
    path = folder / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    with InProcessNode(folder, token_file=path) as node:
        with node.client(token=TOKEN) as root:
            for name in ("docs", "secret"):
                root.create_collection(name, model="wordllama-256")
                root.upsert(name, ids=["a"], texts=["It rains in Bergen."])
            root.set_aliases({"current": "docs", "hidden": "secret"})
        yield node


@pytest.fixture(scope="module")
def root(node: InProcessNode) -> Iterator[Client]:
    with node.client(token=TOKEN) as root:
        yield root


def headers(secret: str) -> Headers:
    return [("authorization", f"Bearer {secret}")]


@pytest.fixture
def holder(node: InProcessNode, root: Client) -> Iterator[Callable[..., Client]]:
    """Makes clients with a new token each, of the grants given."""
    made: list[Client] = []

    def hold(*grants: Grant, principal: str = "ann", **settings: Any) -> Client:
        made.append(node.client(token=root.create_token(principal, grants, **settings).secret))
        return made[-1]

    yield hold
    for client in made:
        client.close()


# --- every method ---------------------------------------------------------------

FILES = (access_pb2, cluster_pb2, collections_pb2, documents_pb2, knowledge_pb2, models_pb2, search_pb2)
METHODS = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
READ, WRITE, ADMIN = 1, 2, 3
# The role that each method needs, and whether it is on the collection that the request names or on all.
NEEDED = {
    "Access.CreateToken": (ADMIN, False),
    "Access.ListTokens": (ADMIN, False),
    "Access.RevokeToken": (ADMIN, False),
    "Access.QuarantineAuthor": (ADMIN, False),
    "Access.ReleaseAuthor": (ADMIN, False),
    "Access.ListQuarantined": (ADMIN, False),
    "Cluster.Status": (READ, False),
    "Collections.Create": (ADMIN, True),
    "Collections.Describe": (READ, True),
    "Collections.Alter": (ADMIN, True),
    "Collections.UpdateAliases": (ADMIN, False),
    "Collections.Drop": (ADMIN, True),
    "Documents.Upsert": (WRITE, True),
    "Documents.Update": (WRITE, True),
    "Documents.Delete": (WRITE, True),
    "Documents.Get": (READ, True),
    "Documents.Scroll": (READ, True),
    "Documents.Count": (READ, True),
    "Knowledge.Ingest": (WRITE, True),
    "Knowledge.ListSources": (READ, True),
    "Knowledge.DeleteSources": (WRITE, True),
    "Knowledge.Retrieve": (READ, True),
    "Models.Embed": (READ, False),
    "Search.Search": (READ, True),
    "Search.SearchBatch": (READ, True),
    "Search.SearchStream": (READ, True),
}
# What anybody with a token may ask, and what is not served yet.
FREE = {"Access.WhoAmI", "Collections.List", "Models.List"}
UNSERVED = {
    *(f"Cluster.{name}" for name in ("Invite", "DrainMember", "RemoveMember", "MoveReplica")),
    "Cluster.Snapshot",
    "Cluster.Restore",
}


def request_for(name: str, collection: str) -> Any:
    """One that names the collection and is wrong in some other way, so that nothing comes of it."""
    if name == "Collections.Create":
        config = collections_pb2.CollectionConfig(name=collection)
        return collections_pb2.CreateCollectionRequest(config=config)
    if name == "Search.SearchStream":
        return search_pb2.SearchStreamRequest(request=search_pb2.SearchRequest(collection=collection))
    if name == "Knowledge.Ingest":
        return knowledge_pb2.IngestRequest(header=knowledge_pb2.IngestHeader(collection=collection))
    request = GetMessageClass(METHODS[name].input_type)()
    if "collection" in request.DESCRIPTOR.fields_by_name:
        request.collection = collection
    return request


def answer(node: InProcessNode, name: str, collection: str, secret: str) -> tuple[int, str]:
    """Number of the status and message of a call."""
    service, _, method = name.partition(".")
    call = getattr(getattr(node, service.lower()), method)
    request = request_for(name, collection)
    if METHODS[name].client_streaming:
        request = iter([request])
    try:
        replies = call(request, metadata=headers(secret), timeout=20)
        for reply in replies if METHODS[name].server_streaming else ():
            if isinstance(reply, search_pb2.SearchStreamResponse):
                return reply.error.code, reply.error.message
    except grpc.RpcError as error:
        return error.code().value[0], error.details() or ""
    return 0, ""


def test_every_method_is_listed() -> None:
    """A method that is added to the contract must be added here, with the role that it needs."""
    assert set(METHODS) == set(NEEDED) | FREE | UNSERVED


@pytest.fixture(scope="module")
def secrets(root: Client) -> dict[tuple[int, bool], str]:
    """A token for each role, on `docs` alone (or, for none, on another), and on all collections."""
    roles = {READ: "read", WRITE: "write", ADMIN: "admin"}
    found = {(0, True): root.create_token("ann", [Grant("admin", "elsewhere")]).secret}
    for role, word in roles.items():
        for alone in (True, False):
            grant = Grant(word, "docs" if alone else "")
            found[role, alone] = root.create_token("ann", [grant]).secret
    return found


@pytest.mark.parametrize("name", NEEDED)
def test_a_method_needs_its_role(
    node: InProcessNode, secrets: dict[tuple[int, bool], str], name: str
) -> None:
    """Every lesser role is PERMISSION_DENIED and told what is needed, for a collection that is there and for
    one that is not alike; the role itself gets further."""
    needed, alone = NEEDED[name]
    word = {READ: "read", WRITE: "write", ADMIN: "admin"}[needed]
    for (role, on_docs), secret in secrets.items():
        is_enough = role >= needed and (alone or not on_docs)
        code, message = answer(node, name, "docs", secret)
        assert (code == DENIED.value[0]) != is_enough, (role, on_docs, message)
        assert code != UNKNOWN.value[0]
        if not is_enough:
            assert f"needs the role {word}" in message
        if alone and on_docs:
            others = [answer(node, name, other, secret) for other in ("secret", "no-such")]
            assert [code for code, _ in others] == [DENIED.value[0]] * 2
            assert others[0][1].replace("secret", "no-such") == others[1][1]


# --- collections ----------------------------------------------------------------


def test_a_token_sees_its_collections_alone(holder: Callable[..., Client]) -> None:
    """Lists leave out what the token may not read, by name or alias; the author is the token's principal."""
    with holder(Grant("write", "docs"), principal="ann@example.org") as ann:
        assert [info.name for info in ann.list_collections()] == ["docs"]
        ann.upsert("docs", ids=["of-ann"], texts=["Sun in the Sahara."])
        assert ann.search("docs", text="sun", k=1)[0].author == "ann@example.org"
        assert ann.retrieve("docs", "sun").sources[0].author == "ann@example.org"
        ann.delete("docs", ids=["of-ann"])
        with pytest.raises(PermissionDeniedError, match="needs the role read on collection 'secret'"):
            ann.count("secret")
        with pytest.raises(PermissionDeniedError, match="role admin on collection 'docs'"):
            ann.drop_collection("docs")
        me = ann.whoami()
        assert (me.name, me.grants) == ("ann@example.org", (Grant("write", "docs"),))


def test_an_alias_is_good_for_what_its_collection_is(root: Client, holder: Callable[..., Client]) -> None:
    """A grant on a collection holds by its aliases. A grant on an alias holds by that alias, wherever it
    points, and by no other name."""
    ann, bob = holder(Grant("read", "docs")), holder(Grant("read", "current"))
    assert (ann.count("docs"), ann.count("current"), bob.count("current")) == (1, 1, 1)
    for client, name in ((ann, "hidden"), (bob, "docs"), (bob, "secret"), (bob, "hidden")):
        with pytest.raises(PermissionDeniedError):
            client.count(name)
    assert [info.name for info in bob.list_collections()] == ["docs"]
    root.set_aliases({"current": "secret"})
    try:
        assert bob.count("current") == 1
        assert [info.name for info in bob.list_collections()] == ["secret"]
        with pytest.raises(PermissionDeniedError):
            ann.count("current")
    finally:
        root.set_aliases({"current": "docs"})


def test_the_admin_of_one_collection(holder: Callable[..., Client]) -> None:
    """It may create, alter and drop what it is granted, and nothing that concerns the others."""
    with holder(Grant("admin", "own"), principal="bob") as bob:
        bob.create_collection("own", dim=2)
        bob.alter_collection("own", add_fields={"year": "int"})
        for attempt in (
            lambda: bob.create_collection("other", dim=2),
            lambda: bob.set_aliases({"mine": "own"}),
            lambda: bob.create_token("eve", [Grant("read", "own")]),
            bob.list_tokens,
            bob.cluster_status,
        ):
            with pytest.raises(PermissionDeniedError):
                attempt()
        bob.drop_collection("own")
        with pytest.raises(NotFoundError):
            bob.count("own")


# --- tokens ---------------------------------------------------------------------


def test_tokens_are_listed_without_their_secrets(root: Client) -> None:
    """What was asked for is what is listed; a secret is 256 bits, told once and kept nowhere."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    made = root.create_token("lister", [Grant("read"), Grant("write", "docs")], expires_at=expires)
    assert len(made.secret) == 43
    (listed,) = [token for token in root.list_tokens() if token.principal == "lister"]
    assert listed == made.token
    assert (listed.grants, listed.expires_at) == ((Grant("read"), Grant("write", "docs")), expires)
    root.revoke_token(listed.token_id)
    assert listed not in root.list_tokens()


def test_a_secret_is_on_no_disk(node: InProcessNode, root: Client) -> None:
    """Neither the catalogue nor the log has it."""
    secret = root.create_token("ann", [Grant("read")]).secret.encode()
    files = [path for path in node.data_dir.rglob("*") if path.is_file()]
    assert any(b"create_token" in path.read_bytes() for path in files)
    assert not any(secret in path.read_bytes() for path in files)


def test_a_revoked_token_is_refused_at_once(root: Client, holder: Callable[..., Client]) -> None:
    """The call after the revocation is UNAUTHENTICATED, though the one before was answered."""
    ann = holder(Grant("read"), principal="soon-gone")
    assert ann.count("docs") == 1
    (token,) = [token for token in root.list_tokens() if token.principal == "soon-gone"]
    root.revoke_token(token.token_id)
    with pytest.raises(UnauthenticatedError):
        ann.count("docs")
    with pytest.raises(NotFoundError, match="no token"):
        root.revoke_token(token.token_id)


def test_a_token_expires(node: InProcessNode, holder: Callable[..., Client]) -> None:
    """Once its time has come a token is UNAUTHENTICATED, and so is a stream that was opened before."""
    begun = time.monotonic()
    ann = holder(Grant("read"), expires_at=datetime.now(UTC) + timedelta(seconds=0.5))
    ann.count("docs")
    (secret,) = [value for key, value in ann._endpoints.metadata or () if key == "authorization"]
    idle: queue.Queue[Any] = queue.Queue()
    stream = node.search.SearchStream(iter(idle.get, None), metadata=[("authorization", secret)], timeout=20)
    refused = refusal(lambda: next(stream))
    idle.put(None)
    assert (refused.code, refused.reason) == (UNKNOWN, "UNAUTHENTICATED")
    assert "expired" in refused.message
    assert time.monotonic() - begun >= 0.4
    with pytest.raises(UnauthenticatedError, match="expired"):
        ann.count("docs")


@pytest.mark.parametrize("asked", [False, True], ids=["idle", "after an answer"])
@pytest.mark.parametrize("service", ["search", "knowledge"])
def test_a_revoked_tokens_streams_end(node: InProcessNode, root: Client, service: str, asked: bool) -> None:
    """A stream that is open under a token ends with UNAUTHENTICATED when that is revoked, also while it waits
    for its client; the streams of other tokens go on."""
    mine, other = (root.create_token("ann", [Grant("write", "docs")]) for _ in range(2))
    asking: dict[str, queue.Queue[Any]] = {}

    def opened(secret: str) -> Any:
        requests = asking.setdefault(secret, queue.Queue())
        if service == "search":
            stream = node.search.SearchStream
        else:
            stream = node.knowledge.Ingest
            header = knowledge_pb2.IngestHeader(collection="docs")
            requests.put(knowledge_pb2.IngestRequest(header=header))
        return stream(iter(requests.get, None), metadata=headers(secret), timeout=20)

    def ask(secret: str) -> None:
        if service == "search":
            query = search_pb2.Query(text="rain")
            request = search_pb2.SearchRequest(collection="docs", query=query)
            asking[secret].put(search_pb2.SearchStreamRequest(request=request))
        else:
            empty = knowledge_pb2.SourceHeader(uri="empty.txt", size=0)
            asking[secret].put(knowledge_pb2.IngestRequest(source=empty))

    streams = {secret: opened(secret) for secret in (mine.secret, other.secret)}
    ask(other.secret)
    next(streams[other.secret])
    if asked:
        ask(mine.secret)
        next(streams[mine.secret])
    else:
        # The stream is there once the node counts it.
        method = ("Search", "SearchStream") if service == "search" else ("Knowledge", "Ingest")
        meter = node.node._metrics.rpc(*method)
        deadline = time.monotonic() + 10
        while meter.read().in_flight < 2:
            assert time.monotonic() < deadline
    root.revoke_token(mine.token.token_id)
    refused = refusal(lambda: next(streams[mine.secret]))
    assert (refused.code, refused.reason) == (UNKNOWN, "UNAUTHENTICATED")
    assert "revoked" in refused.message
    ask(other.secret)
    next(streams[other.secret])
    for requests in asking.values():
        requests.put(None)
    assert list(streams[other.secret]) == []


def test_a_creation_that_comes_again_makes_one_token(node: InProcessNode, root: Client) -> None:
    """A retry under the same session and sequence replaces the token whose secret did not arrive."""
    request = token_request(session=b"s" * 16, principal="again")
    request.options.sequence = 7
    first, second = (node.access.CreateToken(request, metadata=headers(TOKEN)) for _ in range(2))
    assert [token.principal for token in root.list_tokens()].count("again") == 1
    who = access_pb2.WhoAmIRequest()
    assert refusal(lambda: node.access.WhoAmI(who, metadata=headers(first.secret))).code is UNKNOWN
    assert node.access.WhoAmI(who, metadata=headers(second.secret)).principal == "again"
    request.options.sequence = 8
    node.access.CreateToken(request, metadata=headers(TOKEN))
    assert [token.principal for token in root.list_tokens()].count("again") == 2
    assert request.options == common_pb2.WriteOptions(session_id=b"s" * 16, sequence=8)


def test_tokens_outlive_the_node(tmp_path: Path) -> None:
    """After a restart the good tokens are good and the revoked ones are not."""
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    with InProcessNode(tmp_path, token_file=path) as node:
        with node.client(token=TOKEN) as root:
            kept, gone = (root.create_token(name, [Grant("read")]) for name in ("kept", "gone"))
            root.revoke_token(gone.token.token_id)
        node.restart()
        with node.client(token=kept.secret) as reader, node.client(token=gone.secret) as stranger:
            assert reader.whoami().name == "kept"
            with pytest.raises(UnauthenticatedError):
                stranger.whoami()
