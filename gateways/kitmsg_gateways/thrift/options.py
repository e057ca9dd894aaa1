"""Options of the Thrift gateway, beside those that all doors have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from kitmsg.message import check_name
from kitmsg_gateways.edge.extra import Extra
from kitmsg_gateways.edge.options import SocketOptions

__all__ = ["EXTRA", "GatewayOptions"]

EXTRA: Final = Extra("Thrift", "thrift", "thriftpy2.parser")


@dataclass(frozen=True, kw_only=True)
class GatewayOptions(SocketOptions):
    """Options of a Thrift gateway.

    Attributes:
        protocol: What clients speak: binary, compact, or auto for either, told apart by
            the first bytes of a connection.
        transport: How they send it: buffered (which is unframed), framed, header (frames
            of THeader, whose headers have credentials), or auto for any.
        max_message_bytes: Longest message of a client.
        max_items: Most items of one list, set or map.
        max_depth: Deepest nesting of structs and containers.
        max_pipelined: Calls in flight on one connection; what follows waits unread.
        idle_timeout: Seconds that a connection without calls is kept.
        message_timeout: Seconds for a client to send a message it began.
        write_timeout: Seconds for a client to take the answers it is sent.
        thrift: Your own .thrift file to serve, instead of one made from the schemas.
        thrift_path: Folder where files that your .thrift files include are.
        map: What serves a service or method of your .thrift where the names do not tell:
            AddService=addsvc, or AddService.Sum=addsvc.sum.
        service: Service whose methods clients call without its name in front; by default
            any method of which there is only one.
        auth_public: Methods that need no credentials, such as shop.ping: service and endpoint;
            one that ends in * stands for all that begin so.
        lock: File that keeps the field numbers of services stable, as written by
            `kitmsg export thrift`.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "protocol": ("auto", "binary", "compact"),
        "transport": ("auto", "buffered", "framed", "header"),
    }
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("map", "thrift"),
        ("thrift_path", "thrift"),
        ("auth_public", "jwt_key or jwks_url or basic_file or api_keys"),
    )

    port: int = 8083
    protocol: str = "auto"
    transport: str = "auto"
    max_message_bytes: int = 4 << 20
    max_items: int = 100_000
    max_depth: int = 64
    max_pipelined: int = 128
    idle_timeout: float = 300.0
    message_timeout: float = 30.0
    write_timeout: float = 30.0
    thrift: tuple[str, ...] = ()
    thrift_path: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    service: str = ""
    auth_public: tuple[str, ...] = ()
    lock: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.service:
            check_name(self.service, "the service to choose")
