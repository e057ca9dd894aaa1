"""What a Thrift upstream can be told: its IDL, limits, times."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UpstreamOptions", "check_address"]

_PROTOCOLS = ("binary", "compact")
_TRANSPORTS = ("buffered", "framed")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """How one Thrift upstream behaves.

    Attributes:
        thrift: The .thrift file that says what the server offers.
        thrift_path: Folder where files that it includes are.
        service: Which of its services; needed if it has several.
        only: Name of an endpoint to serve; all by default.
        protocol: What the server speaks: binary or compact.
        transport: How it takes messages: buffered (which is unframed) or framed.
        multiplexed: Whether the service's name goes in front of each method's.
        version: Semantic version on the bus.
        timeout: Seconds a call may take when its caller gives no less.
        connect_timeout: Seconds to reach the server.
        keepalive_timeout: Seconds a connection may stay idle.
        max_connections: Connections to one server at once; more calls wait.
        max_message_bytes: Longest answer.
        tls: Whether to speak TLS.
        ca_file: Certificates to trust, PEM; those of the system by default.
        cert_file: Our own certificate, PEM.
        key_file: Key of our own certificate, PEM.
    """

    thrift: str = ""
    thrift_path: tuple[str, ...] = ()
    service: str = ""
    only: tuple[str, ...] = ()
    protocol: str = "binary"
    transport: str = "buffered"
    multiplexed: bool = False
    version: str = ""
    timeout: float = 5.0
    connect_timeout: float = 2.0
    keepalive_timeout: float = 30.0
    max_connections: int = 100
    max_message_bytes: int = 16 << 20
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "keepalive_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive seconds")
        for name in ("max_connections", "max_message_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name, choices in (("protocol", _PROTOCOLS), ("transport", _TRANSPORTS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)},"
                    f" not {getattr(self, name)!r}"
                )
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        if (self.ca_file or self.cert_file) and not self.tls:
            raise ValueError("ca_file and cert_file are about TLS: give tls too")


def check_address(address: str) -> tuple[str, int]:
    """Return host and port of an address such as ``localhost:9090``.

    Raises:
        ValueError: It is no such address.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if host and port.isdecimal() and 0 < int(port) <= _MAX_PORT:
        return host, int(port)
    raise ValueError(
        f"{address!r} is no address of a Thrift server, such as 'localhost:9090'"
    )
