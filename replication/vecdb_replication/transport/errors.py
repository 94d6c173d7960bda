"""What goes wrong between peers."""

from __future__ import annotations


class TransportError(Exception):
    """Anything that goes wrong between two nodes."""


class TrustError(TransportError):
    """A certificate, its key or the anchors cannot be used; `str()` names the file."""


class Refused(TransportError):
    """A peer is not who it should be, or does not speak as it should; `str()` is the reason."""


class FetchFailed(TransportError):
    """A file did not come through. What came of it is good: go on behind it, a while later."""
