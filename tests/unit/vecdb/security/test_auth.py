"""Who is let in, as whom, and what they may do."""

import time
from pathlib import Path
from typing import Any

import pytest
from vecdb_proto.v1 import access_pb2

from vecdb.security import (
    ANONYMOUS,
    ROOT,
    Authenticator,
    AuthError,
    Bearer,
    Grant,
    Principal,
    Role,
    Token,
    TokenFileError,
    digest,
)

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def closed(tmp_path: Path) -> Authenticator:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return Authenticator.from_token_file(path)


def test_an_open_node_lets_everyone_in() -> None:
    """Without a token file everyone is anonymous, and an admin. A token that is sent must be good all the
    same: who sends one wants to be its principal, and would not notice."""
    node = Authenticator.from_token_file(None)
    assert node.authenticate(None).principal is ANONYMOUS
    assert ANONYMOUS.role is Role.ADMIN
    node.follow({"t": token("t")})
    assert node.authenticate("Bearer secret-of-t").principal.name == "ann"
    for header in ("", "Bearer whatever", "nonsense"):
        with pytest.raises(AuthError, match="token"):
            node.authenticate(header)


def token(token_id: str, expires_at_ms: int = 0, secret: str = "", **changes: Any) -> Token:
    hashed = digest(secret or f"secret-of-{token_id}")
    grants = (Grant("docs", Role.WRITE),)
    return Token(token_id, hashed, "ann", grants, 1, expires_at_ms=expires_at_ms, **changes)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_root_token_is_root(closed: Authenticator, scheme: str) -> None:
    """The token is good every time, whatever the case of its scheme (RFC 9110, 11.1)."""
    for _ in range(3):
        assert closed.authenticate(f"{scheme} {TOKEN}").principal is ROOT


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN,
        f"Basic {TOKEN}",
        f"Bearer  {TOKEN}",
        f"Bearer {TOKEN} ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {digest(TOKEN).hex()}",
        "Bearer " + "x" * 100_000,
        "Bearer \u00fc",
    ],
)
def test_everything_else_is_refused(closed: Authenticator, header: str | None) -> None:
    """A missing or wrong token is UNAUTHENTICATED, before and after a good one, and is not repeated."""
    for _ in range(2):
        with pytest.raises(AuthError) as caught:
            closed.authenticate(header)
        assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
        assert not header or len(header) < 10 or header[8:] not in str(caught.value)
        closed.authenticate(f"Bearer {TOKEN}")


def test_refused_headers_are_not_kept(closed: Authenticator) -> None:
    """What strangers send must not fill memory: only what proved right is remembered."""
    for number in range(1_000):
        with pytest.raises(AuthError):
            closed.authenticate(f"Bearer {number:032d}")
    for scheme in ("bearer", "bEARER", "Bearer"):
        closed.authenticate(f"{scheme} {TOKEN}")
    assert len(closed._table.seen) == 1


def test_a_bad_token_file_is_refused(tmp_path: Path) -> None:
    """A node does not start half open."""
    with pytest.raises(TokenFileError, match="No such file"):
        Authenticator.from_token_file(tmp_path / "none")


def test_roles_include_those_below() -> None:
    """Write reads too, admin does everything, and the numbers are those on the wire."""
    assert Role.READ < Role.WRITE < Role.ADMIN
    wire = {
        Role.READ: access_pb2.ROLE_READ,
        Role.WRITE: access_pb2.ROLE_WRITE,
        Role.ADMIN: access_pb2.ROLE_ADMIN,
    }
    assert all(role == number for role, number in wire.items())


