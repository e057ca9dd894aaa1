"""Addresses: the one syntax for where a server is, or where to ask.

=====================================  =====================================================
address                                instances are
=====================================  =====================================================
``10.0.0.5:8080``, several             as given
``dns://payments.example:8080``        A and AAAA records
``srv://_grpc._tcp.payments.example``  SRV records, by priority and weight
``consul://host:8500/payments``        passing instances of a service
``etcd://host:2379/services/pay/``     keys below a prefix
``zk://host:2181/services/pay``        children of a node
``eureka://host:8761/eureka/PAY``      UP instances of an app
``bus:payments``                       instances that answer ``$SRV``
=====================================  =====================================================

A scheme is a plugin: an entry point in ``kitmsg.instancers``, and in ``kitmsg.registrars``
where one can announce oneself.  The name is the scheme, the value a module with the names
of `InstancerKind` or `RegistrarKind`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import math
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlencode

from kitmsg.discovery.fixed import FixedInstancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import (
    GRACE_SECONDS,
    Instancer,
    Source,
    WatchedInstancer,
)
from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from kitmsg.bus import Bus
    from kitmsg.discovery.registrar import Entry

__all__ = [
    "Address",
    "Addresses",
    "InstancerKind",
    "RegistrarKind",
    "discovered_at",
    "host_port",
    "instancer",
    "is_discovered",
    "join_host_port",
    "parse_address",
    "schemes",
]

Addresses: TypeAlias = "Instancer | str | Iterable[str]"
"""Where servers are: an instancer, an address, or several of ``host:port``."""

N = TypeVar("N", int, float)

INSTANCERS: Final = "kitmsg.instancers"
REGISTRARS: Final = "kitmsg.registrars"

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_OPAQUE: Final = re.compile(r"(bus):(?!\d+$)(.*)", re.DOTALL)
_HOST: Final = re.compile(r"\[[0-9A-Fa-f:.%]+\]|[^\s:/?#@\[\],]+")
_LAST_PORT: Final = 65_535
_SECRETS: Final = frozenset({"token", "password"})

TLS_OPTIONS: Final = ("tls", "ca", "cert", "key")
"""Options of `Address.tls`, for `Address.expect`."""

_COMMON: Final = ("invalidate_after", "grace")
_EXTRAS: Final = {"srv": "dns", "zk": "zookeeper"}  # others are called as their scheme


class InstancerKind(Protocol):
    """The module of an entry point in ``kitmsg.instancers``."""

    def source(self, address: Address, bus: Bus | None, /) -> Source:
        """Return the system that an address means.

        Raises:
            ValueError: The address lacks a part, or has one too many.
        """
        ...


class RegistrarKind(Protocol):
    """The module of an entry point in ``kitmsg.registrars``."""

    def entry(self, address: Address, instance: Instance, /) -> Entry:
        """Return the entry of an instance in the system that an address means.

        Raises:
            ValueError: The address lacks a part, or has one too many.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address with a scheme, in its parts.

    Args:
        scheme: In lower case.
        hosts: ``host`` or ``host:port``, as they were given.
        path: Without the first slash, percent decoded.
        options: The query: values by name, in order.
        user: Empty for none.
        password: Empty for none; not shown.
    """

    scheme: str
    hosts: tuple[str, ...] = ()
    path: str = ""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return the address without its secrets."""
        shown = [
            (name, value)
            for name, values in self.options.items()
            for value in values
            if name not in _SECRETS
        ]
        query = f"?{urlencode(shown, safe='/:,~')}" if shown else ""
        if not self.hosts:
            return f"{self.scheme}:{quote(self.path)}{query}"
        path = f"/{quote(self.path)}" if self.path else ""
        return f"{self.scheme}://{','.join(self.hosts)}{path}{query}"

    def servers(self, default_port: int) -> list[tuple[str, int]]:
        """Return hosts, without brackets, and ports.

        Raises:
            ValueError: A port is none.
        """
        return [_host_port(each, default_port, self) for each in self.hosts]

    def wrong(self, reason: str) -> ValueError:
        """Return the error that says why the address cannot be used."""
        return ValueError(f"{self}: {reason}")

    def expect(self, *options: str) -> None:
        """Check that there are no options but these, and those that every address may have.

        Raises:
            ValueError: There is one.
        """
        known = {*options, *_COMMON}
        for name in self.options:
            if name not in known:
                raise self.wrong(
                    f"no option {name!r} here; there are {', '.join(sorted(known))}"
                )

    def text(self, name: str, default: str = "") -> str:
        """Return the last value of an option."""
        return self.options.get(name, (default,))[-1]

    def number(self, name: str, default: N, *, least: float = 0.0) -> N:
        """Return the number that an option is.

        Raises:
            ValueError: It is none, or too small.
        """
        if name not in self.options:
            return default
        text = self.text(name)
        try:
            value = type(default)(text)
        except ValueError as exc:
            raise self.wrong(f"{name} must be a number, not {text!r}") from exc
        if not value >= least:
            raise self.wrong(f"{name} must be at least {least:g}, not {text!r}")
        return value

    def flag(self, name: str) -> bool:
        """Return whether an option is on.

        Raises:
            ValueError: It is neither true nor false.
        """
        text = self.text(name, "false").lower()
        if text not in {"", "1", "true", "yes", "0", "false", "no"}:
            raise self.wrong(f"{name} must be true or false, not {text!r}")
        return text in {"", "1", "true", "yes"}

    def tls(self) -> ssl.SSLContext | None:
        """Return how to verify the server, and the certificate to show it; None for plain.

        The options are ``tls=true``, ``ca=FILE``, ``cert=FILE`` and ``key=FILE``; one of
        the files is enough to say that TLS is meant.

        Raises:
            ValueError: A file cannot be used.
        """
        if not (self.flag("tls") or any(self.text(name) for name in TLS_OPTIONS[1:])):
            return None
        try:
            context = ssl.create_default_context(cafile=self.text("ca") or None)
            if self.text("cert"):
                context.load_cert_chain(self.text("cert"), self.text("key") or None)
        except OSError as exc:  # SSLError is one
            raise self.wrong(f"a file for TLS cannot be used: {exc}") from exc
        return context


