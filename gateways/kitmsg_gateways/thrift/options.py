"""What a gateway can be told: where to listen, limits, times, switches."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from kitmsg.message import check_name

__all__ = ["GatewayOptions"]

_PROTOCOLS = ("auto", "binary", "compact")
_TRANSPORTS = ("auto", "buffered", "framed")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """How one Thrift gateway behaves.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        protocol: What clients speak: binary, compact, or auto for either, told apart by
            the first bytes of a connection.
        transport: How they send it: buffered (which is unframed), framed, or auto for
            either.
        timeout: Seconds a call may take when the endpoint does not say.
        max_message_bytes: Longest message of a client.
        max_items: Most items of one list, set or map.
        max_depth: Deepest nesting of structs and containers.
        max_connections: Connections at once; more are closed.
        max_concurrent: Calls in flight at once; more are refused.
        max_pipelined: Calls in flight on one connection; what follows waits unread.
        idle_timeout: Seconds that a connection without calls is kept.
        message_timeout: Seconds for a client to send a message it began.
        write_timeout: Seconds for a client to take the answers it is sent.
        handshake_timeout: Seconds for the handshake of TLS.
        drain_timeout: Seconds for the calls in flight when stopping.
        tls_cert: File with the certificate chain, in PEM; read again when it changes.
        tls_key: File with the private key of that certificate, in PEM.
        tls_client_ca: File with the authorities that clients' certificates must be from,
            in PEM; without it clients need none.
        thrift: Your own .thrift file to serve, instead of one made from the schemas.
        thrift_path: Folder where files that your .thrift files include are.
        map: What serves a service or method of your .thrift where the names do not tell:
            AddService=addsvc, or AddService.Sum=addsvc.sum.
        service: Service whose methods clients call without its name in front; by default
            any method of which there is only one.
        lock: File that keeps the field numbers of services stable, as written by
            `kitmsg export thrift`.
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
    port: int = 8083
    protocol: str = "auto"
    transport: str = "auto"
    timeout: float = 5.0
    max_message_bytes: int = 4 << 20
    max_items: int = 100_000
    max_depth: int = 64
    max_connections: int = 10_000
    max_concurrent: int = 10_000
    max_pipelined: int = 128
    idle_timeout: float = 300.0
    message_timeout: float = 30.0
    write_timeout: float = 30.0
    handshake_timeout: float = 10.0
    drain_timeout: float = 25.0
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    thrift: tuple[str, ...] = ()
    thrift_path: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    service: str = ""
    lock: str = ""
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
        _check_choice("protocol", self.protocol, _PROTOCOLS)
        _check_choice("transport", self.transport, _TRANSPORTS)
        if self.metrics_port and self.workers > 1:
            raise ValueError(
                "metrics_port is for one process; the page of --health adds up workers"
            )
        if self.service:
            check_name(self.service, "the service to choose")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("tls_cert and tls_key go together: give both or none")
        if self.tls_client_ca and not self.tls_cert:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if (self.map or self.thrift_path) and not self.thrift:
            raise ValueError(
                "map and thrift_path are about your own .thrift: give it too"
            )

    def at(self, host: str | None, port: int | None) -> GatewayOptions:
        """Return these options with another address; None keeps what there is."""
        return dataclasses.replace(
            self,
            host=self.host if host is None else host,
            port=self.port if port is None else port,
        )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


_POSITIVE = (
    "timeout",
    "max_message_bytes",
    "max_items",
    "max_depth",
    "max_connections",
    "max_concurrent",
    "max_pipelined",
    "idle_timeout",
    "message_timeout",
    "write_timeout",
    "handshake_timeout",
    "drain_timeout",
    "discovery_interval",
    "workers",
)