def test_grants_on_collections() -> None:
    """A role holds where it was granted and nowhere else; the higher of two counts."""
    agent = Principal(
        "agent", (Grant("docs", Role.READ), Grant("docs", Role.WRITE), Grant("news", Role.READ))
    )
    agent.require(Role.WRITE, "docs")
    agent.require(Role.READ, "news")
    assert agent.may(Role.WRITE, ("other", "docs"))
    for role, collection in (
        (Role.ADMIN, "docs"),
        (Role.WRITE, "news"),
        (Role.READ, "other"),
        (Role.READ, ""),
    ):
        with pytest.raises(AuthError) as caught:
            agent.require(role, collection)
        assert caught.value.code == "PERMISSION_DENIED"
        assert caught.value.metadata == {"role": role.name.lower(), "collection": collection}
        assert role.name.lower() in str(caught.value)


def test_a_grant_on_everything() -> None:
    """A role on all collections holds on each, and a grant can raise it on one."""
    reader = Principal("reader", (Grant("", Role.READ), Grant("docs", Role.WRITE)))
    reader.require(Role.READ)
    reader.require(Role.READ, "anything")
    reader.require(Role.WRITE, "docs")
    with pytest.raises(AuthError, match="all collections"):
        reader.require(Role.WRITE)
    ROOT.require(Role.ADMIN)
    ROOT.require(Role.ADMIN, "anything")


# --- the tokens of the catalogue -------------------------------------------------


def test_tokens_come_and_go(closed: Authenticator) -> None:
    """A token is good from the moment it is followed until it is not followed; its bearer stays the same
    object meanwhile, and others' comings and goings do not touch it."""
    held = {"a": token("a"), "b": token("b")}
    closed.follow(held)
    bearer = closed.authenticate("Bearer secret-of-a")
    assert (bearer.principal.name, bearer.principal.grants) == ("ann", (Grant("docs", Role.WRITE),))
    closed.follow(held)
    closed.follow({"a": token("a"), "c": token("c")})
    assert closed.authenticate("Bearer secret-of-a") is bearer
    with pytest.raises(AuthError, match="not valid"):
        closed.authenticate("Bearer secret-of-b")
    closed.follow({})
    with pytest.raises(AuthError, match="revoked"):
        bearer.check()
    for secret in "abc":
        with pytest.raises(AuthError):
            closed.authenticate(f"Bearer secret-of-{secret}")
    assert closed.authenticate(f"Bearer {TOKEN}").principal is ROOT


def test_a_token_made_anew_under_its_id_is_another(closed: Authenticator) -> None:
    """Where a creation is repeated, the first secret is worthless, and who carries it is told so."""
    closed.follow({"a": token("a")})
    first = closed.authenticate("Bearer secret-of-a")
    closed.follow({"a": token("a", secret="second")})
    with pytest.raises(AuthError, match="revoked"):
        first.check()
    with pytest.raises(AuthError, match="not valid"):
        closed.authenticate("Bearer secret-of-a")
    assert closed.authenticate("Bearer second").principal.name == "ann"


def test_an_expired_token_is_refused(closed: Authenticator) -> None:
    """Up to its last moment a token is good, then never again, however often it was seen before."""
    now = time.time()
    soon, past = token("a", int(now * 1000) + 60_000), token("b", int(now * 1000) - 1)
    closed.follow({"a": soon, "b": past})
    bearer = closed.authenticate("Bearer secret-of-a")
    left = bearer.seconds_left()
    assert left is not None
    assert 0 < left <= 60.0
    for _ in range(2):
        with pytest.raises(AuthError, match="expired"):
            closed.authenticate("Bearer secret-of-b")
    assert Bearer(ROOT).seconds_left() is None
    assert Bearer(ROOT, past).seconds_left() == 0.0


def test_whoever_watches_is_told_of_a_revocation(closed: Authenticator) -> None:
    """Each one that watches at that moment is told, once; one that has left is not."""
    closed.follow({"a": token("a"), "b": token("b")})
    told: list[str] = []
    a, b = (closed.authenticate(f"Bearer secret-of-{each}") for each in "ab")
    with a.watched(lambda: told.append("left")):
        pass
    with a.watched(lambda: told.append("a1")), a.watched(lambda: told.append("a2")):
        with b.watched(lambda: told.append("b")):
            closed.follow({"b": token("b")})
        closed.follow({})
    assert told == ["a1", "a2"]
