"""What can go wrong between a text and its vector."""

from collections.abc import Sequence


class ModelError(Exception):
    """Anything that a model, its configuration or its endpoint did wrong."""


class ModelConfigError(ModelError):
    """The configuration of the models is invalid; the message names the key."""


class UnknownModel(ModelError):
    """No model of this name is configured on this node."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(known) if known else "none"
        super().__init__(f"unknown model {name!r}; this node has: {listed}")
        self.name = name
        self.known = tuple(known)


class ModelLoadError(ModelError):
    """The model's files are missing, damaged, or not what the configuration says."""


class ModelUnavailable(ModelError):
    """The model's endpoint does not answer, or not usefully; trying later may help.

    `retry_after` is the number of seconds the endpoint asked to be left alone,
    where it said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ModelBusy(ModelError):
    """Too many texts are waiting for this model already."""


class EmbeddingError(ModelError):
    """Some texts of a request have no usable embedding.

    `positions` are indices into the request's texts, ascending; it is empty
    where the model refused the request without saying for which text.
    """

    def __init__(self, reason: str, positions: Sequence[int] = ()) -> None:
        super().__init__(_located(reason, positions))
        self.reason = reason
        self.positions = tuple(positions)

    def moved(self, positions: Sequence[int]) -> "EmbeddingError":
        """The same complaint about other positions."""
        return EmbeddingError(self.reason, positions)


_NAMED = 5


def _located(reason: str, positions: Sequence[int]) -> str:
    if not positions:
        return reason
    if len(positions) == 1:
        return f"text at position {positions[0]} {reason}"
    listed = ", ".join(map(str, positions[:_NAMED]))
    more = f" and {len(positions) - _NAMED} more" if len(positions) > _NAMED else ""
    return f"each text at positions {listed}{more} {reason}"
