"""The options by which a command reaches a node, and the client they make."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vecdb.cli.exits import CommandError, warn

if TYPE_CHECKING:
    import grpc
    from vecdb_client import Client

# A person waits: about two seconds of trying bridge a restart, ten would feel hung.
_ATTEMPTS = 6
# Stands in the place of a CA file for the certificates that the system trusts.
_SYSTEM = "system"

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@dataclass(frozen=True, slots=True)
class Node:
    """Where a node is and how to speak to it."""

    addresses: tuple[str, ...]
    token_file: Path | None
    tls_ca: str | None
    timeout: float

    def client(self) -> Client:
        """A client; close it after use.

        Raises CommandError where an address, token file or CA file is unusable.
        """
        from vecdb_client import Client, RetryPolicy

        # The client's warnings are for operators too, without the line of code.
        warnings.showwarning = lambda message, *_: warn(str(message))
        tls: bool | str | None = True if self.tls_ca == _SYSTEM else self.tls_ca
        try:
            return Client(
                self.addresses,
                token=self._token(),
                tls=tls,
                timeout=self.timeout,
                retry=RetryPolicy(attempts=_ATTEMPTS),
            )
        except ValueError as error:
            raise CommandError(str(error)) from None

    def channel(self) -> grpc.Channel:
        """A plain channel to the first address, for what the client has no method for."""
        import grpc
        from vecdb_client import TLS

        if self.tls_ca is None:
            return grpc.insecure_channel(self.addresses[0])
        ca = None if self.tls_ca == _SYSTEM else self.tls_ca
        return grpc.secure_channel(self.addresses[0], TLS(ca=ca).credentials())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call over `channel` carries: the token, if there is one."""
        token = self._token()
        return () if token is None else (("authorization", f"Bearer {token}"),)

    def _token(self) -> str | None:
        from vecdb.security.tokens import TokenFileError, read_token_file

        if self.token_file is None:
            return None
        try:
            return read_token_file(self.token_file)
        except TokenFileError as error:
            raise CommandError(f"token file {self.token_file}: {error}") from None


def _options(
    addr: Annotated[
        str, typer.Option("--addr", envvar="VECDB_ADDR", help="The node: host:port; more than one by commas.")
    ] = "127.0.0.1:7700",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", envvar="VECDB_TOKEN_FILE", help="The file with the token.")
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(
            "--tls-ca",
            envvar="VECDB_TLS_CA",
            help='Speak TLS and trust this CA file; "system" for the system\'s.',
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", envvar="VECDB_TIMEOUT", min=0.001, help="Seconds that a request may take."),
    ] = 30.0,
) -> Node:
    addresses = tuple(part.strip() for part in addr.split(",") if part.strip())
    if not addresses:
        raise CommandError(f"--addr {addr!r}: names no node; give host:port")
    return Node(addresses, token_file, tls_ca, timeout)


def with_node(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options above; their `Node` becomes its first argument."""
    shared = inspect.signature(_options, eval_str=True).parameters
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        node = _options(**{name: values.pop(name) for name in shared})
        command(node, **values)

    parameters = [
        parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own
    ] + [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shared.values()]
    # typer reads both; the first argument must be gone from both.
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del wrapper.__wrapped__
    return wrapper
