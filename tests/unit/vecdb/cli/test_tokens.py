"""vecdb tokens: what goes over the wire and what comes out."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from vecdb_proto.v1 import access_pb2

from tests.clients.scripted import Fail, ScriptedServer
from tests.unit.vecdb.cli.conftest import Cli

INFO = access_pb2.TokenInfo(
    token_id="t1",
    principal="ann",
    grants=[access_pb2.Grant(collection="docs", role=access_pb2.ROLE_WRITE)],
    created_at_ms=1_700_000_000_000,
    expires_at_ms=1_800_000_000_000,
)
MADE = access_pb2.CreateTokenResponse(token=INFO, secret="hush")


def test_create_prints_the_secret_alone(cli: Cli, server: ScriptedServer) -> None:
    """stdout can go to a file as it is; what was made is told on stderr."""
    server.script("Access/CreateToken", MADE)
    outcome = cli(
        *("tokens", "create", "ann", "--grant", "docs:write", "--grant", "read", "--expires", "90d"),
        *("--rate", "50", "--concurrent", "8"),
    )
    assert (outcome.code, outcome.out) == (0, "hush\n")
    assert outcome.err == "token t1 of ann: docs:write, until 2027-01-15T08:00:00+00:00\n"
    (request,) = server.requests["Access/CreateToken"]
    assert [(grant.collection, grant.role) for grant in request.token.grants] == [("docs", 2), ("", 1)]
    assert (request.token.requests_per_second, request.token.concurrent_requests) == (50, 8)
    expires = datetime.fromtimestamp(request.token.expires_at_ms / 1000, UTC)
    assert abs(expires - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)


def test_create_writes_the_secret_to_a_file_of_ones_own(
    cli: Cli, server: ScriptedServer, tmp_path: Path
) -> None:
    """The file is the reader's alone and was not there before; nothing is said of the secret."""
    server.script("Access/CreateToken", MADE)
    path = tmp_path / "ann.token"
    outcome = cli("tokens", "create", "ann", "--grant", "admin", "--out", path, "--json")
    assert (outcome.code, "hush" in outcome.out + outcome.err) == (0, False)
    assert json.loads(outcome.out)["token"]["token_id"] == "t1"
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("hush\n", 0o600)
    again = cli("tokens", "create", "ann", "--grant", "admin", "--out", path)
    assert (again.code, again.error) == (2, f"{path}: File exists")
    assert len(server.requests["Access/CreateToken"]) == 1


def test_a_refused_creation_leaves_no_file(cli: Cli, server: ScriptedServer, tmp_path: Path) -> None:
    """What the node refuses is told, and there is no empty token file."""
    server.script("Access/CreateToken", Fail(grpc.StatusCode.PERMISSION_DENIED, "needs the role admin"))
    outcome = cli("tokens", "create", "ann", "--grant", "read", "--out", tmp_path / "t")
    assert outcome.code == 77
    assert "needs the role admin" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--grant", "docs"), "the role must be one of read, write, admin"),
        (("--grant", "docs:own"), "the role must be one of"),
        (("--grant", "read", "--expires", "soon"), "a number and a unit"),
        (("--grant", "read", "--expires", "9y"), "a number and a unit"),
        ((), "--grant"),
    ],
)
def test_a_wrong_command_line_reaches_no_node(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2 and one line that names the option."""
    outcome = cli("tokens", "create", "ann", *arguments)
    assert outcome.code == 2
    assert words in outcome.error


def test_list_and_revoke(cli: Cli, server: ScriptedServer) -> None:
    """A table for people, JSON for machines; no secret anywhere."""
    server.script("Access/ListTokens", access_pb2.ListTokensResponse(tokens=[INFO]))
    server.script("Access/RevokeToken", access_pb2.RevokeTokenResponse())
    table = cli("tokens", "list").out
    assert all(word in table for word in ("t1", "ann", "docs:write", "2027-01-15T08:00:00+00:00"))
    (listed,) = json.loads(cli("tokens", "list", "--json").out)
    assert (listed["principal"], listed["grants"]) == ("ann", [{"role": "write", "collection": "docs"}])
    assert cli("tokens", "revoke", "t1").out == "revoked t1\n"
    assert server.requests["Access/RevokeToken"][0].token_id == "t1"
