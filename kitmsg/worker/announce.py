"""``--register ADDRESS``: announces a process in a system of discovery while it serves.

It is announced when it serves, and taken back at a drain before anything is refused.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kitmsg.discovery.address import host_port, join_host_port, parse_address
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from kitmsg.discovery.registrar import Registrar
    from kitmsg.worker.settings import Settings

__all__ = ["announcer", "check_announcing", "place_of"]

_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  compared with, not listened on


def check_announcing(settings: Settings, *, has_place: bool = True) -> None:
    """Check that the process could be announced as the settings say.

    Args:
        settings: With ``register`` and ``advertise``.
        has_place: Whether the process listens somewhere that could be announced.

    Raises:
        InvalidArgument: An address is wrong; the message says how it should be.
        FailedPrecondition: The scheme needs a package that is not installed.
    """
    if settings.advertise and not settings.register:
        raise InvalidArgument("--advertise needs --register ADDRESS")
    if settings.register:
        where = _checked(settings.advertise) if settings.advertise else "192.0.2.1:1"
        _made(settings.register, where)
        if not (settings.advertise or has_place):
            raise InvalidArgument(
                "--register needs the address of this process: say --health PORT, or"
                " --advertise HOST:PORT"
            )


def announcer(settings: Settings, serves: tuple[str, int] | None) -> Registrar | None:
    """Return the registrar that the settings ask for; None if they ask for none.

    Args:
        settings: With ``register``, and ``advertise`` for another address than `serves`.
        serves: Host and port that the process listens on; None if it does not.

    Raises:
        InvalidArgument: There is no address to announce.
    """
    if not settings.register:
        return None
    if settings.advertise:
        return _made(settings.register, _checked(settings.advertise))
    if serves is None:
        raise InvalidArgument("nothing is listened on here; say --advertise HOST:PORT")
    host, port = serves
    if host in _ANYWHERE:
        host = _own_host(settings.register)
    return _made(settings.register, join_host_port(host, port))


def place_of(url: str) -> tuple[str, int] | None:
    """Return host and port of a gateway's address; None if it has none."""
    parts = urlsplit(url if "://" in url else f"//{url}")
    return (parts.hostname, parts.port) if parts.hostname and parts.port else None


def _made(register: str, where: str) -> Registrar:
    try:
        return registrar(register, Instance(address=where))
    except ValueError as exc:
        raise InvalidArgument(f"--register: {exc}") from exc


def _checked(advertise: str) -> str:
    try:
        return host_port(advertise)
    except ValueError as exc:
        raise InvalidArgument(f"--advertise: {exc}") from exc


def _own_host(register: str) -> str:
    """Return the address of this machine that the system of discovery sees."""
    host, port = parse_address(register).servers(1)[0]
    try:
        family, kind, *_, there = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as sock:
            sock.connect(there)  # sends nothing: it only chooses the way
            return str(sock.getsockname()[0])
    except OSError as exc:
        raise InvalidArgument(
            f"the address of this machine is not known ({exc}); say --advertise HOST:PORT"
        ) from exc
