"""Payloads: Python mappings out, msgpack bytes on the wire, and back when looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgpack
import numpy as np

# A document without a payload in a batch in which others have one.
EMPTY: bytes = msgpack.packb({})


def _numpy_default(value: object) -> Any:
    """What to pack in place of a numpy value: scalars and arrays turn up in payloads all the time."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime):
        raise ValueError(f"a datetime in a payload needs a time zone: {value!r}")
    if isinstance(value, int):
        raise OverflowError(f"{value} does not fit 64 bits")
    raise TypeError(f"a payload cannot hold {type(value).__name__}")


def _pack_one(packer: msgpack.Packer, payload: Mapping[str, Any] | bytes | None) -> bytes:
    if payload is None:
        return EMPTY
    if isinstance(payload, bytes):
        return payload
    # A dict first: asking whether something is a Mapping costs as much as packing it.
    if not isinstance(payload, dict):
        if not isinstance(payload, Mapping):
            raise TypeError(f"a payload is a mapping (or msgpack bytes), not {type(payload).__name__}")
        payload = dict(payload)
    packed: bytes = packer.pack(payload)
    return packed


def pack_all(payloads: Iterable[Mapping[str, Any] | bytes | None]) -> list[bytes]:
    """Packs payloads; bytes are taken as msgpack already, None is an empty map.

    Raises TypeError for what msgpack cannot hold, ValueError for a datetime
    without a time zone, OverflowError for an int beyond 64 bits.
    """
    packer = msgpack.Packer(datetime=True, default=_numpy_default)
    return [_pack_one(packer, payload) for payload in payloads]


def pack(payload: Mapping[str, Any] | bytes | None) -> bytes:
    """Packs one payload; see `pack_all`."""
    return pack_all((payload,))[0]


def unpack(raw: bytes) -> dict[str, Any]:
    """The mapping that the bytes hold; timestamps become aware datetimes (UTC).

    A timestamp outside datetime's years stays a `msgpack.Timestamp`, an
    extension stays a `msgpack.ExtType`, and bytes in a string that are no
    UTF-8 become surrogates: what another client wrote must stay readable.
    """
    if not raw:
        return {}
    try:
        payload: dict[str, Any] = msgpack.unpackb(raw, timestamp=3, strict_map_key=False)
    except (ValueError, OverflowError):
        payload = msgpack.unpackb(raw, timestamp=0, strict_map_key=False, unicode_errors="surrogateescape")
    return payload
