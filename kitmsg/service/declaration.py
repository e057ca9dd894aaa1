"""The declaration of one endpoint: the options of its decorator, and its signature."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from kitmsg.auth.allow import Policy, as_policy
from kitmsg.bus import Bus
from kitmsg.bus.reach import Site
from kitmsg.errors import Code, code_of
from kitmsg.message import check_subject
from kitmsg.schema import Signature, error_schema
from kitmsg.schema.errortype import need_exception
from kitmsg.schema.live import document_hash
from kitmsg.wire import MAX_TIMEOUT, Meta

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.endpoints import Middleware

__all__ = ["Declaration", "Options", "chosen"]

_OK: Final = 200
_STATUSES: Final = frozenset({200, 201, 202, 203, 207, 208, 226})
_MAX_CACHE: Final = 31_536_000  # a year; caches take more for a mistake
_ROUTE: Final = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/([^\s/{}?#%]*|\{[A-Za-z_][A-Za-z0-9_]*\}))+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of ``@endpoint(...)``; fields as its arguments."""

    name: str = ""
    http: str = ""
    idempotent: bool = False
    timeout: float | None = None
    middleware: tuple[Middleware, ...] = ()
    raises: tuple[type[Exception], ...] = ()
    wire: Literal["kit", "gokit"] = "kit"
    subject: str = ""
    unknown_fields: Literal["forbid", "ignore"] = "forbid"
    cache: int | None = None
    status: int = 200
    internal: bool = False
    durable: bool = False
    allow: Policy | None = None


@dataclass(frozen=True, slots=True)
class Declaration:
    """One endpoint of a service class.

    Attributes:
        name: Name in discovery and in the subject.
        attribute: Name of the method.
        subject: Where requests arrive.
        options: What the decorator was told.
        signature: What the method takes and gives.
    """

    name: str
    attribute: str
    subject: str
    options: Options
    signature: Signature

    def site(self, bus: Bus) -> Site:
        """Return the facts about the endpoint for middlewares that wrap it on `bus`."""
        return Site(
            bus=bus,
            result=self.signature.response,
            raises=tuple(self.options.raises),
            is_stream=bool(self.signature.stream),
        )

    def metadata(self) -> dict[str, str]:
        """Return what INFO says of it beside name and subject: text by name."""
        options = self.options
        facts = {
            Meta.SCHEMA: self.describe()["hash"],
            Meta.HTTP: options.http,
            Meta.IDEMPOTENT: "true" if options.idempotent else "",
            Meta.TIMEOUT: "" if options.timeout is None else f"{options.timeout:g}",
            Meta.CACHE: "" if options.cache is None else str(options.cache),
            Meta.STATUS: "" if options.status == _OK else str(options.status),
            Meta.STREAM: self.signature.stream,
            Meta.WIRE: "" if options.wire == "kit" else options.wire,
            Meta.INTERNAL: "true" if options.internal else "",
            Meta.DURABLE: "true" if options.durable else "",
            Meta.ALLOW: "" if options.allow is None else str(options.allow),
            Meta.DESCRIPTION: " ".join(self.signature.doc.split()),
        }
        return {name: text for name, text in facts.items() if text}

    def describe(self) -> dict[str, Any]:
        """Return its JSON Schemas: request, response, errors by class name, and hash.

        An error's schema has its code under ``x-code``; the hash tells of errors too.
        """
        errors = {cls.__name__: _described(cls) for cls in self.options.raises}
        # As it arrives, so that the hash that others find is the same.
        document = msgspec.json.encode({**self.signature.describe(), "errors": errors})
        found: dict[str, Any] = msgspec.json.decode(document)
        return {**found, "hash": document_hash(found)}


def _described(error: type[Exception]) -> dict[str, Any]:
    """Return the JSON Schema of a declared error, and its code as ``x-code``."""
    known: Any = error  # a class has the code of its instances
    code = code_of(known) if hasattr(error, "code") else Code.FAILED_PRECONDITION
    return {**error_schema(error), "x-code": code.value}


