"""Binds a method of an IDL to an endpoint: how values pass between the two.

An IDL may say a result in a struct of its own, as Go kit's addsvc does: ``SumReply`` with
``value`` and ``err``.  A text field ``err`` (or ``error``) that the service's result has
not is where declared errors go that the method does not throw; a result that is no object
goes into the one other field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.idl.binding import ERROR_FIELDS, Mismatch, Names
from kitmsg.idl.naming import fold
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.convert import Convert, or_same
from kitmsg_gateways.thrift.decode import Decoders
from kitmsg_gateways.thrift.encode import Encoders
from kitmsg_gateways.thrift.model import Field, Method, StructType, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.idl import model as idl_model
    from kitmsg_gateways.thrift.model import ThriftType

__all__ = ["Binding", "MakeError", "arguments", "bind"]

MakeError: TypeAlias = "Callable[[Any, str], dict[str, Any]]"
"""Takes a declared error's fields and text; returns the fields of a method's result."""


_SUCCESS: Final = "success"
_MESSAGE: Final = "message"
_ZEROS: Final[dict[Wire, Any]] = {
    Wire.BOOL: False,
    Wire.I8: 0,
    Wire.I16: 0,
    Wire.I32: 0,
    Wire.I64: 0,
    Wire.DOUBLE: 0.0,
    Wire.LIST: (),
    Wire.SET: (),
    Wire.MAP: {},
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A method of an IDL and its endpoint: how values pass between the two.

    Attributes:
        method: Of the IDL.
        request: From the method's parameters to the request; None where they are it.
        result: From the response to the fields of the method's result.
        errors: By a declared error's name, from its fields and text to the fields of the
            method's result.
        refusal: From the text of a declared error that is not thrown to the fields of the
            method's result; None if there is no place for it.
    """

    method: Method
    request: Convert
    result: Callable[[Any], dict[str, Any]]
    errors: dict[str, MakeError]
    refusal: Callable[[str], dict[str, Any]] | None


def bind(
    method: Method,
    types: idl_model.ServiceShapes | None,
    endpoint: idl_model.Method | None,
    where: str,
    *,
    as_json: bool,
) -> Binding:
    """Return a method bound to an endpoint.

    Args:
        method: Of the IDL.
        types: The definition of the service; None if unknown.
        endpoint: The types of this one; None if unknown.
        where: Name of the endpoint, for messages.
        as_json: Whether requests and responses are JSON.

    Raises:
        Mismatch: They do not fit; the message names the field.
    """
    return _Binder(types, endpoint, where, as_json=as_json).bind(method)


def _whole(
    args: StructType, request: idl_model.Struct
) -> tuple[str, StructType] | None:
    """Return name and type of the one parameter that is a whole request; None for none."""
    if len(args.fields) != 1:
        return None
    (field,) = args.fields
    if not isinstance(field.type, StructType) or field.type.is_union:
        return None
    names = Names({each.name: each for each in request.fields})
    is_field = names.find(field.name, field.alias) is not None
    return None if is_field else (field.name, field.type)


def arguments(
    args: StructType, request: idl_model.Struct, encoders: Encoders, where: str
) -> Callable[[Any], Any]:
    """Return the function from a request to the parameters that a client sends.

    Args:
        args: Of a generated method.
        request: On the bus.
        encoders: Of the service's types.
        where: Name of the endpoint, for messages.
    """
    whole = _whole(args, request)
    if whole is None:
        return or_same(encoders.struct(args, request.name, where))
    name, type_ = whole
    inner = or_same(encoders.struct(type_, request.name, where))
    return lambda value: {name: inner(value)}


class _Binder:
    """Binds methods to one endpoint; the arguments are those of `bind`."""

    def __init__(
        self,
        types: idl_model.ServiceShapes | None,
        endpoint: idl_model.Method | None,
        where: str,
        *,
        as_json: bool,
    ) -> None:
        self.types = types
        self.endpoint = endpoint
        self.where = where
        self._decoders = Decoders(types, as_json=as_json)
        self.encoders = Encoders(types, as_json=as_json)

    def bind(self, method: Method) -> Binding:
        """Return a method bound to the endpoint; see the function."""
        reply = _Reply(method, self)
        return Binding(
            method,
            self._request(method.args),
            reply.maker(),
            self._errors(method),
            reply.refusal(),
        )

    def _request(self, args: StructType) -> Convert:
        if self.types is None or self.endpoint is None:
            return self._decoders.any_fields(args, self.where)
        request = self.types.struct(self.endpoint.request)
        whole = _whole(args, request)
        if whole is not None:
            name, type_ = whole
            inner = or_same(self._decoders.struct(type_, request.name, self.where))
            return lambda args: inner(args.get(name) or {})
        return self._decoders.struct(args, request.name, self.where)

    def _errors(self, method: Method) -> dict[str, MakeError]:
        """Return functions that make the exceptions, by the declared errors' names."""
        found: dict[str, MakeError] = {}
        for field in method.throws:
            if not isinstance(field.type, StructType):
                raise Mismatch(
                    f"{self.where}: {field.name!r} is thrown and no exception"
                )
            name = self._error_name(field.type)
            found[name] = self._make_error(field, field.type, name)
        return found

    def _error_name(self, type_: StructType) -> str:
        """Return the name of the declared error that an exception is."""
        if self.endpoint is None:
            return type_.alias or type_.name
        declared = self.endpoint.errors
        names = {name: name for name in declared} | {s: n for n, s in declared.items()}
        name = Names(names).find(type_.name, type_.alias)
        if name is None:
            raise Mismatch(
                f"{self.where}: the IDL throws {type_.name}, which the service does not"
                f" declare; it declares {', '.join(declared) or 'no error'}"
            )
        return name

    def _make_error(self, field: Field, type_: StructType, name: str) -> MakeError:
        where = f"{self.where}: {name}"
        if self.types is None or self.endpoint is None:
            known = or_same(self.encoders.value(type_, None, where))
            return lambda value, text: {
                field.name: {_MESSAGE: text, **known(value or {})}
            }
        struct = self.types.struct(self.endpoint.errors[name])
        texts = [f for f in type_.fields if fold(f.name) == _MESSAGE][:1]
        if _MESSAGE in {fold(each.name) for each in struct.fields}:
            texts = []  # the error's own
        others = tuple(each for each in type_.fields if each not in texts)
        bare = replace(type_, fields=others)
        convert = or_same(self.encoders.struct(bare, struct.name, where))
        return lambda value, text: {
            field.name: {**convert(value), **{f.name: text for f in texts}}
        }


