"""Options of every upstream: which endpoints, limits, times, credentials."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from kitmsg.balance.named import parse_picker
from kitmsg_gateways.edge.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CommonOptions", "address_parts", "header_pairs", "tls_context"]

_MAX_PORT = 65_535


@dataclass(frozen=True, kw_only=True)
class CommonOptions(Options):
    """Options that every upstream has.

    Attributes:
        only: Name of an endpoint to serve; all by default.
        version: Semantic version on the bus; by default the server's, where it tells one.
        timeout: Seconds a call may take when its caller gives no less.
        connect_timeout: Seconds to reach the server.
        ca_file: Certificates to trust, PEM; those of the system by default.
        cert_file: Our own certificate, PEM.
        key_file: Key of our own certificate, PEM.
        breaker: Whether a server that cannot keep up is sent only as many calls as it
            answers, and a few to try it.
        pick: Picker of the server of a call: p2c, roundrobin, random, weighted, or
            ring:FIELD for the same one for the same field; behind zone:NAME, subset:N,
            slowstart:SECONDS or outlier and a comma, such as outlier,zone:eu-1,p2c.
    """

    NEEDS: ClassVar[tuple[tuple[str, str], ...]] = (("key_file", "cert_file"),)

    only: tuple[str, ...] = ()
    version: str = ""
    timeout: float = 5.0
    connect_timeout: float = 2.0
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    breaker: bool = True
    pick: str = "p2c"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            parse_picker(self.pick)
        except ValueError as exc:
            raise ValueError(f"pick: {exc}") from None


def header_pairs(
    lines: Iterable[str], noun: str, form: str, *, name: str, value: str
) -> dict[str, str]:
    """Return lines such as ``X-Api-Key: secret`` as names and values.

    Args:
        lines: As options give them; a value ``@/run/secrets/key`` is read from that file.
        noun: Noun for a line, with its article, for messages.
        form: Form of a line, for messages.
        name: Pattern of a name.
        value: Pattern of a value.

    Raises:
        ValueError: A line is none, or a file cannot be read.
    """
    found = {}
    for line in lines:
        key, _, text = (part.strip() for part in line.partition(":"))
        text = _secret(text) if text.startswith("@") else text
        if not re.fullmatch(name, key) or not re.fullmatch(value, text):
            # The line may hold a secret, so it is not told.
            raise ValueError(f"{noun} is not of the form {form!r}")
        found[key] = text
    return found


def _secret(text: str) -> str:
    try:
        return Path(text[1:]).read_text(encoding="ascii").strip()
    except UnicodeDecodeError as exc:
        raise ValueError(f"cannot read {text[1:]}: it is not ASCII") from exc
    except OSError as exc:
        raise ValueError(f"cannot read {text[1:]}: {exc.strerror}") from exc


def address_parts(
    address: str, wanted: str = "a server, such as 'host:9090'"
) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[host]:port``.

    Args:
        address: The address, which may end with a slash.
        wanted: Its server, for messages.

    Raises:
        ValueError: It is no such address.
    """
    found = re.fullmatch(
        r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})/?", address
    )
    if found is None or not 0 < int(found[3]) <= _MAX_PORT:
        raise ValueError(f"{address!r} is no address of {wanted}")
    return found[1] or found[2], int(found[3])


def tls_context(options: CommonOptions) -> ssl.SSLContext:
    """Return the TLS context of a client: whom it trusts, and its own certificate.

    Raises:
        ValueError: A file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file or None)
    except OSError as exc:  # an SSLError is one
        raise ValueError(f"the files for TLS cannot be used: {exc}") from exc
    return context
