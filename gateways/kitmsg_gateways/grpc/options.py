"""What a gateway can be told: where to listen, limits, times, switches."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

__all__ = ["GatewayOptions"]

_COMPRESSIONS = ("none", "gzip", "deflate")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How one gRPC gateway behaves.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        timeout: Seconds a call may take when neither the client nor the endpoint says.
        max_timeout: Most seconds that a client can ask for; streams have no such bound.
        max_message_bytes: Longest message, in either direction.
        max_metadata_bytes: Longest metadata of one call, in bytes.
        max_concurrent: Calls in flight at once, streams included; more are refused.
        max_connection_streams: Calls in flight on one connection; more have to wait.
        keepalive_interval: Seconds of silence after which a client is asked for a sign of
            life.
        keepalive_timeout: Seconds for that sign; then the connection is closed.
        min_ping_interval: Fewest seconds between two pings of a client; one that pings
            more often is sent away.
        handshake_timeout: Seconds for a client to begin speaking HTTP/2.
        max_idle: Seconds that a connection without calls is kept.
        drain_timeout: Seconds for the calls in flight when stopping.
        compression: How replies are compressed for clients that can read it: none, gzip
            or deflate.
        tls_cert: File with the certificate chain, in PEM; read again when it changes.
        tls_key: File with its private key, in PEM; by default in the same file.
        tls_client_ca: File with the authorities that clients' certificates must be from,
            in PEM; without it clients need none.
        proto: Your own .proto file to serve, instead of one made from the schemas.
        proto_path: Folder where the imports of your .proto files are.
        map: What serves a method of your .proto where the names do not tell:
            pb.Add=addsvc, or pb.Add/Sum=addsvc.sum.
        lock: File that keeps the field numbers of services stable, as written by
            `kitmsg export proto`.
        reflection: Whether clients may ask what is served.
        forward_authorization: Whether services get the ``authorization`` metadata.
        forward_metadata: More metadata that services get, by key.
        access_log: Whether to log a line for each call.
        middleware: Middlewares around every call to a service, or where a list of them
            is, such as shop.edge:middlewares.
        discovery_interval: Seconds between two rounds of asking who is there; kitmsg
            services are seen at once anyway.
        metrics_port: Port of a page with metrics for Prometheus; 0 for none.
        workers: Processes that share the port; more than 1 from the command line only.
        reuse_port: Whether other processes may listen on the same port.
    """

    host: str = "127.0.0.1"
    port: int = 50051
    timeout: float = 5.0
    max_timeout: float = 60.0
    max_message_bytes: int = 4 << 20
    max_metadata_bytes: int = 8192
    max_concurrent: int = 10_000
    max_connection_streams: int = 1000
    keepalive_interval: float = 60.0
    keepalive_timeout: float = 20.0
    min_ping_interval: float = 10.0
    handshake_timeout: float = 10.0
    max_idle: float = 300.0
    drain_timeout: float = 25.0
    compression: str = "none"
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    proto: tuple[str, ...] = ()
    proto_path: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    lock: str = ""
    reflection: bool = True
    forward_authorization: bool = False
    forward_metadata: tuple[str, ...] = ()
    access_log: bool = False
    middleware: tuple[Any, ...] = ()
    discovery_interval: float = 2.0
    metrics_port: int = 0
    workers: int = 1
    reuse_port: bool = False

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if self.metrics_port and self.workers > 1:
            raise ValueError(
                "metrics_port is for one process; the page of --health adds up workers"
            )
        if self.compression not in _COMPRESSIONS:
            raise ValueError(
                f"compression must be one of {', '.join(_COMPRESSIONS)},"
                f" not {self.compression!r}"
            )
        for name in ("tls_key", "tls_client_ca"):
            if getattr(self, name) and not self.tls_cert:
                raise ValueError(f"{name} needs tls_cert")
        if (self.map or self.proto_path) and not self.proto:
            raise ValueError("map and proto_path are about your own proto: give it too")

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
    "max_message_bytes",
    "max_metadata_bytes",
    "max_concurrent",
    "max_connection_streams",
    "keepalive_interval",
    "keepalive_timeout",
    "min_ping_interval",
    "handshake_timeout",
    "max_idle",
    "drain_timeout",
    "discovery_interval",
    "workers",
)
