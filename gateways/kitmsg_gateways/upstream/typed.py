"""The endpoint of a class with plain values on its other side: maps, lists, texts, bytes.

A protocol's reader and writer go by an interface description, not by Python's types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.codec import JSON, MSGPACK
from kitmsg.transport.replies import Declared
from kitmsg_gateways.edge.answers import DECODERS, ENCODERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.service.declare import Declaration

__all__ = ["Typed"]

_CODECS: Final = {codec.name: codec for codec in (MSGPACK, JSON)}


class Typed:
    """Functions between the types of an endpoint's signature and plain values.

    Args:
        declaration: Of the endpoint.
        codec: ``msgpack``, or ``json`` where bytes are base64.
    """

    def __init__(self, declaration: Declaration, codec: str) -> None:
        self._declaration = declaration
        self._signature = declaration.signature
        self._codec = _CODECS[codec]
        self._pack, self._unpack = ENCODERS[codec], DECODERS[codec]

    def request(self) -> Callable[[Any], Any]:
        """Return the function from a request."""
        return self._plain(self._signature.request_encoder(self._codec))

    def item(self) -> Callable[[Any], Any]:
        """Return the function from an item that the caller streams."""
        return self._plain(self._signature.item_encoder(self._codec))

    def response(self) -> Callable[[Any], Any]:
        """Return the function to a result, or an item; `DataLoss` where it does not fit."""
        decode, pack = self._signature.response_decoder(self._codec), self._pack
        return lambda value: decode(pack(value))

    def errors(self) -> dict[str, Callable[[Any], Exception]]:
        """Return the functions from its fields to each declared error, by class name."""
        return {
            cls.__name__: self._error(Declared.of(cls))
            for cls in self._declaration.options.raises
        }

    def _error(self, declared: Declared) -> Callable[[Any], Exception]:
        decode, pack = declared.decode[self._codec.name], self._pack
        return lambda fields: decode(pack(fields))

    def _plain(self, encode: Callable[[Any], bytes]) -> Callable[[Any], Any]:
        unpack = self._unpack
        return lambda value: unpack(encode(value))
