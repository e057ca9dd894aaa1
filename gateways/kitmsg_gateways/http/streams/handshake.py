"""The request that becomes a WebSocket.  Source: RFC 6455, section 4.2.

A page of any origin may try to connect, and the browser does not ask us first as it does
for other requests; so foreign pages are refused here, unless ``cors_origins`` names them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Final

from aiohttp.http import HttpVersion11

from kitmsg.codec import JSON, MSGPACK
from kitmsg.errors import Code, InvalidArgument
from kitmsg_gateways.http.cors import is_own
from kitmsg_gateways.http.errors import Problem

if TYPE_CHECKING:
    from aiohttp import web

    from kitmsg.codec import Codec
    from kitmsg_gateways.http.cors import Cors
    from kitmsg_gateways.http.visit import Visit

__all__ = ["PROTOCOLS", "accept_headers", "check_origin", "is_upgrade", "protocol_of"]

PROTOCOLS: Final[dict[str, Codec]] = {"kitmsg.json": JSON, "kitmsg.msgpack": MSGPACK}
"""Subprotocols, and the codec that each means; the first is the usual one."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_VERSION: Final = "13"
_FORBIDDEN: Final = 403
_UPGRADE_REQUIRED: Final = 426
_UPGRADES: Final = re.compile(r"(^|,)\s*upgrade\s*(,|$)", re.IGNORECASE)


def is_upgrade(request: web.BaseRequest) -> bool:
    """Tell whether a request wants to become a WebSocket; one of HTTP/1.0 cannot."""
    return (
        request.version >= HttpVersion11
        and request.headers.get("Upgrade", "").strip().lower() == "websocket"
        and request.method == "GET"
        and bool(_UPGRADES.search(request.headers.get("Connection", "")))
    )


def check_origin(visit: Visit, cors: Cors) -> None:
    """Refuse pages of origins that may not connect; clients that are no browser may.

    Raises:
        Problem: 403.
    """
    given = visit.request.headers.getall("Origin", [])
    if not given or (len(given) == 1 and cors.allows(given[0])) or is_own(given, visit):
        return
    raise Problem(
        _FORBIDDEN,
        Code.PERMISSION_DENIED,
        "pages of this origin may not connect; the gateway's cors_origins lists those"
        " that may",
        field="Origin",
    )


def protocol_of(request: web.BaseRequest) -> str:
    """Return the subprotocol that a client wants; "" if it does not say.

    Raises:
        InvalidArgument: It wants others than ours.
    """
    given = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    wanted = [name.strip() for name in given.split(",") if name.strip()]
    for name in wanted:
        if name in PROTOCOLS:
            return name
    if wanted:
        raise InvalidArgument(
            f"no subprotocol of these is known; offer {' or '.join(PROTOCOLS)}, or none",
            field="Sec-WebSocket-Protocol",
        )
    return ""


def accept_headers(request: web.BaseRequest, protocol: str) -> dict[str, str]:
    """Return the headers that make it a WebSocket.

    Raises:
        Problem: 426; it wants another version.
        InvalidArgument: Its key is none.
    """
    if request.headers.get("Sec-WebSocket-Version") != _VERSION:
        raise Problem(
            _UPGRADE_REQUIRED,
            Code.INVALID_ARGUMENT,
            f"only version {_VERSION} of the WebSocket protocol is spoken here",
            field="Sec-WebSocket-Version",
            headers={"Sec-WebSocket-Version": _VERSION},
        )
    key, *more = request.headers.getall("Sec-WebSocket-Key", [""])
    if more or not _is_key(key):
        raise InvalidArgument(
            "Sec-WebSocket-Key must come once, and be 16 bytes in base64",
            field="Sec-WebSocket-Key",
        )
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
    }
    return headers | ({"Sec-WebSocket-Protocol": protocol} if protocol else {})


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False
