"""What an HTTP upstream can be told: limits, times, credentials."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["UpstreamOptions", "check_base"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """How one HTTP upstream behaves.

    Attributes:
        openapi: OpenAPI 3 document that says what the server offers: a file or a URL.
        route: Endpoint written by hand, such as 'get=GET /users/{id}'.
        only: Name of an endpoint to serve; all of the document by default.
        version: Semantic version on the bus; by default that of the document.
        timeout: Seconds a call may take when its caller gives no less.
        connect_timeout: Seconds to reach the server.
        keepalive_timeout: Seconds a connection may stay idle.
        max_connections: Connections to one server at once; more calls wait.
        max_response_bytes: Longest response, unpacked.
        max_redirects: Redirects to follow, on the same host only.
        header: Header to send with each call, such as 'X-Api-Key: secret'; a value
            '@/run/secrets/key' is read from that file.
        forward_authorization: Whether the caller's ``Authorization`` goes along.
        ca_file: Certificates to trust, PEM; those of the system by default.
        cert_file: Our own certificate, PEM.
        key_file: Key of our own certificate, PEM.
    """

    openapi: str = ""
    route: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    version: str = ""
    timeout: float = 5.0
    connect_timeout: float = 2.0
    keepalive_timeout: float = 30.0
    max_connections: int = 100
    max_response_bytes: int = 16 << 20
    max_redirects: int = 5
    header: tuple[str, ...] = ()
    forward_authorization: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout", "keepalive_timeout"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive seconds")
        for name in ("max_connections", "max_response_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_redirects < 0:
            raise ValueError("max_redirects must not be negative")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs cert_file")
        self.headers()

    def headers(self) -> dict[str, str]:
        """Return the headers that go with each call, by name.

        Raises:
            ValueError: One is no header.
        """
        found = {}
        for line in self.header:
            name, _, value = line.partition(":")
            name, value = name.strip(), _value(value.strip())
            if not (name and value and (name + value).isprintable()):
                # The line may hold a secret, so it is not told.
                raise ValueError("a header is not of the form 'Name: value'")
            found[name] = value
        return found

    def with_version(self, version: str) -> UpstreamOptions:
        """Return these options with `version` where they say none."""
        return self if self.version else dataclasses.replace(self, version=version)


def _value(text: str) -> str:
    """Return the value of a header, from its file if it names one."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text().strip()
    except OSError as exc:
        raise ValueError(f"cannot read {text[1:]}: {exc.strerror}") from exc


def check_base(address: str) -> str:
    """Return the address of a server, without a slash at its end.

    Raises:
        ValueError: It is no HTTP address.
    """
    try:
        parts = urlsplit(address)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, has_host = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not has_host:
        raise ValueError(
            f"{address!r} is no address of a server, such as 'https://api.example/v1'"
        )
    if parts.username or parts.password:
        raise ValueError(
            "an address must not hold a password; give a header:"
            " --header 'Authorization: Basic ...'"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{address!r}: an address ends with its path, without ? or #")
    return address.rstrip("/")
