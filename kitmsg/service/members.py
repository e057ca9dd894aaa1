"""Reads the endpoints of a service class, with those of its bases.

A method that replaces an endpoint of a base is one too, with the base's options, unless it
has options of its own.  In a generic base, type variables stand for what a subclass gives.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin

from kitmsg.auth.allow import as_policy
from kitmsg.message import check_name
from kitmsg.schema import Signature, signature
from kitmsg.schema.places import HEADER_KEY
from kitmsg.schema.pointers import resolve
from kitmsg.schema.typevars import bound_to
from kitmsg.service.declaration import Declaration, Options
from kitmsg.service.mark import options_of
from kitmsg.service.methods import as_method, check_first_parameter, made_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["abstract_methods", "declarations", "unbound"]


def declarations(cls: Any) -> dict[str, Declaration]:
    """Return the endpoints of a class and its bases, by name, in order of definition.

    A class with type variables that are still open has none: they are checked, with what
    the variables are bounded by, and belong to the subclasses that bind them.

    Raises:
        TypeError: A member cannot be an endpoint, or its types cannot travel.
        ValueError: A name or a route cannot be one.
    """
    found: dict[str, Declaration] = {}
    for attribute in _attributes(cls):
        options = _options(cls, attribute)
        own = inspect.getattr_static(cls, attribute)
        if options is None or own is None:
            continue
        name = check_name(options.name or attribute, f"{cls.__name__}.{attribute}")
        if name.startswith("_"):
            raise ValueError(
                f"{cls.__name__}.{attribute}: {name!r} begins with '_', which is kept for"
                " control subjects; choose another name="
            )
        if name in found:
            raise TypeError(f"{cls.__name__}: two endpoints are named {name!r}")
        if options.allow is None and cls.allow is not None:
            policy = inspect.getattr_static(cls, "allow")
            options = replace(options, allow=as_policy(policy))
        method = _method(cls, attribute, own)
        subject = options.subject or f"{cls.name}.{name}"
        read = _signature(cls, attribute, method, options)
        found[name] = Declaration(name, attribute, subject, options, read)
    _check_routes(cls, found)
    return {} if unbound(cls) else found


def _attributes(cls: type) -> list[str]:
    return list(dict.fromkeys(a for base in reversed(cls.__mro__) for a in vars(base)))


def _options(cls: type, attribute: str) -> Options | None:
    """Return the options nearest to `cls`: its own, or those of a base."""
    members = (vars(base).get(attribute) for base in cls.__mro__)
    return next((o for o in map(options_of, members) if o is not None), None)


def _method(cls: type, attribute: str, own: Any) -> Any:
    """Return a member as a method; one that replaces an endpoint is made one."""
    where = f"{cls.__name__}.{attribute}"
    if options_of(own) is None and not callable(own) and not hasattr(own, "func"):
        raise TypeError(
            f"{where} is an endpoint of a base and is replaced by {own!r}; define a"
            f" method, or {attribute} = None to do without"
        )
    try:
        method = as_method(own)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    if method is not own:
        setattr(cls, attribute, method)
    check_first_parameter(method, where)
    return method


def _signature(cls: type, attribute: str, method: Any, options: Options) -> Signature:
    read = signature(
        method,
        owner=cls.__name__,
        name=method.__name__ or attribute,
        skip_self=True,
        unknown_fields=options.unknown_fields,
        variables=_variables(cls, attribute, method),
    )
    if read.stream and options.durable:
        raise TypeError(
            f"{read.where} streams, so it cannot be told; leave out durable="
        )
    if read.stream and options.wire == "gokit":
        raise TypeError(f"{read.where}: Go kit has no streams on NATS; leave out wire=")
    if options.unknown_fields == "forbid":
        _check_route(options.http, read)
    return read


def _check_route(route: str, read: Signature) -> None:
    """Check that what a route takes from the path is a parameter, and free to be taken."""
    schema = read.request_schema()
    fields = resolve(schema, schema).get("properties", {})
    for name in re.findall(r"\{(\w+)\}", route):
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ValueError(
                f"{read.where}: the route {route!r} has {{{name}}}, which is no"
                f" parameter; there is {known}"
            )
        if HEADER_KEY in fields[name]:
            raise ValueError(
                f"{read.where}: {name!r} is in the route {route!r} and also comes from a"
                " header"
            )


def _check_routes(cls: type, found: Mapping[str, Declaration]) -> None:
    """Refuse a route that two endpoints have; its names in braces do not count."""
    taken: dict[str, Declaration] = {}
    for declaration in found.values():
        route = re.sub(r"\{\w+\}", "{}", declaration.options.http)
        if route and route in taken:
            raise ValueError(
                f"{cls.__name__}: {taken[route].attribute!r} and"
                f" {declaration.attribute!r} have the same route"
                f" {declaration.options.http!r}; give each its own"
            )
        taken[route] = declaration


def abstract_methods(cls: type) -> list[str]:
    """Return the names of the methods that a class leaves to its subclasses."""
    members = ((a, inspect.getattr_static(cls, a, None)) for a in _attributes(cls))
    return [a for a, found in members if getattr(found, "__isabstractmethod__", False)]


def unbound(cls: Any) -> list[Any]:
    """Return the type variables of a class that a subclass has to bind."""
    found: dict[Any, None] = {}
    for base in _bases(cls):
        if get_origin(base) is Generic:
            return list(get_args(base))
        if get_origin(base) is not None:
            found.update(dict.fromkeys(getattr(base, "__parameters__", ())))
    return list(found)


def _bases(cls: Any) -> tuple[Any, ...]:
    bases: tuple[Any, ...] = vars(cls).get("__orig_bases__", cls.__bases__)
    return bases


def _variables(cls: type, attribute: str, method: Any) -> dict[Any, Any]:
    """Return what type variables stand for, in the class that defines a method."""
    written = made_of(method)
    definer = next(
        (base for base in cls.__mro__ if vars(base).get(attribute) is written), None
    ) or next(base for base in cls.__mro__ if attribute in vars(base))
    open_here = {v: _widest(v) for v in unbound(cls)}
    return _bindings(cls, open_here).get(definer, {})


def _bindings(cls: Any, variables: dict[Any, Any]) -> dict[Any, dict[Any, Any]]:
    """Return, for a class and each of its bases, what its type variables stand for."""
    found = {cls: variables}
    for base in _bases(cls):
        origin = get_origin(base) or base
        if origin in (Generic, object):
            continue
        arguments = [bound_to(each, variables) for each in get_args(base)]
        parameters = unbound(origin)
        inner = dict(zip(parameters, arguments, strict=False))
        for known, given in _bindings(origin, inner).items():
            if given or known not in found:
                found[known] = given
    return found


def _widest(variable: Any) -> Any:
    """Return the type that a type variable is bounded by."""
    if not isinstance(variable, TypeVar):
        return Any
    constraints = variable.__constraints__
    return variable.__bound__ or (constraints[0] if constraints else Any)
