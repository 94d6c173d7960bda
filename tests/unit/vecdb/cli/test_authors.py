"""vecdb authors: what goes over the wire and what comes out."""

import json

from vecdb_proto.v1 import access_pb2

from tests.clients.scripted import ScriptedServer
from tests.unit.vecdb.cli.conftest import Cli


def test_quarantine_and_release(cli: Cli, server: ScriptedServer) -> None:
    """The author and the reason go out as they were given; what was done is told."""
    server.script("Access/QuarantineAuthor", access_pb2.QuarantineAuthorResponse())
    server.script("Access/ReleaseAuthor", access_pb2.ReleaseAuthorResponse())
    assert cli("authors", "quarantine", "eve", "--reason", "spam").out == "quarantined eve\n"
    assert cli("authors", "release", "eve").out == "released eve\n"
    (asked,) = server.requests["Access/QuarantineAuthor"]
    assert (asked.author, asked.reason) == ("eve", "spam")
    assert server.requests["Access/ReleaseAuthor"][0].author == "eve"


def test_list(cli: Cli, server: ScriptedServer) -> None:
    """A table for people, JSON for machines."""
    eve = access_pb2.QuarantinedAuthor(author="eve", reason="spam", since_ms=1_700_000_000_000)
    server.script("Access/ListQuarantined", access_pb2.ListQuarantinedResponse(authors=[eve]))
    table = cli("authors", "list").out
    assert all(word in table for word in ("eve", "spam", "2023-11-14T22:13:20+00:00"))
    assert json.loads(cli("authors", "list", "--json").out)[0]["reason"] == "spam"
