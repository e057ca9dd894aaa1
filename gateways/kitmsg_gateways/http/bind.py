"""Path, query, header and body parameters to the one object that an endpoint takes.

A POST without parameters in path, query or headers is not decoded here: its bytes go on as
they came, and the service checks them.  Parameters are text; the endpoint's JSON Schema says
what they become.  What stays unknown here is left for the service to refuse.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, Codec, translate
from kitmsg.errors import InvalidArgument
from kitmsg.schema.places import HEADER_KEY, is_free_header
from kitmsg.schema.pointers import alternatives, resolve

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["Parameters"]

Schema: TypeAlias = Mapping[str, Any]

_Convert: TypeAlias = Callable[[str], Any]

_MAX_PARAMETERS: Final = 256
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]*")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
# From the strictest to the one that takes any text.
_ORDER: Final = ("null", "boolean", "integer", "number", "object", "string")
_SPELLED: Final = frozenset({"boolean", "integer", "number"})
_EXPECTED: Final = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "object": "a JSON object",
    "null": "null",
}
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
        self._bytes = [
            name
            for name, property_ in self.properties.items()
            if any("contentEncoding" in k for k in alternatives(property_, root))
        ]
        self._readers = {
            name: _reader(property_, root)
            for name, property_ in self.properties.items()
        }
        self._lists = {
            name
            for name, property_ in self.properties.items()
            if any(k.get("type") == "array" for k in alternatives(property_, root))
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
            codec: How body and request are encoded; JSON or msgpack.
            headers: Of the HTTP request; None for none.

        Raises:
            InvalidArgument: A parameter does not fit, came twice or is unknown, a header
                is missing, or the body is no object; the field is named.
        """
        values = self._outside(path, query, headers)
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

    def build_raw(
        self,
        path: Mapping[str, str],
        query: str,
        body: bytes,
        headers: MultiMapping[str],
    ) -> bytes:
        """Return the request in msgpack, whose one parameter of bytes is the body.

        Args:
            path: Parameters from the path, decoded.
            query: The query as it was sent.
            body: The bytes.
            headers: Of the HTTP request.

        Raises:
            InvalidArgument: A parameter does not fit, or what the bytes are is not known.
        """
        values = self._outside(path, query, headers)
        left = [name for name in self._bytes if name not in values]
        if len(left) != 1:
            several = f"several: {', '.join(left)}" if left else "none here"
            raise InvalidArgument(
                "application/octet-stream is the one parameter of bytes; there are"
                f" {several}; send a JSON or msgpack body"
            )
        values[left[0]] = body
        return msgspec.msgpack.encode(values)

    def _outside(
        self, path: Mapping[str, str], query: str, headers: MultiMapping[str] | None
    ) -> dict[str, Any]:
        """Return the fields that are not in the body."""
        values = self._values(path, query)
        if self.headers:
            values.update(self._from_headers(headers))
        return values

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
        return _single(name, texts)

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


def _single(name: str, texts: list[str]) -> str:
    if len(texts) > 1:
        raise InvalidArgument(f"{name!r} came more than once", field=name)
    return texts[0]


def _reader(schema: Schema, root: Schema) -> Callable[[str, list[str]], Any]:
    """Return a function from a parameter's name and texts to its value."""
    kinds = alternatives(schema, root)
    arrays = [kind for kind in kinds if kind.get("type") == "array"]
    if arrays:
        return _array_reader(_scalar(resolve(arrays[0].get("items", {}), root), root))
    convert = _scalar(schema, root)

    def read(name: str, texts: list[str]) -> Any:
        return _converted(convert, name, _single(name, texts))

    return read


def _array_reader(convert: _Convert) -> Callable[[str, list[str]], Any]:
    def read(name: str, texts: list[str]) -> Any:
        return [
            _converted(convert, f"{name}[{at}]" if len(texts) > 1 else name, text)
            for at, text in enumerate(texts)
        ]

    return read


def _converted(convert: _Convert, name: str, text: str) -> Any:
    try:
        return convert(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"parameter {name!r} must be {exc}, not {text[:80]!r}", field=name
        ) from None


def _scalar(schema: Schema, root: Schema) -> _Convert:
    """Return a function from text to a value.

    It raises `ValueError` with what was expected.
    """
    kinds = alternatives(schema, root)
    chosen = [value for kind in kinds for value in _values_of(kind)]
    types = {t for kind in kinds if not _values_of(kind) for t in _types(kind)}
    is_text = "string" in types
    steps = [
        _spelled_so(_CONVERT[name]) if is_text and name in _SPELLED else _CONVERT[name]
        for name in _ORDER
        if name in types
    ]
    if chosen:
        pick = _choice(chosen, nullable="null" in types)
        if not types - {"null"}:
            return pick
        steps.insert(0, pick)
    if not steps:
        return str
    expected = " or ".join(_EXPECTED[t] for t in _ORDER if t in types & {*_EXPECTED})

    def convert(text: str) -> Any:
        for step in steps:
            try:
                return step(text)
            except ValueError:
                continue
        raise ValueError(expected)

    return convert


def _values_of(kind: Schema) -> list[Any]:
    """Return the only values that a schema allows; none if it does not say."""
    return [*kind.get("enum", ()), *((kind["const"],) if "const" in kind else ())]


def _types(kind: Schema) -> list[str]:
    named = kind.get("type", [])
    return [named] if isinstance(named, str) else list(named)


def _choice(values: list[Any], *, nullable: bool) -> _Convert:
    by_text = {v if isinstance(v, str) else _spelled(v): v for v in values}
    if nullable:
        by_text.setdefault("null", None)
    expected = "one of " + ", ".join(by_text)

    def convert(text: str) -> Any:
        if text not in by_text:
            raise ValueError(expected)
        return by_text[text]

    return convert


def _spelled(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _spelled_so(convert: _Convert) -> _Convert:
    """Return `convert` for text that is the value's own spelling, and no other.

    Where text fits too, ``007``, ``+49`` and ``1.10`` are text.
    """

    def exactly(text: str) -> Any:
        value = convert(text)
        if _spelled(value) != text:
            raise ValueError
        return value

    return exactly


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text)


def _number(text: str) -> float | int:
    if _INTEGER.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError from None


def _null(text: str) -> None:
    if text != "null":
        raise ValueError


def _object(text: str) -> msgspec.Raw:
    try:
        _fields(text.encode(), JSON)
    except InvalidArgument as exc:
        raise ValueError from exc
    return msgspec.json.decode(text)  # type: ignore[no-any-return]


_CONVERT: Final[dict[str, _Convert]] = {
    "null": _null,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "object": _object,
    "string": str,
}
