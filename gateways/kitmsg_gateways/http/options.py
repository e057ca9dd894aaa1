"""Options of the HTTP gateway, beside those that all doors have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from kitmsg_gateways.edge.extra import Extra
from kitmsg_gateways.edge.options import EventOptions
from kitmsg_gateways.edge.weboptions import HttpOptions

__all__ = ["EXTRA", "GatewayOptions"]

EXTRA: Final = Extra("HTTP", "http", "aiohttp")

_RPC_METHOD = re.compile(r"[^=\s]+=[\w-]+\.[^=\s]+")


@dataclass(frozen=True, kw_only=True)
class GatewayOptions(EventOptions, HttpOptions):
    """Options of an HTTP gateway.

    Attributes:
        max_body_bytes: Longest request body, 64 MiB at most; services that are not
            kitmsg's get no more than fits into one message of the bus.
        compress_from_bytes: Shortest answer that is sent with gzip to who takes it; 0 to
            compress nothing.
        max_header_bytes: Longest request line, and longest header line.
        max_headers: Most header lines.
        max_head_bytes: Longest head: request line and header lines in all.
        max_streams: Streams and WebSockets open at once; more are refused.
        stream_heartbeat: Seconds between two signs of life on a stream where nothing
            happens; a WebSocket whose client is silent for two of them is closed.
        title: Name of the API in the OpenAPI and AsyncAPI documents.
        docs: Whether there is a page for people at /docs.
        openapi: Whether there are descriptions for programs at /openapi.json and
            /asyncapi.json, which the page needs, and the schemas at /schemas.
        metrics_page: Whether there is a page for Prometheus at /metrics, and one in JSON at
            /debug/vars.
        rpc_methods: JSON-RPC methods of another name than their endpoint, such as
            ``add=addsvc.sum``.
        rpc_max_batch: Most calls in one JSON-RPC batch.
        rpc_concurrency: Calls of one batch that run at once.
        cors_origins: Origins whose pages may call, such as https://shop.example,
            https://*.shop.example, or * for all.
        cors_credentials: Whether these pages may use what the browser knows.
        cors_headers: Request headers that these pages may send beside the usual ones.
        cors_max_age: Seconds for which a browser may remember what pages may do.
        hsts: Seconds for which browsers are told to come over HTTPS only; 0 to say nothing.
        auth_public: Paths that need no credentials; one that ends in * stands for all that
            begin so.  With a service's name in front, as in greeter=/hello/*, no other
            service is mounted there.
    """

    ZERO: ClassVar[tuple[str, ...]] = ("compress_from_bytes", "cors_max_age", "hsts")
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("cors_credentials", "cors_origins"),
        ("cors_headers", "cors_origins"),
        ("auth_public", "jwt_key or jwks_url or basic_file or api_keys"),
    )

    port: int = 8080
    max_body_bytes: int = 1 << 20
    compress_from_bytes: int = 1024
    max_header_bytes: int = 8190
    max_headers: int = 128
    max_head_bytes: int = 32 << 10
    max_streams: int = 10_000
    stream_heartbeat: float = 15.0
    title: str = "Services"
    docs: bool = True
    openapi: bool = True
    metrics_page: bool = True
    rpc_methods: tuple[str, ...] = ()
    rpc_max_batch: int = 100
    rpc_concurrency: int = 16
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    cors_headers: tuple[str, ...] = ()
    cors_max_age: float = 600.0
    hsts: float = 0.0
    auth_public: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.title.isprintable():
            raise ValueError("title holds characters that cannot be printed")
        for path in self.public_paths:
            if not path.startswith("/"):
                raise ValueError(f"auth_public: {path!r} does not begin with /")
        for text in self.rpc_methods:
            if not _RPC_METHOD.fullmatch(text):
                raise ValueError(
                    f"rpc_methods has {text!r}; write METHOD=SERVICE.ENDPOINT, such as"
                    " 'add=addsvc.sum'"
                )

    @property
    def public_paths(self) -> tuple[str, ...]:
        """Paths that need no credentials."""
        return tuple(_public(text)[0] for text in self.auth_public)

    @property
    def public_owners(self) -> list[tuple[str, str]]:
        """Those of them that are meant for one service, and its name."""
        found = (_public(text) for text in self.auth_public)
        return [(path, service) for path, service in found if service]


def _public(text: str) -> tuple[str, str]:
    """Return path and service of an entry of `auth_public`."""
    service, mark, path = text.partition("=/")
    is_bound = mark and not text.startswith("/")
    return (f"/{path}", service) if is_bound else (text, "")
