"""From a method's signature to the request and response of an endpoint.

`signature` reads it once, when the class is defined, and refuses what cannot
travel. Everything a call needs is then built by `Signature`: decoders, encoders, and
the adapter between a request and a call of the method.

The hot path is what `adapter`, `request_decoder` and the encoders return; it is flat on
purpose.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import inspect
from collections.abc import Awaitable, Callable
from copy import deepcopy
from operator import attrgetter
from typing import Any, Literal, TypeAlias, get_args, get_origin

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    RAW,
    Codec,
    is_pydantic,
    refusal,
    translate,
)
from kitmsg.errors import DataLoss, InvalidArgument
from kitmsg.schema import jsonschema, strict, types

__all__ = ["Adapter", "Signature", "signature"]

Adapter: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
"""Takes the context and the request; runs the method."""

UnknownFields: TypeAlias = Literal["forbid", "ignore"]

_EMPTY = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True, eq=False)
class Signature:
    """What an endpoint takes and gives.

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
        keyword_only: Whether some of `parameters` must be passed by name.
        unknown_fields: Whether a request may have fields that nobody declared.
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

    @property
    def where(self) -> str:
        """``Owner.method``, as messages have it."""
        return _where(self.owner, self.name)

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Return the request for a call with these arguments.

        The context parameter is not one of them.  Types are not checked here: the
        service does that.

        Raises:
            TypeError: The arguments do not fit the parameters, as in a local call.
        """
        if self.is_single or self.keyword_only:
            return self._bind_slowly(args, kwargs)
        try:
            return self.request(*args, **kwargs)
        except TypeError:
            self._bind_slowly(args, kwargs)
            raise

    def _bind_slowly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            bound = self._python.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.where}() {error}") from None
        if not self.is_single:
            return self.request(**bound.arguments)
        bound.apply_defaults()
        return bound.arguments[self.parameters[0]]

    def adapter(self, method: Callable[..., Any]) -> Adapter:
        """Return a function from context and request to the awaited result of `method`.

        A plain ``def`` runs in the event loop's thread pool, with the context variables
        of the caller.

        Args:
            method: The method, bound to its instance.
        """
        call = _unpacked(method, self)
        return call if self.is_async else _threaded(call)

    def request_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from a request's bytes to the request, built once.

        It raises `InvalidArgument`, naming the field, for anything that does not fit.
        An empty body is an empty map.
        """
        if codec.name == "raw":
            return self._raw_request_decoder()
        decode = codec.decoder(self.request)
        check = strict.compile_check(
            self._info, forbid_unknown=self.unknown_fields == "forbid"
        )
        if check is None:
            return _guarded(decode, self._retry(codec.name, decode))
        return _checked(
            decode, check, strict.untyped(codec.name), self._retry(codec.name, decode)
        )

    def request_encoder(self, codec: Codec) -> Callable[[Any], bytes]:
        """Return a function from a request to its bytes, built once.

        It raises `TypeError` or `ValueError`, naming the type, for a value that has no
        form on the wire.
        """
        if codec.name == "raw" and self._is_blob and not self.is_single:
            return _writer(attrgetter(self.parameters[0]), self.request)
        return _writer(codec.encoder(self.request), self.request)

    def response_decoder(self, codec: Codec) -> Callable[[bytes], Any]:
        """Return a function from a reply's bytes to the response, built once.

        Fields it does not know are ignored, so that services may grow, unless a class
        in the response forbids them itself.  It raises `DataLoss` for anything that
        does not fit.
        """
        decode = codec.decoder(self.response)
        what = types.spell(self.response)
        describe = functools.partial(strict.choices_at, mi.type_info(self.response))

        def fail(_: bytes, error: BaseException) -> Any:
            problem = translate(error, codec.name, describe)
            raise DataLoss(f"the reply does not fit {what}: {problem}") from error

        return _guarded(decode, fail)

    def response_encoder(self, codec: Codec) -> Callable[[Any], bytes]:
        """Return a function from a response to its bytes, built once.

        It does not check that the value is of the annotated type: that is a type
        checker's work, and would cost as much as the encoding.  It raises `TypeError`
        or `ValueError`, naming the type, for a value that has no form on the wire.

        Raises:
            TypeError: The codec is raw and the response is not bytes.
        """
        return _writer(codec.encoder(self.response), self.response)

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
                field="Content-Type",
            )

        return refuse

    def _retry(
        self, codec_name: str, decode: Callable[[bytes], Any]
    ) -> Callable[[bytes, BaseException], Any]:
        """Return what happens to a body that did not decode."""
        empty = b"{}" if codec_name == "json" else b"\x80"
        describe = functools.partial(strict.choices_at, self._info)

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
        return (
            jsonschema.json_schema(self.request),
            jsonschema.json_schema(self.response),
        )

    @functools.cached_property
    def schema_hash(self) -> str:
        """16 hexadecimal digits that change when the request or the response does."""
        return jsonschema.digest(*self._schemas)

    def describe(self) -> dict[str, Any]:
        """Return both schemas and their hash: ``request``, ``response``, ``hash``."""
        request, response = self._schemas
        return {"request": request, "response": response, "hash": self.schema_hash}


