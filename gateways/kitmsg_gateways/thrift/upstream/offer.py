"""The methods of a Thrift server as endpoints, by an IDL or by a class.

A method is an endpoint named in snake case; its parameters are the request's fields, and an
exception is an error class of that name.

A result that is a struct with a text ``err`` is Go kit's way to tell of a business error:
the error is raised, and the result is what stands beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK
from kitmsg.errors import BusinessError, DataLoss, FailedPrecondition, KitError
from kitmsg.idl.binding import Names
from kitmsg.idl.naming import snake
from kitmsg.service.described import describe
from kitmsg.transport.replies import Declared
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.decode import Decoders
from kitmsg_gateways.thrift.encode import Encoders
from kitmsg_gateways.thrift.generate import generate, left_out
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.model import EnumType, ListType, MapType, StructType, Wire
from kitmsg_gateways.thrift.upstream.call import SUCCESS, ThriftMethod
from kitmsg_gateways.thrift.upstream.describe import ERR, describe_method, reply_struct
from kitmsg_gateways.upstream.errors import error_class
from kitmsg_gateways.upstream.offers import renamed, shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kitmsg.idl.model import Method as Shape, ServiceShapes
    from kitmsg.service import Service
    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.thrift.convert import Convert
    from kitmsg_gateways.thrift.model import Field, Method, ServiceType, ThriftType

    Rebuild = Callable[[dict[str, Any]], Exception]

__all__ = ["offers_of_class", "offers_of_idl"]

_MESSAGE: Final = "message"
_OWN: Final = frozenset({"args", "code", "retry_after", "request_id", "template"})
_PYTHON: Final[dict[Wire, Any]] = {
    Wire.BOOL: bool,
    Wire.I8: int,
    Wire.I16: int,
    Wire.I32: int,
    Wire.I64: int,
    Wire.DOUBLE: float,
    Wire.STRING: str,
    Wire.STRUCT: dict[str, Any],
}
_codecs: Final = {codec.name: codec for codec in (MSGPACK, JSON)}
_unpack: Final[dict[str, Callable[[bytes], Any]]] = {
    MSGPACK.name: msgspec.msgpack.Decoder().decode,
    JSON.name: msgspec.json.Decoder().decode,
}
_pack: Final[dict[str, Callable[[Any], bytes]]] = {
    MSGPACK.name: msgspec.msgpack.Encoder().encode,
    JSON.name: msgspec.json.Encoder().encode,
}


def offers_of_idl(name: str, service: ServiceType) -> list[ThriftMethod]:
    """Return the methods of a service of an IDL.

    Args:
        name: Of the service on the bus.
        service: Of the IDL.

    Raises:
        ValueError: The name of a method cannot be one on the bus.
    """
    errors: dict[str, type[BusinessError]] = {}
    return [_described(name, each, errors) for each in service.methods.values()]


def _described(
    name: str, method: Method, errors: dict[str, type[BusinessError]]
) -> ThriftMethod:
    request, response = describe_method(method)
    thrown: dict[str, type[BusinessError]] = {}
    for field in method.throws:
        assert isinstance(field.type, StructType)  # noqa: S101  # what is thrown is one
        if field.type.name not in errors:
            errors[field.type.name] = _error(field.type)
        thrown[field.name] = errors[field.type.name]
    declaration = describe(
        name,
        method.alias or snake(method.name),
        request=request,
        response=response,
        raises=tuple(thrown.values()),
    )
    # Bytes are bytes: what comes from the bus was validated against its schema.
    outward, inward = Encoders(None, as_json=False), Decoders(None, as_json=False)
    where = declaration.subject
    beside = reply_struct(method)
    convert = _or_same(inward.any_fields(method.result, where))
    return ThriftMethod(
        declaration,
        method,
        _or_same(outward.any_fields(method.args, where)),
        lambda value: _beside(convert({SUCCESS: value}).get(SUCCESS), beside),
        {
            field.name: _thrown(thrown[field.name], field, convert)
            for field in method.throws
        },
        _no_error if beside is None else _err,
    )


def _beside(value: Any, fields: Sequence[Field] | None) -> Any:
    """Return the result beside ``err``; all of `value` where there is no such field."""
    if fields is None:
        return value
    names = [field.key for field in fields]
    found = {name: value[name] for name in names if name in value}
    return found if len(names) > 1 else next(iter(found.values()), None)


def _err(value: dict[str, Any]) -> Exception | None:
    text = value.get(ERR)
    return FailedPrecondition(text) if text else None


def _no_error(_: Any) -> None:
    return None


def _thrown(
    cls: type[BusinessError], field: Field, convert: Callable[[Any], Any]
) -> Rebuild:
    """Return the function that makes an error of an exception that only an IDL knows."""

    def rebuild(value: dict[str, Any]) -> Exception:
        values = convert({field.name: value})[field.key]
        text = values.pop(_MESSAGE, "")
        known = cls.__annotations__
        named = {n if n in known else f"{n}_": value for n, value in values.items()}
        error = cls(**{n: value for n, value in named.items() if n in known})
        return _with_text(error, text)

    return rebuild


def _with_text(error: Exception, text: Any) -> Exception:
    """Return an error with the text that it came with, if there is one."""
    if isinstance(text, str) and text and isinstance(error, KitError):
        error.message = text
        error.args = (text,)
    return error


def offers_of_class(
    name: str, service: type[Service]
) -> tuple[str, list[ThriftMethod]]:
    """Return the methods that a kitmsg gateway makes of a service, by its class.

    Args:
        name: Of the service here.
        service: Its class; the server's names come from it.

    Returns:
        The service's name in the IDL, and its methods.

    Raises:
        FailedPrecondition: An endpoint has no form in Thrift.
    """
    shapes = shapes_of(service)
    refused = left_out(shapes)
    if refused:
        raise FailedPrecondition("; ".join(refused.values()))
    (declared,) = parse(generate([shapes]), service.name)
    by_name = {shape.endpoint: shape for shape in shapes.methods}
    found = []
    for method in declared.methods.values():
        shape = Names(by_name).find(method.name, method.alias)
        if shape is not None:
            declaration = service.__declarations__[shape.endpoint]
            typed = _Typed(method, shape, shapes, renamed(declaration, name))
            found.append(typed.method())
    return declared.name, found


class _Typed:
    """Binds a method of the generated IDL to the signature of a class's endpoint."""

    def __init__(
        self,
        method: Method,
        shape: Shape,
        shapes: ServiceShapes,
        declaration: Declaration,
    ) -> None:
        self._method = method
        self._shape = shape
        self._shapes = shapes
        self._declaration = declaration
        self._where = declaration.subject
        as_json = shape.codec != MSGPACK.name
        self._inward = Decoders(shapes, as_json=as_json)
        self._outward = Encoders(shapes, as_json=as_json)

    def method(self) -> ThriftMethod:
        """Return the method with the class's own types."""
        declaration, codec = self._declaration, _codecs[self._shape.codec]
        signature, unpack = declaration.signature, _unpack[codec.name]
        encode = signature.request_encoder(codec)
        request = self._shapes.struct(self._shape.request)
        to_args = _or_same(
            self._outward.struct(self._method.args, request.name, self._where)
        )
        return ThriftMethod(
            declaration,
            self._method,
            lambda value: to_args(unpack(encode(value))),
            self._to_result(),
            self._errors(),
        )

    def _to_result(self) -> Callable[[Any], Any]:
        codec = _codecs[self._shape.codec]
        decode = self._declaration.signature.response_decoder(codec)
        pack, where = _pack[codec.name], self._where
        success, response = self._method.success, self._shape.response
        convert: Convert = None
        if success is not None:
            convert = self._inward.value(success, response, f"{where}: the result")
        to_bus = _or_same(convert)

        def read(value: Any) -> Any:
            try:
                return decode(pack(None if value is None else to_bus(value)))
            except (KitError, *DECODE_ERRORS) as exc:
                raise DataLoss(f"{where}: the answer cannot be read: {exc}") from exc

        return read

    def _errors(self) -> dict[str, Rebuild]:
        declared = self._shape.errors
        raises = {cls.__name__: cls for cls in self._declaration.options.raises}
        found: dict[str, Rebuild] = {}
        for field in self._method.throws:
            assert isinstance(field.type, StructType)  # noqa: S101  # it is thrown
            name = Names({each: each for each in declared}).find(
                field.type.name, field.type.alias
            )
            if name is not None:
                struct = self._shapes.struct(declared[name])
                fields = {each.name for each in struct.fields}
                found[field.name] = self._rebuild(
                    raises[name],
                    field.type,
                    struct.name,
                    has_text=_MESSAGE not in fields,
                )
        return found

    def _rebuild(
        self,
        cls: type[Exception],
        type_: StructType,
        struct: str,
        *,
        has_text: bool,
    ) -> Rebuild:
        others = type_.fields
        if has_text:
            others = tuple(each for each in others if each.name != _MESSAGE)
        where = f"{self._where}: {cls.__name__}"
        convert = self._inward.struct(replace(type_, fields=others), struct, where)
        codec, to_bus = self._shape.codec, _or_same(convert)
        decode, pack = Declared.of(cls).decode[codec], _pack[codec]

        def rebuild(value: dict[str, Any]) -> Exception:
            text = value.pop(_MESSAGE, "") if has_text else ""
            return _with_text(decode(pack(to_bus(value))), text)

        return rebuild


def _or_same(convert: Convert) -> Callable[[Any], Any]:
    return (lambda value: value) if convert is None else convert


def _error(type_: StructType) -> type[BusinessError]:
    """Return the class that stands for an exception; its message is no field."""
    hints: dict[str, Any] = {}
    for field in type_.fields:
        if field.name != _MESSAGE:
            name = f"{field.name}_" if field.name in _OWN else field.name
            hints[name] = _python(field.type) | None
    return error_class(
        type_.alias or type_.name,
        hints,
        defaults=dict.fromkeys(hints),
        doc=f"The server raised {type_.name}.",
    )


def _python(type_: ThriftType) -> Any:
    if isinstance(type_, ListType):
        return list[_python(type_.item)]  # type: ignore[misc]  # made at run time
    if isinstance(type_, MapType):
        return dict[str, _python(type_.value)]  # type: ignore[misc]  # as above
    if isinstance(type_, EnumType):
        return str
    return bytes if type_ is model.BINARY else _PYTHON[type_.wire]
