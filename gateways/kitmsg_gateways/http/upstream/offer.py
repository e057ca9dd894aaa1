"""The endpoints of an HTTP API, by routes or by a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.schema.pointers import resolve
from kitmsg.service.described import describe
from kitmsg_gateways.http.upstream.call import HttpMethod
from kitmsg_gateways.http.upstream.operation import Rest, operation, plain
from kitmsg_gateways.http.upstream.reply import plain_reader, reader
from kitmsg_gateways.upstream.offers import renamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.schema import Signature
    from kitmsg.service import Service
    from kitmsg.service.declare import Declaration

__all__ = ["IDEMPOTENT", "offers"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be repeated.  Source: RFC 9110, section 9.2.2."""

_decode: Final = msgspec.json.Decoder().decode


def offers(
    service: str, endpoints: Mapping[str, str] | type[Service]
) -> list[HttpMethod]:
    """Return the endpoints of routes by name, or of a class.

    Raises:
        ValueError: A name or a route is wrong.
    """
    if isinstance(endpoints, type):
        return [_typed(service, d) for d in endpoints.__declarations__.values()]
    return [_by_hand(service, name, route) for name, route in endpoints.items()]


def _by_hand(service: str, name: str, route: str) -> HttpMethod:
    made = operation(route)
    declaration = describe(
        service,
        name,
        request={
            "type": "object",
            "properties": {
                name_: {"type": ["string", "number"]} for name_ in made.required
            },
            "required": list(made.required),
        },
        response={},
        doc=route,
        idempotent=made.method in IDEMPOTENT,
    )
    return HttpMethod(declaration, made, plain, plain_reader(declaration.subject, {}))


def _typed(service: str, declaration: Declaration) -> HttpMethod:
    declaration = renamed(declaration, service)
    signature = declaration.signature
    if signature.stream == "both":
        raise ValueError(
            f"{signature.where} streams both ways at once, which HTTP cannot carry here"
        )
    route = declaration.options.http or f"POST /{service}/{declaration.name}"
    encode = signature.request_encoder(JSON)
    decoders = {c.name: signature.response_decoder(c) for c in (JSON, MSGPACK)}
    if signature.response is bytes:
        decoders[RAW.name] = bytes
    takes_text = signature.response is str
    read = reader(declaration.subject, decoders, takes_text=takes_text)
    # The body is taken by what is streamed.
    rest: Rest = "query" if signature.takes_items else ""
    made = operation(route, _with_defaults(signature), rest=rest)
    item = signature.item_encoder(JSON) if signature.takes_items else encode
    return HttpMethod(declaration, made, lambda r: _decode(encode(r)), read, item)


def _with_defaults(signature: Signature) -> dict[str, Any]:
    """Return the schema of a request with the defaults that only its class knows."""
    schema = signature.request_schema()
    top = resolve(schema, schema)
    properties = dict(top.get("properties", {}))
    for one in getattr(mi.type_info(signature.request), "fields", ()):
        if one.default_factory is not msgspec.NODEFAULT:
            default = msgspec.to_builtins(one.default_factory())
            own = properties.get(one.encode_name, {})
            properties[one.encode_name] = {**own, "default": default}
    return {**top, "properties": properties, "$defs": schema.get("$defs", {})}