def _guarded(
    decode: Callable[[bytes], Any], fail: Callable[[bytes, BaseException], Any]
) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DECODE_ERRORS as error:
            return fail(data, error)

    return read


def _checked(
    decode: Callable[[bytes], Any],
    check: strict.Check,
    untyped: Callable[[bytes], Any],
    fail: Callable[[bytes, BaseException], Any],
) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        try:
            request = decode(data)
            fault = check(untyped(data))
        except DECODE_ERRORS as error:
            return fail(data, error)
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

    return write


def _unpacked(method: Callable[..., Any], sig: Signature) -> Callable[[Any, Any], Any]:
    """Return `method` as a function of context and request, one closure per shape."""
    if sig.context_parameter or sig.keyword_only:
        return _by_name(method, sig)
    if sig.is_single:
        return lambda _, request: method(request)
    if not sig.parameters:
        return lambda _, request: method()
    get = attrgetter(*sig.parameters)
    if len(sig.parameters) == 1:
        return lambda _, request: method(get(request))
    return lambda _, request: method(*get(request))


def _by_name(method: Callable[..., Any], sig: Signature) -> Callable[[Any, Any], Any]:
    """Return the same for a method that wants the context, or keywords."""
    names, context = sig.parameters, sig.context_parameter

    def arguments(ctx: Any, request: Any) -> dict[str, Any]:
        values = {context: ctx} if context else {}
        if sig.is_single:
            values[names[0]] = request
            return values
        for name in names:
            values[name] = getattr(request, name)
        return values

    return lambda ctx, request: method(**arguments(ctx, request))


def _threaded(call: Callable[[Any, Any], Any]) -> Adapter:
    async def run(ctx: Any, request: Any) -> Any:
        loop = asyncio.get_running_loop()
        copied = contextvars.copy_context()
        return await loop.run_in_executor(None, copied.run, _thread, call, ctx, request)

    return run


def _thread(call: Callable[[Any, Any], Any], ctx: Any, request: Any) -> Any:
    try:
        return call(ctx, request)
    except StopIteration as error:
        # A future cannot hold one: its waiter would never wake.
        raise RuntimeError("the endpoint raised StopIteration") from error


def signature(
    function: Callable[..., Any],
    *,
    owner: str = "",
    skip_self: bool | None = None,
    unknown_fields: UnknownFields = "forbid",
) -> Signature:
    """Return what an endpoint made of `function` takes and gives.

    A single parameter that is a Struct, a dataclass or a pydantic model is the request
    itself; otherwise the parameters form one.  A parameter annotated
    `kitmsg.context.Context` receives the context.

    Args:
        function: A method, bound or not, or a plain function; async or not.
        owner: Name of the class, for messages and type names; "" takes it from
            `function`.
        skip_self: Leave the first parameter out; None finds out.
        unknown_fields: ``ignore`` lets requests have fields that nobody declared.

    Raises:
        TypeError: An annotation is missing or has no wire form, or the kind of a
            parameter or of the function is not supported; the message says which.
    """
    return _Reader(function, owner, skip_self, unknown_fields).read()


def _where(owner: str, name: str) -> str:
    return f"{owner}.{name}" if owner else name


