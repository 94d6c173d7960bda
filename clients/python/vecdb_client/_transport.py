"""Reaching a node: addresses, TLS, channel options, and when to try again."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from vecdb_client._errors import ResourceExhaustedError, UnavailableError, VecdbError

DEFAULT_PORT = 7700
_MESSAGE_BYTES = 64 << 20
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MESSAGE_BYTES),
    # A node that vanished without a word is noticed within half a minute.
    # Pings only while calls are open: idle clients stay silent, and servers
    # answer excessive pings with GOAWAY.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnect quickly: a restarted node is back within seconds, and until
    # then our own retries pace the calls.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Retries are ours: gRPC's would be invisible to the backoff below.
    ("grpc.enable_retries", 0),
)

PathOrBytes: TypeAlias = "str | PathLike[str] | bytes"


def _read(value: PathOrBytes | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return Path(fspath(value)).read_bytes()


@dataclass(frozen=True, slots=True)
class TLS:
    """How to speak TLS to a node.

    `ca` is the PEM file (or its bytes) to trust instead of the system's roots;
    `cert` and `key` prove the client where the node asks for it;
    `server_name` is the name to expect in the node's certificate where it is
    not the one in the address.
    """

    ca: PathOrBytes | None = None
    cert: PathOrBytes | None = None
    key: PathOrBytes | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files. Raises OSError where one cannot be read, ValueError for a cert without its key."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("a TLS client certificate needs both cert and key")
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


TlsOption: TypeAlias = "TLS | bool | str | PathLike[str] | None"


def tls_of(option: TlsOption) -> TLS | None:
    """None or False for plaintext, True for the system's roots, a path for that CA file, or the TLS value."""
    if option is None or option is False:
        return None
    if option is True:
        return TLS()
    return option if isinstance(option, TLS) else TLS(ca=option)


def _address(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"an address is a string such as 'host:7700', not {type(text).__name__}")
    text = text.strip()
    if not text or "://" in text:
        raise ValueError(f"an address is host:port, without a scheme, not {text!r}")
    if text.startswith("unix:") or (text.rpartition(":")[2].isdigit() and not text.endswith("]")):
        bare_v6 = not text.startswith(("unix:", "[")) and text.count(":") > 1
        return f"[{text}]:{DEFAULT_PORT}" if bare_v6 else text
    return f"{text}:{DEFAULT_PORT}"


def addresses_of(addresses: str | Iterable[str]) -> tuple[str, ...]:
    """The addresses, the default port filled in.

    Raises ValueError where there is none or one is malformed, TypeError for
    anything but strings.
    """
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError("at least one address is needed")
    return tuple(_address(text) for text in given)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try a failed request again.

    UNAVAILABLE is tried again up to `attempts` times at each address, with
    full jitter (Brooker, "Exponential Backoff and Jitter", 2015): the pause
    is uniform in [0, min(maximum, initial * 2**n)] seconds. RESOURCE_EXHAUSTED
    is tried again only when the server says when. Neither outlives the
    deadline.
    """

    attempts: int = 10
    initial: float = 0.05
    maximum: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.initial < 0 or self.maximum < 0:
            raise ValueError("attempts must be at least 1, initial and maximum at least 0")


def left(deadline: float | None) -> float | None:
    """Seconds until a moment of `time.monotonic()`, at least 0; None for no limit."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class Attempts:
    """The failed attempts of one request: decides about the next one."""

    __slots__ = ("_addresses", "_failed", "_policy")

    def __init__(self, policy: RetryPolicy, addresses: int) -> None:
        self._policy = policy
        self._addresses = addresses
        self._failed = 0

    def pause(self, error: VecdbError, remaining: float | None) -> float | None:
        """Seconds to wait before the next attempt; None where there should be none.

        `remaining` are the seconds left to the call, None for no limit.
        """
        self._failed += 1
        rounds, within = divmod(self._failed, self._addresses)
        if rounds >= self._policy.attempts:
            return None
        if isinstance(error, UnavailableError):
            # The other addresses are worth a try at once; then wait.
            backoff = (
                min(self._policy.maximum, self._policy.initial * 2.0 ** (rounds - 1)) if not within else 0.0
            )
            pause = max(random.uniform(0, backoff), error.retry_after or 0.0)  # noqa: S311
        elif isinstance(error, ResourceExhaustedError) and error.retry_after is not None:
            # Everyone who was turned away got the same hint: spread them.
            pause = error.retry_after * random.uniform(1.0, 1.25)  # noqa: S311
        else:
            return None
        return None if remaining is not None and pause >= remaining else pause


class Endpoints:
    """The addresses of a client, and which of them is in use."""

    __slots__ = ("_credentials", "_options", "_tls", "addresses", "current", "metadata")

    def __init__(
        self,
        addresses: str | Iterable[str],
        token: str | None,
        tls: TlsOption,
        options: Sequence[tuple[str, Any]],
    ) -> None:
        self.addresses = addresses_of(addresses)
        self.current = 0
        self._tls = tls_of(tls)
        # Read now: a missing file should not wait for the first request to show.
        self._credentials = None if self._tls is None else self._tls.credentials()
        self._options = (*_OPTIONS, *options)
        self.metadata: tuple[tuple[str, str], ...] | None = None
        if token is not None:
            if not isinstance(token, str):
                raise TypeError(f"a token is a string, not {type(token).__name__}")
            self.metadata = (("authorization", f"Bearer {token}"),)
            if self._tls is None and not all(a.startswith(_LOOPBACK) for a in self.addresses):
                warnings.warn("the token is sent without TLS: anyone on the way can read it", stacklevel=4)

    def failed(self, index: int, error: VecdbError) -> None:
        """Moves on from an address that is unavailable, once for all the calls that failed at it together."""
        if index == self.current and isinstance(error, UnavailableError):
            self.current = (index + 1) % len(self.addresses)

    def channel(self, library: Any, index: int) -> Any:
        """A channel to the address, of `grpc` or of `grpc.aio`."""
        target = self.addresses[index]
        options = list(self._options)
        if target.startswith(_LOOPBACK):
            options.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our own machine
        if self._tls is None:
            return library.insecure_channel(target, options)
        if self._tls.server_name:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        return library.secure_channel(target, self._credentials, options)
