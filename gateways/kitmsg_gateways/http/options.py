"""What a gateway can be told: where to listen, limits, times, switches."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, get_origin, get_type_hints

__all__ = ["GatewayOptions"]

_RPC_METHOD = re.compile(r"[^=\s]+=[\w-]+\.[^=\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How one HTTP gateway behaves.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        timeout: Seconds a call may take when neither the request nor the endpoint says.
        max_timeout: Most seconds that a request can ask for.
        max_body_bytes: Longest request body, 64 MiB at most; services that are not
            kitmsg's get no more than fits into one message of the bus.
        compress_from_bytes: Shortest answer that is sent with gzip to who takes it; 0 to
            compress nothing.
        max_header_bytes: Longest request line, and longest header line.
        max_headers: Most header lines.
        header_timeout: Seconds for a client to send the headers it began, and for a TLS
            handshake.
        body_timeout: Seconds for a client to send a body.
        send_timeout: Seconds for a client to take an answer.
        keepalive_timeout: Seconds a connection may stay idle.
        max_connections: Connections at once; more are refused.
        max_connections_per_address: Connections at once from one address, but for trusted
            proxies; 0 for no limit.
        max_concurrent: Requests in flight at once; more are refused with 503.
        max_streams: Streams and WebSockets open at once; more are refused with 503.
        stream_heartbeat: Seconds between two signs of life on a stream where nothing
            happens; a WebSocket whose client is silent for two of them is closed.
        drain_timeout: Seconds for the requests in flight when stopping.
        forward_authorization: Whether services get the ``Authorization`` header.
        access_log: Whether to log a line for each request.
        middleware: Middlewares around every call to a service, or where a list of them
            is, such as shop.edge:middlewares.
        title: Name of the API in the OpenAPI document.
        rpc_methods: JSON-RPC methods of another name than their endpoint, such as
            ``add=addsvc.sum``.
        rpc_max_batch: Most calls in one JSON-RPC batch.
        rpc_concurrency: Calls of one batch that run at once.
        discovery_interval: Seconds between two rounds of asking who is there; kitmsg
            services are seen at once anyway.
        reuse_port: Whether other processes may listen on the same port.
        workers: Processes that share the port; more than 1 from the command line only.
        tls_cert: File with our certificate and its chain; switches TLS on.
        tls_key: File with its key; by default in the same file.
        tls_client_ca: File with the authorities of client certificates, which are then
            asked for.
        tls_client_optional: Whether a client may come without a certificate.
        reload_interval: Seconds between two looks whether certificates, keys or passwords
            have changed.
        trusted_proxies: Addresses or networks of the proxies in front of the gateway.
        proxy_header: The headers that they write: x-forwarded or forwarded.
        cors_origins: Origins whose pages may call, such as https://shop.example,
            https://*.shop.example, or * for all.
        cors_credentials: Whether these pages may use what the browser knows.
        cors_headers: Request headers that these pages may send beside the usual ones.
        cors_max_age: Seconds for which a browser may remember what pages may do.
        jwt_key: File with the key of bearer tokens, or env:NAME for a variable: PEM, a JWK
            Set, or a secret; switches authentication on.
        jwks_url: Where the keys of bearer tokens are instead.
        jwt_algorithms: Algorithms that tokens may use.
        jwt_issuer: What iss of a token must be.
        jwt_audience: What aud of a token must name.
        jwt_leeway: Seconds by which clocks may differ.
        jwt_required: Claims that a token must have beside exp and sub.
        jwt_claims: Claims that services get beside sub.
        basic_file: File of user:hash lines; switches authentication on.
        auth_public: Paths that need no credentials; one that ends in * stands for all that
            begin so.
        rate_limit: Requests a second from one address; 0 for no limit.
        rate_burst: Requests that may come at once after a quiet time; 0 for a second's
            worth.
        principal_rate_limit: Requests a second of one principal; 0 for no limit.
        principal_rate_burst: Requests of one principal that may come at once, likewise.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    timeout: float = 5.0
    max_timeout: float = 60.0
    max_body_bytes: int = 1 << 20
    compress_from_bytes: int = 1024
    max_header_bytes: int = 8190
    max_headers: int = 128
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    send_timeout: float = 30.0
    keepalive_timeout: float = 75.0
    max_connections: int = 20_000
    max_connections_per_address: int = 0
    max_concurrent: int = 10_000
    max_streams: int = 10_000
    stream_heartbeat: float = 15.0
    drain_timeout: float = 25.0
    forward_authorization: bool = False
    access_log: bool = False
    middleware: tuple[Any, ...] = ()
    title: str = "Services"
    rpc_methods: tuple[str, ...] = ()
    rpc_max_batch: int = 100
    rpc_concurrency: int = 16
    discovery_interval: float = 2.0
    reuse_port: bool = False
    workers: int = 1
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_client_optional: bool = False
    reload_interval: float = 5.0
    trusted_proxies: tuple[str, ...] = ()
    proxy_header: str = "x-forwarded"
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    cors_headers: tuple[str, ...] = ()
    cors_max_age: float = 600.0
    jwt_key: str = ""
    jwks_url: str = ""
    jwt_algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    jwt_issuer: str = ""
    jwt_audience: tuple[str, ...] = ()
    jwt_leeway: float = 10.0
    jwt_required: tuple[str, ...] = ()
    jwt_claims: tuple[str, ...] = ("iss", "scope")
    basic_file: str = ""
    auth_public: tuple[str, ...] = ()
    rate_limit: float = 0.0
    rate_burst: int = 0
    principal_rate_limit: float = 0.0
    principal_rate_burst: int = 0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must not be negative, not {value!r}")
        for name, needed in _NEEDS:
            needs = needed.split(" or ")
            if getattr(self, name) and not any(getattr(self, one) for one in needs):
                raise ValueError(f"{name} needs {needed}")
        self._check_words()
        self._check_methods()

    def _check_words(self) -> None:
        if self.jwt_key and self.jwks_url:
            raise ValueError(
                "jwt_key and jwks_url are two places for one thing; say one"
            )
        if self.proxy_header not in _PROXY_HEADERS:
            raise ValueError(
                f"proxy_header is {self.proxy_header!r}; choose"
                f" {' or '.join(_PROXY_HEADERS)}"
            )
        if not self.title.isprintable():
            raise ValueError("title holds characters that cannot be printed")
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is tuple and isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is a tuple of texts, not one text")
        for path in self.auth_public:
            if not path.startswith("/"):
                raise ValueError(f"auth_public: {path!r} does not begin with /")

    def _check_methods(self) -> None:
        for text in self.rpc_methods:
            if not _RPC_METHOD.fullmatch(text):
                raise ValueError(
                    f"rpc_methods has {text!r}; write METHOD=SERVICE.ENDPOINT, such as"
                    " 'add=addsvc.sum'"
                )

    def at(self, host: str | None, port: int | None) -> GatewayOptions:
        """Return these options with another address; None keeps what there is."""
        return dataclasses.replace(
            self,
            host=self.host if host is None else host,
            port=self.port if port is None else port,
        )


_POSITIVE = (
    "timeout",
    "max_timeout",
    "max_body_bytes",
    "max_header_bytes",
    "max_headers",
    "header_timeout",
    "body_timeout",
    "send_timeout",
    "keepalive_timeout",
    "max_concurrent",
    "max_connections",
    "max_streams",
    "stream_heartbeat",
    "drain_timeout",
    "discovery_interval",
    "reload_interval",
    "workers",
)
_NOT_NEGATIVE = (
    "max_connections_per_address",
    "cors_max_age",
    "jwt_leeway",
    "rate_limit",
    "rate_burst",
    "principal_rate_limit",
    "principal_rate_burst",
)
_NEEDS = (
    ("tls_key", "tls_cert"),
    ("tls_client_ca", "tls_cert"),
    ("tls_client_optional", "tls_client_ca"),
    ("cors_credentials", "cors_origins"),
    ("cors_headers", "cors_origins"),
    ("jwt_issuer", "jwt_key or jwks_url"),
    ("jwt_audience", "jwt_key or jwks_url"),
    ("jwt_required", "jwt_key or jwks_url"),
    ("auth_public", "jwt_key or jwks_url or basic_file"),
    ("rate_burst", "rate_limit"),
    ("principal_rate_limit", "jwt_key or jwks_url or basic_file or tls_client_ca"),
    ("principal_rate_burst", "principal_rate_limit"),
)
_PROXY_HEADERS = ("x-forwarded", "forwarded")