class _Reader:
    """Reads one function."""

    def __init__(
        self,
        function: Callable[..., Any],
        owner: str,
        skip_self: bool | None,
        unknown_fields: UnknownFields,
    ) -> None:
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        qualified = getattr(function, "__qualname__", self.name)
        path = qualified.rpartition("<locals>.")[2].split(".")
        self.owner = owner or (path[-2] if len(path) > 1 else "")
        self.where = _where(self.owner, self.name)
        self.unknown_fields = unknown_fields
        parameters = list(inspect.signature(function).parameters.values())
        if skip_self is None:
            first = parameters[0] if len(path) > 1 and parameters else None
            skip_self = first is not None and first.annotation is _EMPTY
        self.parameters = parameters[1:] if skip_self else parameters

    def read(self) -> Signature:
        self._refuse_streams()
        hints = types.resolve(self.function, self.where)
        context, wire = self._split(hints)
        response = self._response(hints)
        single = len(wire) == 1 and _is_object(hints[wire[0].name])
        python = [p.replace(annotation=_EMPTY) for p in wire]
        return Signature(
            owner=self.owner,
            name=self.name,
            doc=_first_paragraph(self.function),
            request=hints[wire[0].name] if single else self._struct(wire, hints),
            response=response,
            parameters=tuple(p.name for p in wire),
            is_async=inspect.iscoroutinefunction(self.function),
            is_single=single,
            context_parameter=context,
            keyword_only=any(p.kind is p.KEYWORD_ONLY for p in wire),
            unknown_fields=self.unknown_fields,
            _python=inspect.Signature(python),
        )

    def _refuse_streams(self) -> None:
        function = inspect.unwrap(self.function)
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(
            function
        ):
            raise TypeError(f"{self.where}: streaming endpoints are not supported yet")

    def _split(self, hints: dict[str, Any]) -> tuple[str, list[inspect.Parameter]]:
        """Return the name of the context parameter, and those of the request."""
        from kitmsg.context import Context

        context = ""
        wire = []
        for parameter in self.parameters:
            self._check_kind(parameter)
            if parameter.name not in hints:
                raise self._error(parameter.name, "has no type; annotate it")
            if hints[parameter.name] is not Context:
                self._check_type(parameter.name, hints[parameter.name])
                wire.append(parameter)
            elif context:
                raise self._error(parameter.name, "is a second Context; take one")
            else:
                context = parameter.name
        return context, wire

    def _error(self, name: str, problem: str) -> TypeError:
        return TypeError(f"{self.where}: parameter {name!r} {problem}")

    def _check_kind(self, parameter: inspect.Parameter) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self._error(
                parameter.name, "takes any number of values; use a list or a dict"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise self._error(
                parameter.name, "is positional-only; fields go by name: remove the '/'"
            )

    def _check_type(self, name: str, annotation: Any) -> None:
        if types.is_streaming(annotation):
            raise TypeError(f"{self.where}: streaming endpoints are not supported yet")
        types.check(annotation, f"{self.where}: parameter {name!r}")

    def _response(self, hints: dict[str, Any]) -> Any:
        if "return" not in hints:
            raise TypeError(
                f"{self.where}: the result has no type;"
                " annotate it (-> None for nothing)"
            )
        response = hints["return"]
        if types.is_streaming(response):
            raise TypeError(f"{self.where}: streaming endpoints are not supported yet")
        types.check(response, f"{self.where}: the result")
        return response

    def _struct(
        self, wire: list[inspect.Parameter], hints: dict[str, Any]
    ) -> type[msgspec.Struct]:
        """Return a Struct whose fields are the parameters."""
        camel = "".join(word.capitalize() for word in self.name.split("_"))
        doc = _first_paragraph(self.function)
        keywords = any(p.kind is p.KEYWORD_ONLY for p in wire)
        try:
            return msgspec.defstruct(
                f"{self.owner}{camel}Request",
                [_field(p, hints[p.name]) for p in wire],
                module=self.function.__module__,
                namespace={"__doc__": doc} if doc else None,
                forbid_unknown_fields=self.unknown_fields == "forbid",
                kw_only=keywords,
            )
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from error


def _field(parameter: inspect.Parameter, annotation: Any) -> Any:
    """Return a parameter as a field of the generated request."""
    bounded = types.bounded(annotation)
    default = parameter.default
    if default is _EMPTY:
        return parameter.name, bounded
    if not _is_hashable(default) and default not in ([], {}, set()):
        # msgspec copies empty containers itself; any other must not be shared.
        copy = functools.partial(deepcopy, default)
        return parameter.name, bounded, msgspec.field(default_factory=copy)
    return parameter.name, bounded, default


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_object(annotation: Any) -> bool:
    """Tell whether a type is a class of fields that travels as a map."""
    origin = get_origin(annotation) or annotation
    if hasattr(annotation, "__metadata__"):
        return _is_object(get_args(annotation)[0])
    if not isinstance(origin, type):
        return False
    if issubclass(origin, msgspec.Struct):
        return not origin.__struct_config__.array_like
    return dataclasses.is_dataclass(origin) or is_pydantic(origin)


def _first_paragraph(function: Callable[..., Any]) -> str:
    doc = inspect.getdoc(function) or ""
    return " ".join(doc.partition("\n\n")[0].split())
