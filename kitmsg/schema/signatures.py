"""Signatures of endpoints: request and response types, with their decoders and encoders.

Decoders and encoders are built once for each codec.  What they return is the hot path:
flat on purpose.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec.inspect as mi

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    RAW,
    Codec,
    refusal,
    request_encoder,
    response_decoder,
    translate,
)
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.schema import jsonschema, types, validate
from kitmsg.schema.calls import Adapter, Shape, StreamRequest, adapt
from kitmsg.schema.defaults import filled
from kitmsg.schema.integers import with_integers
from kitmsg.schema.results import result_encoder
from kitmsg.wire import CONTENT_TYPE

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable

__all__ = ["Signature", "UnknownFields", "where_of"]

UnknownFields: TypeAlias = Literal["forbid", "ignore"]


def where_of(owner: str, name: str) -> str:
    """Return ``Owner.method``, or the name of a function without an owner."""
    return f"{owner}.{name}" if owner else name


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """Request and response types of an endpoint.

    Attributes:
        owner: Name of the service class, for messages.
        name: Name of the method.
        doc: First paragraph of its docstring; "" for none.
        request: Type of the request; a generated Struct unless `is_single`.
        response: Type of the response, as annotated.
        parameters: Names of the parameters that are in the request, in order.
        is_async: Whether the method is a coroutine function.
        is_single: Whether the one parameter is the request itself.
        context_parameter: Name of the parameter that takes the context; "" for none.
        keyword_only: Whether the method has parameters that must be passed by name.
        unknown_fields: Whether a request may have fields that nobody declared.
        item: Type of the items that the caller streams; None for none.
        gives_items: Whether it answers with a stream; `response` is its item then.
    """

    owner: str
    name: str
    doc: str
    request: Any
    response: Any
    parameters: tuple[str, ...]
    is_async: bool
    is_single: bool
    context_parameter: str
    keyword_only: bool
    unknown_fields: UnknownFields
    _python: inspect.Signature = dataclasses.field(repr=False)
    _shape: Shape = dataclasses.field(repr=False)
    item: Any = None
    gives_items: bool = False

    @property
    def where(self) -> str:
        """``Owner.method``, as messages have it."""
        return where_of(self.owner, self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all parameters but the context: those of the request, and `items`."""
        items = self._shape.items
        return (*self.parameters, items) if items else self.parameters

    @property
    def takes_items(self) -> bool:
        """Whether the caller streams items to it."""
        return self.item is not None

    @property
    def stream(self) -> str:
        """``out``, ``in`` or ``both`` where items are streamed; "" for a plain call."""
        if self.takes_items:
            return "both" if self.gives_items else "in"
        return "out" if self.gives_items else ""

    def bind_stream(self, *args: Any, **kwargs: Any) -> StreamRequest:
        """Return what a call with these arguments streams, beside its request.

        Raises:
            TypeError: The arguments do not fit the parameters.
        """
        items = None
        if self._shape.items:
            args, kwargs, items = self._without_items(args, kwargs)
        return StreamRequest(self.bind(*args, **kwargs), items)

    def _without_items(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        name = self._shape.items
        positional = [item for item in args if isinstance(item, AsyncIterable)]
        if len(positional) + (name in kwargs) != 1:
            raise TypeError(
                f"{self.where}() takes an asynchronous iterator as {name!r}"
            )
        items = kwargs.pop(name) if name in kwargs else positional[0]
        if not isinstance(items, AsyncIterable):
            raise TypeError(
                f"{self.where}(): {name!r} must be an asynchronous iterator, not"
                f" {types.spell(type(items))}"
            )
        return tuple(arg for arg in args if arg is not items), kwargs, items

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Return the request for a call with these arguments.

        The context parameter is not one of them, and a `Context` that is passed is left
        out: the caller's own is sent.  Types are not checked here: the
        service does that.

        Raises:
            TypeError: The arguments do not fit the parameters, as in a local call.
        """
        if self.context_parameter:
            args, kwargs = self._without_context(args, kwargs)
        if self.is_single or self.keyword_only:
            return self._bind_slowly(args, kwargs)
        try:
            return self.request(*args, **kwargs)
        except TypeError:
            self._bind_slowly(args, kwargs)
            raise

    @property
    def quick_bind(self) -> Callable[..., Any] | None:
        """The one step that `bind` is for most shapes; None for the others.

        Its `TypeError` names no parameters; that of `bind` does.
        """
        is_odd = self.context_parameter or self.is_single or self.keyword_only
        return None if is_odd or self.stream else self.request

    def _without_context(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        from kitmsg.context import Context

        kwargs.pop(self.context_parameter, None)
        return tuple(arg for arg in args if not isinstance(arg, Context)), kwargs

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            bound = self._python.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.where}() {error}") from None
        if not self.is_single:
            return self.request(**bound.arguments)
        bound.apply_defaults()
        request = bound.arguments[self.parameters[0]]
        if isinstance(self.request, type) and not isinstance(request, self.request):
            wanted, given = self.request.__name__, type(request).__name__
            raise TypeError(f"{self.where}() takes a {wanted}, not a {given}")
        return request

    def adapter(self, method: Callable[..., Any]) -> Adapter:
        """Return a function from context and request to the awaited result of `method`.

        A plain ``def`` runs in the event loop's thread pool, with the context variables
        of the caller.

        Args:
            method: The method, bound to its instance.
        """
        return adapt(method, self._shape)

    def request_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from a request's bytes to the request, built once.

        It raises `InvalidArgument`, naming the field, for anything that does not fit.
        An empty body is an empty map.
        """
        if codec.name == "raw":
            return self._raw_request_decoder()
        decode = filled(codec.decoder(self.request), self._info)
        check = validate.compile_check(
            self._info, forbid_unknown=self.unknown_fields == "forbid"
        )
        if check is None:
            return _guarded(decode, self._retry(codec.name, decode), codec.name)
        return _checked(decode, check, self._retry(codec.name, decode), codec.name)

    def request_encoder(self, codec: Codec) -> Callable[[Any], bytes]:
        """Return a function from a request to its bytes, built once.

        It raises `TypeError` or `ValueError`, naming the type, for a value that has no
        form on the wire.
        """
        if codec.name == "raw" and self._is_blob and not self.is_single:
            return _writer(attrgetter(self.parameters[0]), self.request)
        return _writer(request_encoder(codec, self.request), self.request)

    def item_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from bytes to an item that the caller streams.

        It raises `InvalidArgument`, naming the field, for anything that does not fit.
        """
        info = mi.type_info(self.item)
        decode = filled(codec.decoder(self.item), info)
        describe = functools.partial(validate.choices_at, info)

        def fail(_: bytes, error: BaseException) -> Any:
            raise translate(error, codec.name, describe) from error

        forbids = self.unknown_fields == "forbid"
        check = validate.compile_check(info, forbid_unknown=forbids)
        if check is None or codec.name == "raw":
            return _guarded(decode, fail, codec.name)
        return _checked(decode, check, fail, codec.name)

    def item_encoder(self, codec: Codec) -> Callable[[Any], bytes]:
        """Return a function from an item that the caller streams to its bytes."""
        return _writer(request_encoder(codec, self.item), self.item)

    def response_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from a reply's bytes to the response, built once.

        Fields it does not know are ignored, so that services may grow, unless a class
        in the response forbids them itself.  It raises `DataLoss` for anything that
        does not fit.
        """
        info = mi.type_info(self.response)
        decode = filled(response_decoder(codec, self.response), info)
        what = types.spell(self.response)
        describe = functools.partial(validate.choices_at, info)

        def fail(_: bytes, error: BaseException) -> Any:
            problem = translate(error, codec.name, describe)
            raise DataLoss(f"the reply does not fit {what}: {problem}") from error

        return _guarded(decode, fail, codec.name)

    def response_encoder(self, codec: Codec) -> Callable[[Any], bytes]:
        """Return a function from a response to its bytes, built once.

        It raises `TypeError` or `ValueError`, naming the field, for a value that does not
        fit the annotation or has no form on the wire.

        Raises:
            TypeError: The codec is raw and the response is not bytes.
        """
        return result_encoder(codec, self.response)

    @functools.cached_property
    def _info(self) -> mi.Type:
        return mi.type_info(self.request)

    @property
    def _is_blob(self) -> bool:
        """Whether the whole request is one parameter of bytes."""
        fields: tuple[Any, ...] = getattr(self._info, "fields", ())
        return len(fields) == 1 and isinstance(fields[0].type, mi.BytesType)

    def _raw_request_decoder(self) -> Callable[[bytes], Any]:
        if self._is_blob and not self.is_single:
            make: Callable[[bytes], Any] = self.request
            return make
        fields = ", ".join(self.parameters)

        def refuse(_: bytes) -> Any:
            raise InvalidArgument(
                f"{RAW.content_type} carries bytes only, and {self.where} takes"
                f" ({fields}); use application/json or application/msgpack",
                field=CONTENT_TYPE,
            )

        return refuse

    def _retry(
        self, codec_name: str, decode: Callable[[bytes], Any]
    ) -> Callable[[bytes, BaseException], Any]:
        """Return what happens to a body that did not decode."""
        empty = b"{}" if codec_name == "json" else b"\x80"
        describe = functools.partial(validate.choices_at, self._info)

        def retry(data: bytes, error: BaseException) -> Any:
            if data:
                raise translate(error, codec_name, describe) from error
            try:
                return decode(empty)
            except DECODE_ERRORS as missing:
                raise translate(missing, codec_name, describe) from missing

        return retry

    def request_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the request."""
        return self._schemas[0]

    def response_schema(self) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of the response."""
        return self._schemas[1]

    @functools.cached_property
    def _schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        request = jsonschema.json_schema(self.request, "validation")
        if self.unknown_fields == "forbid":
            request = jsonschema.closed(request)
        return request, jsonschema.json_schema(self.response)

    @functools.cached_property
    def schema_hash(self) -> str:
        """16 hexadecimal digits that change when the request or the response does."""
        extra = [{"stream": self.stream, **self._items_schema}] if self.stream else []
        return jsonschema.digest(*self._schemas, *extra)

    @functools.cached_property
    def _items_schema(self) -> dict[str, Any]:
        if not self.takes_items:
            return {}
        items = jsonschema.json_schema(self.item, "validation")
        return {
            "items": jsonschema.closed(items)
            if self.unknown_fields == "forbid"
            else items
        }

    def describe(self) -> dict[str, Any]:
        """Return both schemas and their hash: ``request``, ``response``, ``hash``.

        Where items are streamed, ``stream`` says which way, ``response`` is the schema of
        what comes out and ``items`` of what goes in.
        """
        request, response = self._schemas
        found = {"request": request, "response": response, **self._items_schema}
        if self.stream:
            found["stream"] = self.stream
        return {**found, "hash": self.schema_hash}


def _guarded(
    decode: Callable[[bytes], Any],
    fail: Callable[[bytes, BaseException], Any],
    codec: str,
) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DECODE_ERRORS as error:
            again = with_integers(data, codec, error)
            return fail(data, error) if again is None else read(again)

    read.__wrapped__ = decode  # type: ignore[attr-defined]
    return read


def _checked(
    decode: Callable[[bytes], Any],
    check: validate.Check,
    fail: Callable[[bytes, BaseException], Any],
    codec: str,
) -> Callable[[bytes], Any]:
    untyped = validate.untyped(codec)

    def read(data: bytes) -> Any:
        try:
            request = decode(data)
            fault = check(untyped(data))
        except DECODE_ERRORS as error:
            again = with_integers(data, codec, error)
            return fail(data, error) if again is None else read(again)
        if fault is not None:
            raise refusal(fault.path, fault.problem)
        return request

    return read


def _writer(encode: Callable[[Any], bytes], type_: Any) -> Callable[[Any], bytes]:
    what = types.spell(type_)

    def write(value: Any) -> bytes:
        try:
            return encode(value)
        except ENCODE_ERRORS as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            actual = types.spell(type(value))
            raise kind(f"cannot encode {actual} as {what}: {error}") from error

    write.__wrapped__ = encode  # type: ignore[attr-defined]
    return write


def unguarded(coder: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return what a coder of a `Signature` tries first, or the coder if that is all of it.

    Where it fails, with an error of any kind, the coder itself says what is wrong.
    """
    return getattr(coder, "__wrapped__", coder)
