"""Reaches one server: its address out of the pool, TLS, and the proof of who we are.

One try each; when to try again, and all that goes over the link, is `Connection`'s.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from kitmsg.bus.credentials import Signer
from kitmsg.bus.link import Link
from kitmsg.bus.natspy import Client, Srv, errors

if TYPE_CHECKING:
    from kitmsg.bus.options import NatsOptions

__all__ = ["Dialer", "backoff", "text_of"]

_log = logging.getLogger("kitmsg.bus")

_LINE_BYTES: Final = 1 << 20  # the INFO of a big cluster is a long line
_REMEMBERED: Final = 1000
_FIRST_WAIT: Final = 0.25
_SLOWEST_ROUND: Final = 3  # 0.25 s doubled so often is the longest wait


class Dialer(Client):
    """A client of nats-py up to the end of the handshake.

    Args:
        settings: How to reach the servers, and as whom.

    Raises:
        InvalidArgument: The credentials in `settings` cannot be used.
    """

    def __init__(self, settings: NatsOptions) -> None:
        super().__init__()
        self._settings = settings
        # nats-py's own reader of creds files never ends on a file without a JWT.
        self._signer = Signer(settings) if settings.needs_signer else None
        # Complaints of servers that are in the log already; bounded.
        self._complained: set[str] = set()

    # -- the pool -----------------------------------------------------------------

    def add_servers(self, pool: tuple[str, ...]) -> None:
        """Put those of `pool` that are not known yet before the others."""
        known = {srv.uri.netloc for srv in self._server_pool}
        uris = [self._parse_server_uri(url) for url in pool]
        self._server_pool[:0] = [Srv(uri) for uri in uris if uri.netloc not in known]

    def set_servers(self, pool: tuple[str, ...]) -> None:
        """Take later servers from `pool`, and from those that the cluster told of."""
        known = {srv.uri.netloc: srv for srv in self._server_pool}
        uris = {uri.netloc: uri for uri in map(self._parse_server_uri, pool)}
        told = {name: srv for name, srv in known.items() if srv.discovered}
        given = {name: known.get(name) or Srv(uri) for name, uri in uris.items()}
        # In place: whoever connects just now reads it.
        self._server_pool[:] = {**given, **told}.values()

    def servers_but(self, server: Srv | None) -> list[Srv]:
        """Return the others of the pool."""
        return [other for other in self._server_pool if other is not server]

    def next_attempt(self, attempt: int, error: Exception) -> int:
        """Count; who is refused goes on at the slowest pace, it takes a person."""
        refused = isinstance(error, errors.Error) and "auth" in text_of(error).lower()
        return max(attempt + 1, _SLOWEST_ROUND * len(self._server_pool) * refused)

    # -- one try ------------------------------------------------------------------

    async def dial(self, server: str) -> None:
        """Connect to `server` as nats-py does, handshake included."""
        settings, signer = self._settings, self._signer
        if signer is not None and not settings.creds:
            self._public_nkey = signer.public_key
        await super().connect(
            [server],
            error_cb=self._note_error,
            name=settings.name or None,
            allow_reconnect=False,
            connect_timeout=settings.connect_timeout,  # type: ignore[arg-type]
            ping_interval=settings.ping_interval,  # type: ignore[arg-type]
            dont_randomize=True,
            user=settings.user or None,
            password=settings.password or None,
            token=settings.token or None,
            signature_cb=signer.sign if signer is not None else None,
            user_jwt_cb=signer.jwt if signer is not None and settings.creds else None,
            inbox_prefix=settings.inbox_prefix,
            pending_size=0,
            tls=settings.ssl_context(),
            tls_hostname=settings.tls_hostname or None,
            tls_handshake_first=settings.tls_first,
        )

    async def _select_next_server(self) -> None:
        """Try the next server once; the caller decides about another try."""
        server = self._server_pool.pop(0)
        self._server_pool.append(server)
        self._current_server = server
        self._transport = Link()  # type: ignore[no-untyped-call]
        await self._transport.connect(
            server.uri,
            buffer_size=_LINE_BYTES,
            connect_timeout=self.options["connect_timeout"],
        )

    async def _process_info(
        self, info: dict[str, Any], initial_connection: bool = False
    ) -> None:
        """Follow what the server says of itself; see that TLS is used when wanted."""
        if initial_connection:
            self._require_tls(info)
        await super()._process_info(info, initial_connection)

    def _require_tls(self, info: dict[str, Any]) -> None:
        assert self._current_server is not None  # noqa: S101  # _select_next_server
        asked = "tls" in self.options or self._current_server.uri.scheme == "tls"
        if not asked or info.get("tls_required") or self._settings.tls_first:
            return
        if not info.get("tls_available"):
            raise errors.SecureConnWantedError
        info["tls_required"] = True  # nats-py upgrades when it reads this

    @property
    def lacks_certificate(self) -> bool:
        """Whether the server wants a client's certificate and there is none to show."""
        settings = self._settings
        wanted = bool(self._server_info.get("tls_verify"))
        return wanted and settings.tls is None and not settings.tls_cert

    # -- the link -----------------------------------------------------------------

    @property
    def link(self) -> Link:
        """The socket to the server; one was connected before."""
        assert isinstance(self._transport, Link)  # noqa: S101  # _select_next_server
        return self._transport

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when there is none."""
        return self._transport.fileno() if isinstance(self._transport, Link) else -1

    def stop_tasks(self) -> None:
        """Cancel the tasks of nats-py that use the link, but for the one that runs."""
        current = asyncio.current_task()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not current:
                task.cancel()

    def abort(self) -> None:
        """Let go of the socket and of the tasks that use it, without a wait."""
        self.stop_tasks()
        if isinstance(self._transport, Link):
            self._transport.abort()

    # -- complaints ---------------------------------------------------------------

    async def _note_error(self, error: Exception) -> None:
        """Note what nats-py reports; it calls this from the reader, so never wait."""
        if isinstance(error, errors.SlowConsumerError):
            self.complain_once(f"slow consumer on {error.sub.subject!r}")
        else:
            _log.debug("nats-py reports: %s", text_of(error))

    def complain(self, attempt: int, error: Exception) -> None:
        """Log the first failure to connect again, then each tenth."""
        level = logging.WARNING if attempt % 10 == 0 else logging.DEBUG
        text = text_of(error)
        _log.log(level, "cannot connect to NATS at %s yet: %s", self.where(), text)

    def complain_once(self, text: str) -> None:
        """Log what the server at the other end is not content with; each text once."""
        if text not in self._complained and len(self._complained) < _REMEMBERED:
            self._complained.add(text)
            _log.warning("NATS at %s: %s", self.where(), text)

    def where(self) -> str:
        """Return the address of the server, for messages."""
        server = self._current_server
        return f"{server.uri.scheme}://{server.uri.netloc}" if server else "no server"


def text_of(error: BaseException) -> str:
    """Return the words of `error`, without those that nats-py puts before and after."""
    return (str(error) or type(error).__name__).removeprefix("nats: ").strip("'")


def backoff(attempt: int, servers: int) -> float:
    """Return how long to wait before `attempt`, in seconds: less with more servers."""
    longest = _FIRST_WAIT * 2.0 ** min(attempt // servers, _SLOWEST_ROUND)
    jitter = random.uniform(0.5, 1)  # noqa: S311  # spreads load
    return longest * jitter / servers
