"""Path, query, header and body parameters to the one object that an endpoint takes.

A POST without parameters in path, query or headers is not decoded here: its bytes go on as
they came, and the service checks them.  Parameters are text; the endpoint's JSON Schema says
what they become (`kitmsg.schema.texts`).  What stays unknown here is left for the service to
refuse.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from kitmsg.codec import DECODE_ERRORS, RAW, Codec, translate
from kitmsg.errors import InvalidArgument
from kitmsg.schema.places import HEADER_KEY, is_free_header
from kitmsg.schema.pointers import alternatives, resolve
from kitmsg.schema.texts import single, text_reader

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["Parameters"]

Schema: TypeAlias = Mapping[str, Any]

_MAX_PARAMETERS: Final = 256
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")
_ENCODE: Final = {"json": msgspec.json.encode, "msgpack": msgspec.msgpack.encode}
# Fields of the body stay the bytes they are; only their names are looked at.
_FIELDS: Final = {
    "json": msgspec.json.Decoder(dict[str, msgspec.Raw]).decode,
    "msgpack": msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode,
}


class Parameters:
    """Reads one endpoint's parameters from path, query, headers and body.

    Args:
        schema: JSON Schema of its request; None if unknown, so that parameters stay text.

    Attributes:
        properties: Schemas of the fields.
        headers: Names of the headers that some fields come from, by field.
        is_closed: Whether other fields are refused.
    """

    def __init__(self, schema: Schema | None) -> None:
        root = schema or {}
        top = resolve(root, root)
        self.properties: dict[str, Schema] = dict(top.get("properties", {}))
        self.headers = {
            name: property_[HEADER_KEY]
            for name, property_ in self.properties.items()
            if is_free_header(_header_of(property_))
        }
        self._required = frozenset(map(str, top.get("required", ())))
        self.is_closed = top.get("additionalProperties") is False
        kinds = {n: alternatives(each, root) for n, each in self.properties.items()}
        self._bytes = [
            n for n, some in kinds.items() if any("contentEncoding" in k for k in some)
        ]
        self._lists = {
            n
            for n, some in kinds.items()
            if any(k.get("type") == "array" for k in some)
        }
        self._readers = {
            n: text_reader(each, root) for n, each in self.properties.items()
        }

    def build(
        self,
        path: Mapping[str, str],
        query: str,
        body: bytes,
        codec: Codec,
        headers: MultiMapping[str] | None = None,
    ) -> bytes:
        """Return the request, encoded.

        Args:
            path: Parameters from the path, decoded.
            query: The query as it was sent.
            body: The body; b"" for none.
            codec: How body and request are encoded; with RAW the body is the one parameter
                of bytes, and the request is in msgpack.
            headers: Of the HTTP request; None for none.

        Raises:
            InvalidArgument: A parameter does not fit, came twice or is unknown, a header
                is missing, the body is no object, or what its bytes are is not known; the
                field is named.
        """
        values = self._values(path, query)
        if self.headers:
            values.update(self._from_headers(headers))
        if codec is RAW:
            values[self._bytes_parameter(values)] = body
            return msgspec.msgpack.encode(values)
        if body:
            for name, raw in _fields(body, codec).items():
                if name in self.headers:
                    raise self._misplaced(name)
                if name in values:
                    raise InvalidArgument(
                        f"{name!r} is in the body and also in the path or query",
                        field=name,
                    )
                values[name] = raw
        return _ENCODE[codec.name](values)

    @property
    def takes_bytes(self) -> bool:
        """Whether a body of bytes, be it empty, is a parameter that the request needs."""
        is_only = len(self.properties) == len(self._bytes) == 1
        return is_only or not self._required.isdisjoint(self._bytes)

    def _bytes_parameter(self, values: Mapping[str, Any]) -> str:
        left = [name for name in self._bytes if name not in values]
        if len(left) != 1:
            several = f"several: {', '.join(left)}" if left else "none here"
            raise InvalidArgument(
                "application/octet-stream is the one parameter of bytes; there are"
                f" {several}; send a JSON or msgpack body"
            )
        return left[0]

    def _values(self, path: Mapping[str, str], query: str) -> dict[str, Any]:
        given: dict[str, list[str]] = {}
        for name, value in _pairs(query):
            if name in path:
                raise InvalidArgument(
                    f"{name!r} is in the path and also in the query", field=name
                )
            given.setdefault(name, []).append(value)
        given.update({name: [value] for name, value in path.items()})
        return {name: self._value(name, texts) for name, texts in given.items()}

    def _from_headers(self, headers: MultiMapping[str] | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, header in self.headers.items():
            texts = headers.getall(header, []) if headers is not None else []
            if texts:
                found[name] = self._from_header(name, header, texts)
            elif name in self._required:
                raise InvalidArgument(f"header {header} is missing", field=header)
        return found

    def _from_header(self, name: str, header: str, texts: list[str]) -> Any:
        if not all(_PRINTABLE.fullmatch(text) for text in texts):
            raise InvalidArgument(
                f"header {header} must be printable ASCII", field=header
            )
        if name in self._lists:
            texts = [part.strip() for text in texts for part in text.split(",")]
        try:
            return self._readers[name](header, texts)
        except InvalidArgument as exc:
            text = str(exc).replace("parameter", "header", 1)
            raise InvalidArgument(text, field=header) from exc

    def _misplaced(self, name: str) -> InvalidArgument:
        header = self.headers[name]
        return InvalidArgument(
            f"{name!r} is taken from the header {header}, and from nowhere else",
            field=name,
        )

    def _value(self, name: str, texts: list[str]) -> Any:
        if name in self.headers:
            raise self._misplaced(name)
        reader = self._readers.get(name)
        if reader is not None:
            return reader(name, texts)
        if self.is_closed:
            raise InvalidArgument(
                f"unknown parameter {name!r}{self._near(name)}", field=name
            )
        return single(name, texts)

    def _near(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.properties, n=1)
        if near:
            return f"; did you mean {near[0]!r}?"
        known = ", ".join(self.properties)
        return f"; it takes {known}" if known else "; it takes none"


def _header_of(property_: Any) -> str:
    named = property_.get(HEADER_KEY) if isinstance(property_, Mapping) else None
    return named if isinstance(named, str) else ""


def _pairs(query: str) -> list[tuple[str, str]]:
    if not query:
        return []
    try:
        return parse_qsl(
            query,
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except UnicodeDecodeError:
        raise InvalidArgument("the query is not UTF-8, percent-encoded") from None
    except ValueError:
        raise InvalidArgument(
            f"more than {_MAX_PARAMETERS} query parameters; send a body"
        ) from None


def _fields(body: bytes, codec: Codec) -> dict[str, msgspec.Raw]:
    try:
        return _FIELDS[codec.name](body)
    except DECODE_ERRORS as exc:
        raise translate(exc, codec.name) from exc
