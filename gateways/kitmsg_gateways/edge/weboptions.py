"""Options of doors that are reached over HTTP, and of those without streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kitmsg_gateways.edge.options import Options, SocketOptions

__all__ = ["FollowOptions", "HttpOptions", "WebOptions"]


@dataclass(frozen=True, kw_only=True)
class HttpOptions(SocketOptions):
    """Options of doors that are reached over HTTP.

    Attributes:
        header_timeout: Seconds for a client to send the headers it began.
        body_timeout: Seconds for a client to send a body.
        send_timeout: Seconds for a client to take a part of an answer.
        keepalive_timeout: Seconds a connection may stay idle.
        trusted_proxies: Addresses or networks of the proxies in front of the gateway.
        proxy_header: The headers that they write: x-forwarded or forwarded.
        allowed_hosts: Names under which it may be called, such as shop.example or
            *.shop.example; by default loopback's where it listens there without
            authentication, and all elsewhere.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "proxy_header": ("x-forwarded", "forwarded")
    }

    header_timeout: float = 10.0
    body_timeout: float = 30.0
    send_timeout: float = 30.0
    keepalive_timeout: float = 75.0
    trusted_proxies: tuple[str, ...] = ()
    proxy_header: str = "x-forwarded"
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WebOptions(HttpOptions):
    """Options of doors whose protocol's library is an ASGI app.

    Attributes:
        max_body_bytes: Longest request body.
        origins: Origins whose pages may call, such as https://shop.example; pages of
            this machine may where the gateway listens on loopback.
        stdio: Whether to serve the process that started this one, over standard input
            and output, and no port.
    """

    max_body_bytes: int = 4 << 20
    origins: tuple[str, ...] = ()
    stdio: bool = False


@dataclass(frozen=True, kw_only=True)
class FollowOptions(Options):
    """Limits on a stream that is collected into one result.

    Attributes:
        stream_timeout: Seconds for which a call follows a stream; the items until then
            are its result.
        max_items: Most items of a stream in one result: the last ones.
        max_result_bytes: Most bytes of these items.
    """

    stream_timeout: float = 30.0
    max_items: int = 100
    max_result_bytes: int = 256 << 10
