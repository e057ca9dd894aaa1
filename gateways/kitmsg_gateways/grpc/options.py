"""Options of the gRPC gateway, beside those that all doors have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from kitmsg_gateways.edge.extra import Extra
from kitmsg_gateways.edge.options import EdgeOptions, EventOptions

__all__ = ["EXTRA", "GatewayOptions"]

EXTRA: Final = Extra(
    "gRPC",
    "grpc",
    "grpc.aio",
    "grpc_health",
    "grpc_reflection",
    "google.rpc.status_pb2",
)


@dataclass(frozen=True, kw_only=True)
class GatewayOptions(EventOptions, EdgeOptions):
    """Options of a gRPC gateway.

    Attributes:
        max_message_bytes: Longest message, in either direction.
        max_connections: Connections at once; more are refused.
        max_metadata_bytes: Longest metadata of one call, in bytes.
        max_connection_streams: Calls in flight on one connection; more have to wait.
        keepalive_interval: Seconds of silence after which a client is asked for a sign of
            life.
        keepalive_timeout: Seconds for that sign; then the connection is closed.
        min_ping_interval: Fewest seconds between two pings of a client; one that pings
            more often is sent away.
        max_idle: Seconds that a connection without calls is kept.
        compression: How replies are compressed for clients that can read it: none, gzip
            or deflate.
        proto: Your own .proto file to serve, instead of one made from the schemas.
        proto_path: Folder where the imports of your .proto files are.
        map: What serves a method of your .proto where the names do not tell:
            pb.Add=addsvc, or pb.Add/Sum=addsvc.sum.
        lock: File that keeps the field numbers of services stable, as written by
            `kitmsg export proto`.
        reflection: Whether clients may ask what is served.
        auth_public: Methods that need no credentials, such as /shop.Orders/Get; one that
            ends in * stands for all that begin so.
        forward_metadata: More metadata that services get, by key.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "compression": ("none", "gzip", "deflate")
    }
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("map", "proto"),
        ("proto_path", "proto"),
        ("auth_public", "jwt_key or jwks_url or basic_file or api_keys"),
    )

    port: int = 50051
    max_message_bytes: int = 4 << 20
    max_connections: int = 20_000
    max_metadata_bytes: int = 8192
    max_connection_streams: int = 1000
    keepalive_interval: float = 60.0
    keepalive_timeout: float = 20.0
    min_ping_interval: float = 10.0
    max_idle: float = 300.0
    compression: str = "none"
    proto: tuple[str, ...] = ()
    proto_path: tuple[str, ...] = ()
    map: tuple[str, ...] = ()
    lock: str = ""
    reflection: bool = True
    auth_public: tuple[str, ...] = ()
    forward_metadata: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tls_client_optional:
            raise ValueError(
                "tls_client_optional: gRPC's core asks all clients for a certificate, or"
                " none; start a second gateway for those without"
            )
        for path in self.auth_public:
            if not path.startswith("/"):
                raise ValueError(f"auth_public: {path!r} does not begin with /")
