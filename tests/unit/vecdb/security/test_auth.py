"""Who is let in, as whom, and what they may do."""

from pathlib import Path

import pytest
from vecdb_proto.v1 import access_pb2

from vecdb.security import ANONYMOUS, ROOT, Authenticator, AuthError, Grant, Principal, Role, TokenFileError
from vecdb.security.tokens import digest

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def closed(tmp_path: Path) -> Authenticator:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return Authenticator.from_token_file(path)


def test_an_open_node_lets_everyone_in() -> None:
    """Without a token file everyone is anonymous, and an admin."""
    node = Authenticator.from_token_file(None)
    assert node.is_open
    for header in (None, "", "Bearer whatever", "nonsense"):
        assert node.authenticate(header) is ANONYMOUS
    assert ANONYMOUS.role is Role.ADMIN


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_root_token_is_root(closed: Authenticator, scheme: str) -> None:
    """The token is good every time, whatever the case of its scheme (RFC 9110, 11.1)."""
    assert not closed.is_open
    for _ in range(3):
        assert closed.authenticate(f"{scheme} {TOKEN}") is ROOT


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
    assert len(closed._seen) == 1


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
        "agent", None, (Grant("docs", Role.READ), Grant("docs", Role.WRITE), Grant("news", Role.READ))
    )
    agent.require(Role.WRITE, "docs")
    agent.require(Role.READ, "news")
    for role, collection in (
        (Role.ADMIN, "docs"),
        (Role.WRITE, "news"),
        (Role.READ, "other"),
        (Role.READ, ""),
    ):
        with pytest.raises(AuthError) as caught:
            agent.require(role, collection)
        assert caught.value.code == "PERMISSION_DENIED"
        assert role.name.lower() in str(caught.value)
    assert agent.role_on("docs") is Role.WRITE
    assert agent.role_on("other") is None


def test_a_grant_on_everything() -> None:
    """A role on all collections holds on each, and a grant can raise it on one."""
    reader = Principal("reader", Role.READ, (Grant("", Role.READ), Grant("docs", Role.WRITE)))
    reader.require(Role.READ)
    reader.require(Role.READ, "anything")
    reader.require(Role.WRITE, "docs")
    with pytest.raises(AuthError, match="whole node"):
        reader.require(Role.WRITE)
    ROOT.require(Role.ADMIN)
    ROOT.require(Role.ADMIN, "anything")
