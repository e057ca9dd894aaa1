"""Options of a connection to NATS: address, TLS, credentials.  No I/O but their files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from kitmsg.bus.inboxes import DEFAULT_PREFIX
from kitmsg.errors import InvalidArgument
from kitmsg.message import check_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_SERVER", "NatsOptions", "mask_url", "parse_servers"]

DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"
_PORT: Final = 4222


@dataclass(frozen=True, kw_only=True)
class NatsOptions:
    """Everything a connection to NATS needs to know.  Its repr shows no secret.

    Args:
        servers: Addresses, ``nats://host:port`` or ``tls://host:port``, user left out.
        name: Shown in the server's list of connections.
        user: User name; needs `password`.
        password: The user's password.
        token: Token instead of a user.
        nkey_file: File with an nkey seed.
        nkey_seed: The nkey seed itself.
        creds: File with a user JWT and its seed.
        tls: A context of your own, instead of the four below.
        tls_ca: File with the authority that signed the server's certificate.
        tls_cert: File with this client's certificate.
        tls_key: File with its key; "" when `tls_cert` holds both.
        tls_hostname: Name the server's certificate must have; "" for the address's.
        tls_first: Begin with the TLS handshake, as ``handshake_first`` servers want.
        inbox_prefix: First tokens of the subjects that replies come on.
        peer_inboxes: Inbox prefixes of other clients that are answered too, beside
            ``_INBOX`` and what begins with ``_INBOX_``.
        connect_timeout: Longest time to connect to one server, in seconds.
        reconnect: Whether to connect again, for ever, after the connection is lost.
        wait: Whether to wait for the first connection too, instead of failing.
        ping_interval: Time between life signs, in seconds; two unanswered are the end.
        max_pending: Most bytes that wait to be written before `publish` refuses.
        fast: Whether to read past nats-py's own reader, where its version was tried.
    """

    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    nkey_file: str = ""
    nkey_seed: str = field(default="", repr=False)
    creds: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_hostname: str = ""
    tls_first: bool = False
    inbox_prefix: str = DEFAULT_PREFIX
    peer_inboxes: tuple[str, ...] = ()
    connect_timeout: float = 2.0
    reconnect: bool = True
    wait: bool = False
    ping_interval: float = 5.0
    max_pending: int = 8 << 20
    fast: bool = True

    def __post_init__(self) -> None:
        _check_one_way(self)
        for prefix in (self.inbox_prefix, *self.peer_inboxes):
            check_subject(prefix)
        for name in ("connect_timeout", "ping_interval", "max_pending"):
            if not getattr(self, name) > 0:
                raise InvalidArgument(f"{name} must be more than zero", field=name)

    @property
    def identity(self) -> str:
        """The way of authentication in words, without its secret."""
        words = {
            "creds": f"the credentials in {self.creds!r}",
            "nkey_file": f"the nkey in {self.nkey_file!r}",
            "nkey_seed": "an nkey",
            "user": f"user {self.user!r} and a password",
            "token": "a token",
        }
        return next((w for name, w in words.items() if getattr(self, name)), "no user")

    @property
    def needs_signer(self) -> bool:
        """Whether the server's challenge is to be signed."""
        return bool(self.creds or self.nkey_file or self.nkey_seed)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for TLS; None when nothing about TLS was asked for.

        Raises:
            InvalidArgument: A file cannot be read or does not hold what it should.
        """
        if self.tls is not None or not (self.tls_ca or self.tls_cert):
            return self.tls
        try:
            context = ssl.create_default_context(cafile=self.tls_ca or None)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key or None)
        except OSError as error:
            files = ", ".join(filter(None, (self.tls_ca, self.tls_cert, self.tls_key)))
            raise InvalidArgument(f"cannot use TLS files {files}: {error}") from error
        return context


def _check_one_way(options: NatsOptions) -> None:
    """Refuse two ways of authentication at once: one of them would be ignored."""
    ways = ("user", "token", "nkey_file", "nkey_seed", "creds")
    given = [way for way in ways if getattr(options, way)]
    if len(given) > 1:
        raise InvalidArgument(f"authenticate in one way, not by {' and '.join(given)}")
    if bool(options.user) != bool(options.password):
        raise InvalidArgument("user and password go together", field="user")
    if options.tls_key and not options.tls_cert:
        raise InvalidArgument("tls_key needs tls_cert", field="tls_key")


def parse_servers(servers: str | Sequence[str]) -> tuple[tuple[str, ...], str, str]:
    """Return the addresses in `servers`, and the user and password they carry.

    Args:
        servers: One address or many, as a list or separated by commas.  Scheme and
            port may be left out.  A user in an address holds for all of them, also for
            those that the cluster tells about.

    Returns:
        Addresses without users, the user (or a token, with no password), the password.

    Raises:
        InvalidArgument: An address cannot be read, or two name different users.
    """
    text = servers if isinstance(servers, str) else ",".join(servers)
    urls = [_parse(url.strip()) for url in text.split(",") if url.strip()]
    if not urls:
        raise InvalidArgument("no NATS server given", field="servers")
    users = {
        (unquote(url.username or ""), unquote(url.password or ""))
        for url in urls
        if url.username
    }
    if len(users) > 1:
        raise InvalidArgument("the NATS servers name different users; name one")
    user, password = users.pop() if users else ("", "")
    return tuple(dict.fromkeys(map(_address, urls))), user, password


def mask_url(url: str) -> str:
    """Return `url` with the user and password hidden."""
    scheme, found, rest = url.rpartition("://")
    return scheme + found + ("***@" + rest.rpartition("@")[2] if "@" in rest else rest)


def _parse(url: str) -> SplitResult:
    shown = mask_url(url)
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port_is_good = parts.port != 0
    except ValueError as error:
        raise InvalidArgument(f"NATS server {shown!r}: {error}") from None
    if parts.scheme not in ("nats", "tls"):
        raise InvalidArgument(f"NATS server {shown!r}: begin with nats:// or tls://")
    if not parts.hostname or not port_is_good or parts.path.strip("/"):
        raise InvalidArgument(f"NATS server {shown!r} is not nats://host:port")
    return parts


def _address(url: SplitResult) -> str:
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    return f"{url.scheme}://{host}:{url.port or _PORT}"
