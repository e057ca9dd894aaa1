"""The typed errors that an OpenAPI document tells of, as classes.

A kitmsg gateway describes each as a problem whose ``error`` is a name and whose ``details``
are its fields.  Such an error goes on with its name and fields, so that a typed client on
the bus raises its own class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kitmsg.errors import BusinessError, Code
from kitmsg_gateways.http.upstream.dialect import follow, modern
from kitmsg_gateways.upstream.errors import error_class

__all__ = ["errors_of"]

_KIND: Final = "application/problem+json"
_MAX_DEPTH: Final = 4


def errors_of(
    responses: Any, document: Mapping[str, Any]
) -> tuple[type[BusinessError], ...]:
    """Return a class for each typed error of an operation.

    Args:
        responses: Of the operation, by status.
        document: Where references lead.
    """
    found: dict[str, type[BusinessError]] = {}
    given = responses if isinstance(responses, Mapping) else {}
    for status, response in ((str(s), r) for s, r in given.items()):
        content = follow(response, document).get("content") or {}
        schema = (content.get(_KIND) or {}).get("schema") or {}
        for name, details in _typed(schema, document, _MAX_DEPTH):
            code = Code.from_http(int(status)) if status.isdigit() else Code.UNKNOWN
            doc = str(details.get("description") or name)
            made = error_class(name, details, doc=doc, code=code)
            if made is not None:
                found.setdefault(name, made)
    return tuple(found.values())


def _typed(
    schema: Any, document: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and schema of the fields of each typed error in a schema."""
    if not isinstance(schema, Mapping) or not depth:
        return
    own = follow(schema, document)
    properties = own.get("properties") or {}
    name = (properties.get("error") or {}).get("const")
    if isinstance(name, str) and "details" in properties:
        yield name, modern(follow(properties["details"], document))
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in own.get(key) or ():
            yield from _typed(branch, document, depth - 1)