class _Reply:
    """The result of a method, which may be a struct around the endpoint's."""

    def __init__(self, method: Method, binder: _Binder) -> None:
        types, endpoint = binder.types, binder.endpoint
        self._encoders = binder.encoders
        self._where = f"{binder.where}: the result"
        self._success = method.success
        self._shape = endpoint.response if endpoint is not None else None
        self._is_known = endpoint is not None
        self._names: set[str] = set()
        if types is not None and self._shape is not None and self._is_object:
            struct = types.types[self._shape.name]
            self._names = {fold(f.name) for f in getattr(struct, "fields", ())}
        self._err = self._error_field()

    @property
    def _is_object(self) -> bool:
        return self._shape is not None and self._shape.kind in ("struct", "union")

    def _error_field(self) -> Field | None:
        type_ = self._success
        if not isinstance(type_, StructType) or type_.is_union or type_.is_wrapper:
            return None
        for field in type_.fields:
            is_named = fold(field.key) in ERROR_FIELDS
            if is_named and field.type is model.STRING and self._is_known:
                return field if fold(field.name) not in self._names else None
        return None

    def maker(self) -> Callable[[Any], dict[str, Any]]:
        """Return the function from a response to the fields of the result.

        Raises:
            Mismatch: The two do not fit.
        """
        if self._success is None:
            return lambda _: {}
        converter = self._converter(self._success)
        if self._err is None and converter is None:
            return lambda value: {_SUCCESS: value}
        convert = or_same(converter)
        if self._err is None:
            return lambda value: {_SUCCESS: convert(value)}
        name = self._err.name
        return lambda value: {_SUCCESS: {**convert(value), name: ""}}

    def _converter(self, type_: ThriftType) -> Convert:
        if not self._is_known:
            return self._encoders.value(type_, None, self._where)
        if self._err is not None:
            return self._around(type_)
        if self._shape is None:
            raise Mismatch(
                f"{self._where}: the service gives none; the IDL has {model.spell(type_)}"
            )
        shape = self._shape
        if shape.is_nullable and shape.kind != "any":
            self._check_nullable(type_)
        return self._encoders.value(type_, shape, self._where)

    def _check_nullable(self, type_: ThriftType) -> None:
        """Check that the IDL has a form for no result, which is a struct around it."""
        if not isinstance(type_, StructType) or len(type_.fields) != 1:
            raise Mismatch(
                f"{self._where} may be null, for which Thrift needs a struct with one"
                f" optional field; the IDL has {model.spell(type_)}"
            )

    def _around(self, type_: ThriftType) -> Convert:
        """Return the function for a struct that has a place for an error beside."""
        assert isinstance(type_, StructType)  # noqa: S101  # it has the field
        others = tuple(field for field in type_.fields if field is not self._err)
        if self._shape is None and not others:
            return lambda _: {}
        bare = replace(type_, fields=others)
        if self._is_object and self._shape is not None:
            return self._encoders.struct(bare, self._shape.name, self._where)
        if len(others) != 1 or self._shape is None:
            raise Mismatch(
                f"{self._where} is one value; the IDL's {type_.name} has"
                f" {len(others)} fields for it"
            )
        return self._encoders.wrapper(
            others[0].name,
            self._encoders.value(others[0].type, self._shape, self._where),
        )

    def refusal(self) -> Callable[[str], dict[str, Any]] | None:
        """Return the function that puts the text of an error into the result."""
        if self._err is None or not isinstance(self._success, StructType):
            return None
        zeros = {f.name: _zero(f) for f in self._success.fields if f is not self._err}
        name = self._err.name
        return lambda text: {_SUCCESS: {**zeros, name: text}}


def _zero(field: Field) -> Any:
    """Return the zero value of a field, as Go would send it."""
    if field.type.wire is Wire.STRING:
        return b"" if field.type is model.BINARY else ""
    return _ZEROS.get(field.type.wire)
