"""A signature that JSON Schemas give, where there is no method to read.

What a server elsewhere takes and gives is known from its OpenAPI document, proto or IDL.
Requests, responses and items are plain values then: dicts, lists, text, numbers, and bytes
where the schema says base64; times are text.  What comes in is checked against its schema.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import TYPE_CHECKING, Any

from kitmsg.codec import DECODE_ERRORS, Codec, translate
from kitmsg.errors import InvalidArgument
from kitmsg.schema.calls import Shape
from kitmsg.schema.instances import validator
from kitmsg.schema.signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Described", "described"]

_SHAPE = Shape(
    names=("request",),
    is_single=True,
    context="context",
    context_at=0,
    by_name=False,
    is_async=True,
)
_PYTHON = inspect.Signature(
    [inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
)


@dataclasses.dataclass(frozen=True, eq=False)
class Described(Signature):
    """Signature of an endpoint that is given by JSON Schemas; see `described`.

    Attributes:
        given: Schemas of the request and the response.
        given_items: Schema of the items that the caller streams; None for none.
    """

    given: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    given_items: dict[str, Any] | None = None

    def request_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from a request's bytes to a plain object that fits.

        Raises:
            TypeError: The codec is raw.
        """
        read = _reader(codec, self.given[0])

        def decode(data: bytes) -> Any:
            value = (
                read(data) if data else read(b"{}" if codec.name == "json" else b"\x80")
            )
            if not isinstance(value, dict):
                raise InvalidArgument("the request is not an object of named fields")
            return value

        return decode

    def item_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from bytes to an item that fits; see `request_decoder`."""
        return _reader(codec, self.given_items or {})

    @functools.cached_property
    def _schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.given

    @functools.cached_property
    def _items_schema(self) -> dict[str, Any]:
        return {} if self.given_items is None else {"items": self.given_items}


def _reader(codec: Codec, schema: dict[str, Any]) -> Callable[[bytes], Any]:
    decode, fit = codec.decoder(Any), validator(schema)

    def read(data: bytes) -> Any:
        try:
            value = decode(data)
        except DECODE_ERRORS as exc:
            raise translate(exc, codec.name) from exc
        return fit(value)

    return read


def described(
    name: str,
    *,
    owner: str,
    request: dict[str, Any],
    response: dict[str, Any],
    items: dict[str, Any] | None = None,
    gives_items: bool = False,
    doc: str = "",
) -> Signature:
    """Return the signature of an endpoint that takes one plain object.

    Args:
        name: Name of the endpoint.
        owner: Name of the service, for messages.
        request: JSON Schema of the request, an object.
        response: JSON Schema of the response, or of each item of a stream out.
        items: JSON Schema of each item of a stream in; None without.
        gives_items: Whether it answers with a stream.
        doc: What the endpoint does, in a sentence.
    """
    return Described(
        owner=owner,
        name=name,
        doc=doc,
        request=dict[str, Any],
        response=Any,
        parameters=_SHAPE.names,
        is_async=True,
        is_single=True,
        context_parameter=_SHAPE.context,
        keyword_only=False,
        unknown_fields="ignore",
        _python=_PYTHON,
        _shape=_SHAPE._replace(streams=gives_items or items is not None),
        item=None if items is None else Any,
        gives_items=gives_items,
        given=(request, response),
        given_items=items,
    )
