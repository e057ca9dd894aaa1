"""Options of a gRPC upstream, beside those that every upstream has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kitmsg_gateways.upstream.options import CommonOptions, address_parts, header_pairs

__all__ = ["UpstreamOptions", "check_address"]


@dataclass(frozen=True, kw_only=True)
class UpstreamOptions(CommonOptions):
    """Options of a gRPC upstream.

    Attributes:
        proto: File that says what the server offers: a .proto or a compiled descriptor
            set.
        proto_path: Folder where the imports of a .proto are.
        reflection: Whether to ask the server what it offers.
        service: Full name of the gRPC service, where there are several.
        error_field: Field of a reply that tells of a failure when it is not empty, such
            as `err` in Go kit's examples.
        keepalive_interval: Seconds of silence after which the server is asked for a sign
            of life while calls wait.
        max_message_bytes: Longest message, in either direction.
        metadata: Metadata to send with each call, such as 'x-api-key: secret'; a value
            '@/run/secrets/key' is read from that file.
        forward_authorization: Whether the caller's ``Authorization`` goes along.
        tls: Whether to use TLS; an address may say so too: grpcs://host:port.
    """

    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (("cert_file", "key_file"),)

    proto: tuple[str, ...] = ()
    proto_path: tuple[str, ...] = ()
    reflection: bool = False
    service: str = ""
    error_field: str = ""
    keepalive_interval: float = 60.0
    max_message_bytes: int = 16 << 20
    metadata: tuple[str, ...] = ()
    forward_authorization: bool = False
    tls: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.fixed_metadata()

    def fixed_metadata(self) -> dict[str, str]:
        """Return the metadata that goes with each call, by key in lower case.

        Raises:
            ValueError: One is no pair of key and printable ASCII text.
        """
        lines = [line.partition(":") for line in self.metadata]
        lowered = [f"{key.lower()}:{value}" for key, _, value in lines]
        return header_pairs(
            lowered,
            "metadata",
            "key: value",
            name=r"[0-9a-z_.-]+",
            value=r"[\x20-\x7e]+",
        )


def check_address(address: str) -> str:
    """Return the address of a server.

    Raises:
        ValueError: It is not of the form ``host:port`` or ``grpcs://host:port``.
    """
    address_parts(
        address.removeprefix("grpcs://").removeprefix("grpc://"),
        "a server, such as 'shop.example:50051' or 'grpcs://shop.example:443'",
    )
    return address.rstrip("/")
