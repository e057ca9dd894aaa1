"""What an HTTP API offers: endpoints given by routes, by a class, or by a document."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.schema.pointers import resolve
from kitmsg.service import Service
from kitmsg.service.described import describe
from kitmsg_gateways.http.upstream.operation import Operation, Rest, operation, plain
from kitmsg_gateways.http.upstream.reply import Reader, plain_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kitmsg.schema import Signature
    from kitmsg.service.declare import Declaration

__all__ = ["IDEMPOTENT", "Offer", "offers", "settings_of"]

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods that may be repeated.  Source: RFC 9110, section 9.2.2."""

_encode: Final = JSON.encoder(Any)
_decode: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Offer:
    """One endpoint that an API offers.

    Attributes:
        declaration: Name, schemas and options.
        operation: How it is asked for.
        to_plain: Makes an object of JSON's kinds of values of a request.
        read: Reads its result, or one item of it.
        encode_item: Makes JSON of an item that the caller streams.
    """

    declaration: Declaration
    operation: Operation
    to_plain: Callable[[Any], Any]
    read: Reader
    encode_item: Callable[[Any], bytes] = _encode

    @property
    def stream(self) -> str:
        """``out``, ``in`` or "" as in `kitmsg.schema.signatures.Signature`."""
        return self.declaration.signature.stream


def offers(
    service: str,
    endpoints: Mapping[str, str] | type[Service] | Sequence[Offer],
) -> Sequence[Offer]:
    """Return what `endpoints` stands for; see `kitmsg_gateways.http.upstream.Upstream`.

    Args:
        service: Name of the service on the bus.
        endpoints: Routes by name, a class, or offers.

    Raises:
        ValueError: A name or a route is wrong.
    """
    if isinstance(endpoints, type):
        return [_typed(service, d) for d in endpoints.__declarations__.values()]
    if isinstance(endpoints, Mapping):
        return [_by_hand(service, name, route) for name, route in endpoints.items()]
    return endpoints


def settings_of(service: type[Service]) -> dict[str, Any]:
    """Return what a class says of itself: `name`, `doc`, and the settings it changes."""
    names = (*Service.__annotations__, "version")
    changed = {
        name: getattr(service, name)
        for name in names
        if getattr(service, name) is not getattr(Service, name, None)
        and not name.startswith("_")
    }
    doc = inspect.cleandoc(service.__dict__.get("__doc__") or "")
    return {**changed, "name": service.name, "doc": doc.partition("\n")[0]}


def _by_hand(service: str, name: str, route: str) -> Offer:
    made = operation(route)
    declaration = describe(
        service,
        name,
        request={
            "type": "object",
            "properties": {
                field: {"type": ["string", "number"]} for field in made.required
            },
            "required": list(made.required),
        },
        response={},
        doc=route,
        idempotent=made.method in IDEMPOTENT,
    )
    return Offer(declaration, made, plain, plain_reader(declaration.subject, {}))


def _typed(service: str, declaration: Declaration) -> Offer:
    if not declaration.options.subject:
        subject = f"{service}.{declaration.name}"
        declaration = dataclasses.replace(declaration, subject=subject)
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
    reader = Reader(declaration.subject, decoders, takes_text=takes_text)
    # The body is taken by what is streamed.
    rest: Rest = "query" if signature.takes_items else ""
    made = operation(route, _with_defaults(signature), rest=rest)
    offer = Offer(declaration, made, lambda request: _decode(encode(request)), reader)
    if not signature.takes_items:
        return offer
    return dataclasses.replace(offer, encode_item=signature.item_encoder(JSON))


def _with_defaults(signature: Signature) -> dict[str, Any]:
    """Return the schema of a request with the defaults that only its class knows."""
    schema = signature.request_schema()
    top = resolve(schema, schema)
    properties = dict(top.get("properties", {}))
    for field in getattr(mi.type_info(signature.request), "fields", ()):
        if field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.to_builtins(field.default_factory())
            own = properties.get(field.encode_name, {})
            properties[field.encode_name] = {**own, "default": default}
    return {**top, "properties": properties, "$defs": schema.get("$defs", {})}
