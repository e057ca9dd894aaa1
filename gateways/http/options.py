"""What a gateway can be told: where to listen, limits, times, switches."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

__all__ = ["GatewayOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How one HTTP gateway behaves.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        timeout: Seconds a call may take when neither the request nor the endpoint says.
        max_timeout: Most seconds that a request can ask for.
        max_body_bytes: Longest request body; the bus's own limit counts too.
        compress_from_bytes: Shortest answer that is sent with gzip to who takes it; 0 to
            compress nothing.
        max_header_bytes: Longest request line, and longest header line.
        max_headers: Most header lines.
        header_timeout: Seconds for a client to send the headers it began.
        body_timeout: Seconds for a client to send a body.
        keepalive_timeout: Seconds a connection may stay idle.
        max_concurrent: Requests in flight at once; more are refused with 503.
        drain_timeout: Seconds for the requests in flight when stopping.
        forward_authorization: Whether services get the ``Authorization`` header.
        access_log: Whether to log a line for each request.
        title: Name of the API in the OpenAPI document.
        discovery_interval: Seconds between two rounds of asking who is there; kitmsg
            services are seen at once anyway.
        reuse_port: Whether other processes may listen on the same port.
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
    keepalive_timeout: float = 75.0
    max_concurrent: int = 10_000
    drain_timeout: float = 25.0
    forward_authorization: bool = False
    access_log: bool = False
    title: str = "Services"
    discovery_interval: float = 2.0
    reuse_port: bool = False

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")

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
    "keepalive_timeout",
    "max_concurrent",
    "drain_timeout",
    "discovery_interval",
)
