"""Gateways, upstreams and exporters, found by entry points: ours like anybody's.

A package offers one in its ``pyproject.toml``.  The name is the kind that users type, the
value is a module with the names of the protocol below::

    [project.entry-points."kitmsg.gateways"]
    toy = "kitmsg_toy"                  # kitmsg gateway toy: a `Gateway`
    [project.entry-points."kitmsg.upstreams"]
    toy = "kitmsg_toy.upstream"         # kitmsg upstream toy: an `UpstreamKind`
    [project.entry-points."kitmsg.exporters"]
    toy = "kitmsg_toy.schema"           # kitmsg export toy: an `Exporter`, `EventExporter`

Importing the module must be cheap, because ``--help`` does it: it imports its libraries
when it serves.  Listing the kinds imports nothing.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar, cast

from kitmsg.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from importlib.metadata import EntryPoint

    from kitmsg.discovery.events import CatalogEvent
    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes
    from kitmsg.service import Service

__all__ = [
    "EXPORTERS",
    "GATEWAYS",
    "UPSTREAMS",
    "EventExporter",
    "Exporter",
    "Format",
    "Gateway",
    "Kinds",
    "RunningGateway",
    "RunningUpstream",
    "UpstreamKind",
    "check_options",
    "event_exporter",
    "listen",
    "title",
    "until_ended",
]

P = TypeVar("P")


class RunningGateway(Protocol):
    """A gateway that serves.

    Optional members: ``reload()``, called at SIGHUP; ``collect() -> Iterable[Family]``, its
    counters; without it ``exposition() -> str``, them as Prometheus reads them; ``ended``,
    an `asyncio.Event` set when there is nobody left to serve, as after the end of standard
    input.
    """

    @property
    def url(self) -> str:
        """Address for clients."""
        ...

    async def stop(self) -> None:
        """Drain, and close the connections."""
        ...


class Gateway(Protocol):
    """The module of an entry point in ``kitmsg.gateways``.

    Optional members:

    - ``TITLE``: the protocol's name as people write it, such as "HTTP".
    - ``check(options)``: raises a `KitError` for options that cannot work; called before
      the wait for a bus.
    - ``listen(options) -> list[socket]``: opens the sockets that several workers share.
      Without it the gateway runs in one process.
    """

    @property
    def GatewayOptions(self) -> type[Any]:  # noqa: N802  # the class that stands there
        """A frozen dataclass of texts, numbers, booleans and tuples of texts.

        Its fields are the flags and the ``Attributes`` of its docstring their help.  Fields
        with a meaning here: `host`, `port`, `workers`, `drain_timeout`.
        """
        ...

    @property
    def serve(self) -> Callable[..., Awaitable[RunningGateway]]:
        """``async (kit, options, *, sockets=()) -> RunningGateway``; it accepts calls then.

        `sockets` come from ``listen``, which alone makes them necessary; ``kitmsg dev``
        also gives `port`.
        """
        ...


class RunningUpstream(Protocol):
    """An upstream: `Kit.serve` takes it, since calling it makes the service."""

    def __call__(self) -> Service:
        """Return the service that stands for it on the bus."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class UpstreamKind(Protocol):
    """The module of an entry point in ``kitmsg.upstreams``; ``TITLE`` as in `Gateway`."""

    @property
    def UpstreamOptions(self) -> type[Any]:  # noqa: N802  # the class that stands there
        """A frozen dataclass, as `Gateway.GatewayOptions`."""
        ...

    async def open_upstream(
        self, name: str, addresses: Sequence[str], options: Any, /
    ) -> RunningUpstream:
        """Return the upstream that a command line describes.

        Raises:
            ValueError: The addresses and options do not fit together.
            KitError: The description of the server's interface cannot be read.
        """
        ...


class Format(Protocol):
    """The format that an exporter writes."""

    @property
    def TITLE(self) -> str:  # noqa: N802  # a constant of the module
        """The format as people write it, such as "Thrift"."""
        ...

    @property
    def SUFFIX(self) -> str:  # noqa: N802  # as above
        """Suffix of its files, with the dot."""
        ...


