"""What a gRPC upstream can be told: what the server offers, limits, times, credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["UpstreamOptions", "check_address"]

_ADDRESS = re.compile(r"(?:(grpcs?)://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})/?")
_MOST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """How one gRPC upstream behaves.

    Attributes:
        proto: File that says what the server offers: a .proto or a compiled descriptor
            set.
        proto_path: Folder where the imports of a .proto are.
        reflection: Whether to ask the server what it offers.
        service: Full name of the gRPC service, where there are several.
        only: Name of an endpoint to serve; all of the service by default.
        error_field: Field of a reply that tells of a failure when it is not empty, such
            as `err` in Go kit's examples.
        version: Semantic version on the bus.
        timeout: Seconds a call may take when its caller gives no less.
        connect_timeout: Seconds to reach the server.
        keepalive_interval: Seconds of silence after which the server is asked for a sign
            of life while calls wait.
        max_message_bytes: Longest message, in either direction.
        metadata: Metadata to send with each call, such as 'x-api-key: secret'; a value
            '@/run/secrets/key' is read from that file.
        forward_authorization: Whether the caller's ``Authorization`` goes along.
        tls: Whether to use TLS; an address may say so too: grpcs://host:port.
        ca_file: Certificates to trust, PEM; those of the system by default.
        cert_file: Our own certificate, PEM.
        key_file: Key of our own certificate, PEM.
    """

    proto: tuple[str, ...] = ()
    proto_path: tuple[str, ...] = ()
    reflection: bool = False
    service: str = ""
    only: tuple[str, ...] = ()
    error_field: str = ""
    version: str = ""
    timeout: float = 5.0
    connect_timeout: float = 2.0
    keepalive_interval: float = 60.0
    max_message_bytes: int = 16 << 20
    metadata: tuple[str, ...] = ()
    forward_authorization: bool = False
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "keepalive_interval"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive seconds")
        if self.max_message_bytes < 1:
            raise ValueError("max_message_bytes must be at least 1")
        if bool(self.key_file) != bool(self.cert_file):
            raise ValueError("cert_file and key_file go together: give both or none")
        self.fixed_metadata()

    def fixed_metadata(self) -> dict[str, str]:
        """Return the metadata that goes with each call, by key.

        Raises:
            ValueError: One is no pair of key and printable ASCII text.
        """
        found = {}
        for line in self.metadata:
            key, _, value = line.partition(":")
            key, value = key.strip().lower(), _value(value.strip())
            if not re.fullmatch(r"[0-9a-z_.-]+", key) or not re.fullmatch(
                r"[\x20-\x7e]+", value
            ):
                # The line may hold a secret, so it is not told.
                raise ValueError("metadata is not of the form 'key: value'")
            found[key] = value
        return found


def _value(text: str) -> str:
    """Return a value, from its file if it names one."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"cannot read {text[1:]} as text") from exc


def check_address(address: str) -> str:
    """Return the address of a server.

    Raises:
        ValueError: It is not of the form ``host:port`` or ``grpcs://host:port``.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[3]) <= _MOST_PORT:
        raise ValueError(
            f"{address!r} is no address of a server, such as 'shop.example:50051' or"
            " 'grpcs://shop.example:443'"
        )
    return address.rstrip("/")