@functools.cache
def schemes(group: str = INSTANCERS) -> tuple[str, ...]:
    """Return the schemes that are installed, sorted."""
    return tuple(sorted({e.name for e in importlib.metadata.entry_points(group=group)}))


def is_discovered(address: str) -> bool:
    """Return whether an address says where to ask, and not where a server is."""
    scheme = _scheme_of(address)
    return scheme is not None and scheme in schemes()


def parse_address(text: str, group: str = INSTANCERS) -> Address:
    """Return the parts of an address with a scheme.

    Args:
        text: The address.
        group: Entry points of the schemes that a message names.

    Raises:
        ValueError: It has none, or no host.
    """
    opaque = _OPAQUE.fullmatch(text)
    found = opaque or _SCHEME.fullmatch(text)
    if found is None:
        raise ValueError(f"{_shown(text)} has no scheme; known are {_known(group)}")
    scheme, rest = found[1].lower(), found[2]
    rest, _, query = rest.partition("?")
    options: dict[str, tuple[str, ...]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        options[name] = (*options.get(name, ()), value)
    if opaque:
        return Address(scheme=scheme, path=unquote(rest), options=options)
    authority, _, path = rest.partition("/")
    userinfo, _, hosts = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    address = Address(
        scheme=scheme,
        hosts=tuple(hosts.split(",")),
        path=unquote(path),
        options=options,
        user=unquote(user),
        password=unquote(password),
    )
    address.servers(1)
    return address


def instancer(
    addresses: Addresses,
    *,
    bus: Bus | None = None,
    invalidate_after: float | None = None,
) -> Instancer:
    """Return the instancer of addresses.

    Args:
        addresses: One with a scheme, or any number of ``host:port``, also with commas
            between them.
        bus: For ``bus:`` addresses.
        invalidate_after: As of `WatchedInstancer`; an address may say it with the option
            of that name.

    Raises:
        ValueError: An address is wrong; the message says where and what is right.
        FailedPrecondition: The scheme needs a package that is not installed.
    """
    if isinstance(addresses, Instancer):
        return addresses
    given = list(_each(addresses))
    if not given:
        raise ValueError("give an address, such as 10.0.0.5:8080 or srv://_http._tcp.x")
    if len(given) == 1 and _scheme_of(given[0]) is not None:
        return discovered_at(
            parse_address(given[0]), bus=bus, invalidate_after=invalidate_after
        )
    return FixedInstancer(Instance(address=host_port(each)) for each in given)


def discovered_at(
    address: Address,
    *,
    bus: Bus | None = None,
    invalidate_after: float | None = None,
) -> WatchedInstancer:
    """Return the instancer of an address with a scheme; see `instancer`.

    Raises:
        ValueError: As `instancer`.
        FailedPrecondition: As `instancer`.
    """
    kind: InstancerKind = _load(INSTANCERS, address.scheme)
    source = kind.source(address, bus)
    after = math.inf if invalidate_after is None else invalidate_after
    after = address.number("invalidate_after", after)
    return WatchedInstancer(
        source,
        invalidate_after=None if after == math.inf else after,
        grace=address.number("grace", GRACE_SECONDS),
    )


def load_registrar(address: Address) -> RegistrarKind:
    """Return the module that announces instances in the system of an address.

    Raises:
        ValueError: None does.
        FailedPrecondition: It needs a package that is not installed.
    """
    kind: RegistrarKind = _load(REGISTRARS, address.scheme)
    return kind


def host_port(text: str) -> str:
    """Return a ``host:port``, checked.

    Raises:
        ValueError: It is none.
    """
    if _scheme_of(text) is not None:
        raise ValueError(f"{_shown(text)}: an address with a scheme stands alone")
    return join_host_port(*_host_port(text, None, "wrong address", _or_schemes))


def join_host_port(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _each(addresses: str | Iterable[str]) -> Iterator[str]:
    for text in [addresses] if isinstance(addresses, str) else addresses:
        if _scheme_of(text) is not None:
            yield text
        else:
            yield from (part.strip() for part in text.split(","))


def _scheme_of(text: str) -> str | None:
    found = _OPAQUE.fullmatch(text) or _SCHEME.fullmatch(text)
    return None if found is None else found[1].lower()


def _or_schemes() -> str:
    return f"; it may also begin with {_known(with_given=False)}"


def _host_port(
    text: str,
    default_port: int | None,
    where: object,
    otherwise: Callable[[], str] = str,
) -> tuple[str, int]:
    found, shown = _HOST.match(text), _shown(text)
    if found is None:
        raise ValueError(f"{where}: {shown} has no host; give host:port{otherwise()}")
    rest = text[found.end() :]
    if not rest and default_port is not None:
        return found[0].strip("[]"), default_port
    port = rest[1:]
    if not (rest[:1] == ":" and port.isascii() and port.isdigit()):
        raise ValueError(
            f"{where}: {shown} is not host:port, such as 10.0.0.5:8080{otherwise()}"
        )
    if not 0 < int(port) <= _LAST_PORT:
        raise ValueError(f"{where}: a port is from 1 to {_LAST_PORT}, not {port}")
    return found[0].strip("[]"), int(port)


def _load(group: str, scheme: str) -> Any:
    entries = importlib.metadata.entry_points(group=group, name=scheme)
    if not entries and group == REGISTRARS and scheme == "bus":
        raise ValueError(
            "nothing is registered on the bus: a service that listens is found there"
        )
    if not entries:
        noun = "an address" if group == INSTANCERS else "an address to register at"
        raise ValueError(
            f"{noun} cannot begin with {scheme}://; known are {_known(group)}"
        )
    entry: EntryPoint = next(iter(entries))
    try:
        return entry.load()
    except ImportError as exc:
        raise FailedPrecondition(
            f"{scheme}:// needs {exc.name}: pip install {_extra(scheme)}"
        ) from exc


def _name(entry: EntryPoint) -> str:
    return entry.name


def _extra(scheme: str) -> str:
    return f"'kitmsg[{_EXTRAS.get(scheme, scheme)}]'"


def _known(group: str = INSTANCERS, *, with_given: bool = True) -> str:
    """Return the forms that there are, with the extra where a package is missing."""
    known = ["host:port"] if with_given and group == INSTANCERS else []
    for entry in sorted(importlib.metadata.entry_points(group=group), key=_name):
        form = f"{entry.name}:" if entry.name == "bus" else f"{entry.name}://"
        try:
            entry.load()
        except ImportError:
            form = f"{form} (pip install {_extra(entry.name)})"
        known.append(form)
    return ", ".join(dict.fromkeys(known))


def _shown(text: str) -> str:
    """Return a text for a message: without what could be a password."""
    return repr(re.sub(r"[^/@,]*@", "", text.partition("?")[0]))
