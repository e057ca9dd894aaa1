"""The client of a call: its address, certificate and credentials.

Authentication is the edge's; this reads what gRPC's core tells.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from kitmsg.auth.certificates import named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.auth import Principal
    from kitmsg_gateways.edge.auth import Gate

__all__ = ["address", "admit", "certificate"]

_KINDS: Final = {
    "peer_uri": "URI",
    "peer_dns": "DNS",
    "peer_email": "email",
    "peer_ip": "IP Address",
}
_ESCAPED: Final = re.compile(rb"(?:\\[0-9A-F]{2})+")


def address(peer: str) -> str:
    """Return the address in a peer such as ``ipv4:127.0.0.1:50051``."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


async def admit(gate: Gate, context: Any) -> Principal | None:
    """Return who calls; None when nobody is asked.  Raises as `Gate.admit`."""
    given: dict[str, list[str]] = {"authorization": [], "x-api-key": []}
    for key, value in context.invocation_metadata():
        if key in given and isinstance(value, str):
            given[key].append(value)
    credentials = gate.auth.given(given["authorization"], given["x-api-key"])
    shown = certificate(context.auth_context())
    return await gate.admit(address(context.peer()), credentials, shown)


def certificate(facts: Mapping[str, Sequence[bytes]]) -> Principal | None:
    """Return the principal of the certificate that a client showed; None for nobody.

    Args:
        facts: As the core tells them, which has verified it; see
            ``grpc/grpc_security_constants.h``.
    """
    if "x509_pem_cert" not in facts:
        return None
    names = tuple(facts.get("x509_subject_alternative_name", ()))
    kinds = tuple(
        (name, kind) for key, kind in _KINDS.items() for name in facts.get(key, ())
    )
    return _principal(b"".join(facts.get("x509_subject", ())), names, kinds)


@lru_cache(maxsize=1024)
def _principal(
    subject: bytes, names: tuple[bytes, ...], kinds: tuple[tuple[bytes, str], ...]
) -> Principal | None:
    # The core escapes each byte beyond ASCII, which RFC 4514 leaves as it is.
    plain = _ESCAPED.sub(lambda found: bytes.fromhex(_hex(found[0])), subject)
    known = dict(kinds)
    listed = [f"{known[name]}:{_text(name)}" for name in names if name in known]
    return named(_text(plain), listed)


def _hex(escaped: bytes) -> str:
    return escaped.replace(b"\\", b"").decode()


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")
