"""Options of a Thrift upstream, beside those that every upstream has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kitmsg_gateways.upstream.options import CommonOptions, address_parts

__all__ = ["UpstreamOptions", "check_address"]


@dataclass(frozen=True, kw_only=True)
class UpstreamOptions(CommonOptions):
    """Options of a Thrift upstream.

    Attributes:
        thrift: The .thrift file that says what the server offers.
        thrift_path: Folder where files that it includes are.
        service: Which of its services; needed if it has several.
        protocol: Of the server: binary or compact.
        transport: Of the server: buffered (which is unframed) or framed.
        multiplexed: Whether the service's name goes in front of each method's.
        keepalive_timeout: Seconds a connection may stay idle.
        max_connections: Connections to one server at once; more calls wait.
        max_message_bytes: Longest answer.
        tls: Whether to speak TLS.
        forward_authorization: Whether the caller's ``Authorization`` goes along; in
            THeader's headers alone.
    """

    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "protocol": ("binary", "compact"),
        "transport": ("buffered", "framed", "header"),
    }
    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ca_file", "tls"),
        ("cert_file", "tls"),
    )

    thrift: str = ""
    thrift_path: tuple[str, ...] = ()
    service: str = ""
    protocol: str = "binary"
    transport: str = "buffered"
    multiplexed: bool = False
    keepalive_timeout: float = 30.0
    max_connections: int = 100
    max_message_bytes: int = 16 << 20
    tls: bool = False
    forward_authorization: bool = False


def check_address(address: str) -> str:
    """Return the address of a server.

    Raises:
        ValueError: It is not of the form ``host:port``.
    """
    address_parts(address, "a Thrift server, such as 'localhost:9090'")
    return address
