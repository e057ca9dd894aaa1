"""Options of an HTTP upstream, beside those that every upstream has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final
from urllib.parse import urlsplit

from kitmsg_gateways.upstream.options import CommonOptions, header_pairs

__all__ = ["UpstreamOptions", "check_address"]

_TEXT: Final = r"[\x20-\x7e]+"


@dataclass(frozen=True, kw_only=True)
class UpstreamOptions(CommonOptions):
    """Options of an HTTP upstream.

    Attributes:
        openapi: OpenAPI 3 document that says what the server offers: a file or a URL.
        route: Endpoint written by hand, such as 'get=GET /users/{id}'.
        keepalive_timeout: Seconds a connection may stay idle.
        max_connections: Connections to one server at once; more calls wait.
        max_response_bytes: Longest response, unpacked.
        max_redirects: Redirects to follow, on the same host only.
        header: Header to send with each call, such as 'X-Api-Key: secret'; a value
            '@/run/secrets/key' is read from that file.
        forward_authorization: Whether the caller's ``Authorization`` goes along.
    """

    ZERO: ClassVar[tuple[str, ...]] = ("max_redirects",)

    openapi: str = ""
    route: tuple[str, ...] = ()
    keepalive_timeout: float = 30.0
    max_connections: int = 100
    max_response_bytes: int = 16 << 20
    max_redirects: int = 5
    header: tuple[str, ...] = ()
    forward_authorization: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.headers()

    def headers(self) -> dict[str, str]:
        """Return the headers that go with each call, by name.

        Raises:
            ValueError: One is no header.
        """
        return header_pairs(
            self.header, "a header", "Name: value", name=_TEXT, value=_TEXT
        )


def check_address(address: str) -> str:
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
