"""The methods of a Thrift server as endpoints, by an IDL or by a class.

A method is an endpoint named in snake case; its parameters are the request's fields, and an
exception is an error class of that name.

A result that is a struct with a text ``err`` is Go kit's way to tell of a business error:
the error is raised, and the result is what stands beside it.
"""

from __future__ import annotations

from dataclasses import replace
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, Final

from kitmsg.codec import MSGPACK
from kitmsg.errors import FailedPrecondition, KitError
from kitmsg.idl.binding import Names
from kitmsg.idl.naming import snake
from kitmsg.schema.errorclass import error_class
from kitmsg.service.described import describe
from kitmsg_gateways.thrift.bind import arguments
from kitmsg_gateways.thrift.convert import Convert, or_same
from kitmsg_gateways.thrift.decode import Decoders
from kitmsg_gateways.thrift.encode import Encoders
from kitmsg_gateways.thrift.generate import generate, left_out
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.model import StructType
from kitmsg_gateways.thrift.upstream.call import SUCCESS, ThriftMethod
from kitmsg_gateways.thrift.upstream.describe import (
    ERR,
    describe_method,
    nullable,
    reply_struct,
)
from kitmsg_gateways.upstream.offers import renamed, shapes_of
from kitmsg_gateways.upstream.typed import Typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kitmsg.errors import BusinessError
    from kitmsg.idl.model import Method as Shape, ServiceShapes
    from kitmsg.service import Service
    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.thrift.model import Field, Method, ServiceType

    Rebuild = Callable[[dict[str, Any]], Exception]

__all__ = ["offers_of_class", "offers_of_idl"]

_MESSAGE: Final = "message"
_OWN: Final = frozenset({"args", "code", "retry_after", "request_id", "template"})


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
    encoders, decoders = Encoders(None, as_json=False), Decoders(None, as_json=False)
    where = declaration.subject
    beside = reply_struct(method)
    convert = or_same(decoders.any_fields(method.result, where))
    return ThriftMethod(
        declaration,
        method,
        or_same(encoders.any_fields(method.args, where)),
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
    shapes = shapes_of(service.name, service.__declarations__.values())
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
            found.append(_typed(method, shape, shapes, renamed(declaration, name)))
    return declared.name, found


def _typed(
    method: Method, shape: Shape, shapes: ServiceShapes, declaration: Declaration
) -> ThriftMethod:
    """Bind a method of the generated IDL to the signature of a class's endpoint."""
    where, as_json = declaration.subject, shape.codec != MSGPACK.name
    decoders = Decoders(shapes, as_json=as_json)
    encoders = Encoders(shapes, as_json=as_json)
    request = shapes.struct(shape.request)
    to_args = arguments(method.args, request, encoders, where)
    to_bus = or_same(None)
    if method.success is not None:
        found = decoders.value(method.success, shape.response, f"{where}: the result")
        to_bus = or_same(found)
    typed = Typed(declaration, shape.codec)
    encode, decode, errors = typed.request(), typed.response(), typed.errors()
    return ThriftMethod(
        declaration,
        method,
        lambda value: to_args(encode(value)),
        lambda value: decode(None if value is None else to_bus(value)),
        {
            field.name: _rebuilt(errors[name], decoders.struct(bare, struct, where))
            for field, name, bare, struct in _exceptions(method, shape, shapes)
        },
    )


def _exceptions(
    method: Method, shape: Shape, shapes: ServiceShapes
) -> Iterator[tuple[Field, str, StructType, str]]:
    """Yield each exception: its field, error class, type without text, and struct."""
    for field in method.throws:
        type_ = field.type
        assert isinstance(type_, StructType)  # noqa: S101  # what is thrown is one
        name = Names({n: n for n in shape.errors}).find(type_.name, type_.alias)
        if name is None:
            continue
        struct = shapes.struct(shape.errors[name])
        own = {each.name for each in struct.fields}
        fields = [f for f in type_.fields if f.name != _MESSAGE or _MESSAGE in own]
        yield field, name, replace(type_, fields=tuple(fields)), struct.name


def _rebuilt(error: Rebuild, convert: Convert) -> Rebuild:
    to_bus = or_same(convert)
    return lambda value: _with_text(error(to_bus(value)), value.get(_MESSAGE))


def _error(type_: StructType) -> type[BusinessError]:
    """Return the class that stands for an exception; its message is no field."""
    fields = {
        f"{f.name}_" if f.name in _OWN or iskeyword(f.name) else f.name: nullable(f)
        for f in type_.fields
        if f.name != _MESSAGE
    }
    name, doc = type_.alias or type_.name, f"The server raised {type_.name}."
    made = error_class(name, {"properties": fields}, doc=doc)
    made = made or error_class(f"{name}Error", {}, doc=doc)
    assert made is not None  # noqa: S101  # an IDL's names are identifiers
    return made
