"""Collections by name, for those who may."""

from __future__ import annotations

from vecdb.api.dispatch import Call
from vecdb.catalog import CollectionRecord
from vecdb.query import Database
from vecdb.query.errors import no_collection
from vecdb.security import Role


def permitted(db: Database, call: Call, role: Role, name: str) -> CollectionRecord:
    """The collection of a name or an alias; the caller needs the role by that name or by its own name.

    AuthError PERMISSION_DENIED, the same whether there is such a collection or not: names cannot be probed.
    RequestError NOT_FOUND for those who might use it.
    """
    record = db.state.resolve(name)
    names = (name,) if record is None else (name, record.name)
    if not call.principal.may(role, names):
        raise call.principal.refusal(role, name)
    if record is None:
        raise no_collection(name)
    return record