class Exporter(Format, Protocol):
    """The module of an entry point in ``kitmsg.exporters``."""

    @property
    def LOCK(self) -> str:  # noqa: N802  # a constant of the module
        """Usual name of the file with the numbers that clients rely on."""
        ...

    def generate(
        self, services: Sequence[ServiceShapes], lock: Lock, /
    ) -> str | Mapping[str, str]:
        """Return the text of one file, or texts by file name.

        Raises:
            ValueError: The services have no form in this format, or have changed in a way
                that would break clients.
            FailedPrecondition: A package that it needs is not installed.
        """
        ...


class EventExporter(Format, Protocol):
    """The same for a format of events: it has ``READS = "events"``, and LOCK is ""."""

    @property
    def READS(self) -> str:  # noqa: N802  # a constant of the module
        """The text ``events``."""
        ...

    def generate(
        self, services: Sequence[ServiceInfo], events: Sequence[CatalogEvent], /
    ) -> Mapping[str, str]:
        """Return texts by file name.

        Raises:
            ValueError: The events have no form in this format.
        """
        ...


def event_exporter(exporter: object) -> EventExporter | None:
    """Return an exporter as one of events; None if it is none."""
    if getattr(exporter, "READS", "") != "events":
        return None
    return cast("EventExporter", exporter)


@dataclass(frozen=True, slots=True)
class Kinds(Generic[P]):
    """The plugins of one group of entry points.

    Attributes:
        group: Name of the group.
        noun: Noun for one of them, for messages.
        members: Names that the module of one must have.
    """

    group: str
    noun: str
    members: tuple[str, ...]

    def names(self) -> list[str]:
        """Return the kinds that are installed, sorted; imports none."""
        return sorted(self._entries())

    def load(self, name: str) -> P:
        """Return the module of a kind.

        Raises:
            NotFound: There is none of that name; the message says which there are.
            FailedPrecondition: It cannot be imported or lacks a member, or two packages
                offer it.
        """
        found = self._entries().get(name)
        if found is None:
            known = ", ".join(self.names())
            hint = f"there are {known}" if known else "none is; pip install kitmsg"
            raise NotFound(f"no {self.noun} {name!r} is installed: {hint}")
        if len(found) > 1:
            packages = " and ".join(map(_package, found))
            raise FailedPrecondition(
                f"the {self.noun} {name!r} comes from {packages}: uninstall one"
            )
        return self._loaded(found[0])

    def _loaded(self, entry: EntryPoint) -> P:
        what = f"the {self.noun} {entry.name!r} of {_package(entry)}"
        try:
            module = entry.load()
        except Exception as exc:  # a plugin's import may fail in any way
            raise FailedPrecondition(
                f"{what} cannot be loaded: {type(exc).__name__}: {exc}"
            ) from exc
        for member in self.members:
            if not hasattr(module, member):
                raise FailedPrecondition(f"{what} lacks {member} in {entry.value}")
        return cast("P", module)

    def _entries(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in importlib.metadata.entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found


GATEWAYS: Final[Kinds[Gateway]] = Kinds(
    "kitmsg.gateways", "gateway", ("GatewayOptions", "serve")
)
UPSTREAMS: Final[Kinds[UpstreamKind]] = Kinds(
    "kitmsg.upstreams", "upstream", ("UpstreamOptions", "open_upstream")
)
EXPORTERS: Final[Kinds[Exporter]] = Kinds(
    "kitmsg.exporters", "exporter", ("TITLE", "LOCK", "SUFFIX", "generate")
)


def title(plugin: object, name: str) -> str:
    """Return a kind as people write it: its ``TITLE``, else its name."""
    return str(getattr(plugin, "TITLE", name))


def check_options(gateway: Gateway, options: Any) -> None:
    """Call the gateway's ``check``, if it has one.

    Raises:
        KitError: The options cannot work.
    """
    check = getattr(gateway, "check", None)
    if check is not None:
        check(options)


def listen(gateway: Gateway, name: str, options: Any) -> list[socket.socket]:
    """Return the sockets that several workers of a gateway share.

    Raises:
        FailedPrecondition: It has no ``listen``.
        OSError: The address cannot be had.
    """
    open_sockets = getattr(gateway, "listen", None)
    if open_sockets is None:
        raise FailedPrecondition(f"the {name} gateway runs in one process only")
    sockets: list[socket.socket] = open_sockets(options)
    return sockets


async def until_ended(server: RunningGateway) -> None:
    """Wait until a gateway has nobody left to serve; for ever, if it does not say."""
    ended: asyncio.Event = getattr(server, "ended", None) or asyncio.Event()
    await ended.wait()


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else str(entry.dist.name)
