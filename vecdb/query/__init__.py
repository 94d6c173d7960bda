"""What the node does with a request once it is valid: plan, fan out, merge, cite.

Knows neither gRPC nor the wire: the API layer checks requests and converts
them; here they are values. Refusals are `RequestError`.
"""

from vecdb.query.database import Database
from vecdb.query.errors import RequestError
from vecdb.query.sessions import Freshness, Positions

__all__ = ["Database", "Freshness", "Positions", "RequestError"]