def chosen(options: Mapping[str, Any]) -> Options:
    """Return the options of ``@endpoint(...)``, checked.

    Raises:
        TypeError: An option is not known or does not have the right type.
        ValueError: An option has a value that it cannot have.
    """
    for name in options:
        if name not in Options.__dataclass_fields__:
            known = ", ".join(Options.__dataclass_fields__)
            raise TypeError(f"@endpoint has no option {name!r}; it has {known}")
    _check_kinds(options)
    many = {name: tuple(options.get(name, ())) for name in ("middleware", "raises")}
    given = options.get("allow")
    allow = None if given is None else as_policy(given)
    made = Options(**{**options, **many, "allow": allow})
    _check(made)
    return made


_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "name": (str, "text"),
    "idempotent": (bool, "True or False"),
    "internal": (bool, "True or False"),
    "durable": (bool, "True or False"),
    "wire": (str, "'kit' or 'gokit'"),
    "subject": (str, "text"),
    "unknown_fields": (str, "'forbid' or 'ignore'"),
}


def _check_kinds(options: Mapping[str, Any]) -> None:
    for name, (kind, what) in _KINDS.items():
        if name in options and not isinstance(options[name], kind):
            raise TypeError(f"{name}= takes {what}, not {options[name]!r}")
    raises = options.get("raises", ())
    if isinstance(raises, type):
        raise TypeError(
            f"raises= takes a list of exception classes: raises=[{raises.__name__}]"
        )
    if not isinstance(raises, (list, tuple, set, frozenset)):
        raise TypeError(f"raises= takes a list of exception classes, not {raises!r}")
    check_middleware(options.get("middleware", ()), "middleware=")


def check_middleware(given: Any, what: str) -> None:
    """Refuse what is no list of middleware.

    Args:
        given: The list.
        what: Begins the message, such as ``Greeter.middleware``.

    Raises:
        TypeError: It is no list, or something in it is no middleware.
    """
    if not isinstance(given, (list, tuple)):
        hint = f": [{_called(given)}]" if callable(given) else f", not {given!r}"
        raise TypeError(f"{what} takes a list of middleware{hint}")
    for each in given:
        if not callable(each):
            raise TypeError(f"{what} takes middleware, not {each!r}")
        if _makes_middleware(each):
            name = _called(each)
            raise TypeError(
                f"{what} has {name}, which makes a middleware when it is called: write"
                f" {name}(...)"
            )


def _called(given: Any) -> str:
    return getattr(given, "__name__", "") or type(given).__name__


def _makes_middleware(given: Any) -> bool:
    """Tell whether a function returns a middleware rather than an endpoint."""
    result = getattr(given, "__annotations__", {}).get("return", "")
    name = result if isinstance(result, str) else getattr(result, "__name__", "")
    return name.rpartition(".")[2] == "Middleware"


def _check(options: Options) -> None:
    for error in options.raises:
        need_exception(error)
    _check_timeout(options.timeout)
    if options.http and not _ROUTE.fullmatch(str(options.http)):
        raise ValueError(
            f"http={options.http!r}: write a route as 'GET /orders/{{id}}'"
        )
    _check_cache(options)
    if options.durable and options.wire == "gokit":
        raise ValueError(
            "durable=True needs wire='kit'; Go kit's transport keeps nothing"
        )
    if options.status not in _STATUSES:
        raise ValueError(
            f"status must be a success such as 201, not {options.status!r}; errors have"
            " codes, and what returns None is 204 by itself"
        )
    if options.wire not in ("kit", "gokit"):
        raise ValueError(f"wire={options.wire!r}: use 'kit' or 'gokit'")
    if options.unknown_fields not in ("forbid", "ignore"):
        raise ValueError(
            f"unknown_fields={options.unknown_fields!r}: use 'forbid' or 'ignore'"
        )
    if options.subject:
        check_subject(options.subject)


def _check_timeout(timeout: Any) -> None:
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout= takes seconds as a number, not {timeout!r}")
    if not 0 < timeout < MAX_TIMEOUT:
        raise ValueError(
            f"timeout must be positive seconds under {MAX_TIMEOUT:g}, not {timeout!r}"
        )


def _check_cache(options: Options) -> None:
    if options.cache is None:
        return
    if type(options.cache) is not int or not 0 <= options.cache <= _MAX_CACHE:
        raise ValueError(
            f"cache must be whole seconds from 0 to {_MAX_CACHE}, not {options.cache!r}"
        )
    if not options.http.startswith("GET "):
        raise ValueError(
            f"cache={options.cache} needs a GET route, such as"
            " http='GET /orders/{id}'; answers to other methods are not kept"
        )
