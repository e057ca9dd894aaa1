"""ZooKeeper: children of a node, by watches; ephemeral nodes.

    zk://10.0.0.2:2181,10.0.0.3:2181/services/payments

Options: ``session``, seconds of silence after which the other side counts as gone,
``timeout``, user and password before the hosts (scheme ``digest``), TLS.  An entry is an
ephemeral node called as the instance's address, see `kitmsg.discovery.value` for its data;
``acl`` is ``open``, ``creator`` (only that user may read or write, usual where there is
one) or ``read`` (others may read).

The client is kazoo, which has threads: two of them for each session, and they end with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Self, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError, NodeExistsError, NoNodeError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState
from kazoo.retry import KazooRetry
from kazoo.security import (
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
    READ_ACL_UNSAFE,
)

from kitmsg.bus import Bus
from kitmsg.discovery.address import TLS_OPTIONS, Address, join_host_port
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import MAX_BYTES
from kitmsg.discovery.value import Reader, encode
from kitmsg.errors import Unavailable

__all__ = ["ZooKeeperEntry", "ZooKeeperSource", "entry", "source"]

T = TypeVar("T")

_PORT: Final = 2181
_GOODBYE_SECONDS: Final = 1.0  # for the server to take note of the end of a session
_COMMON: Final = ("session", "timeout", *TLS_OPTIONS)
_ACLS: Final = {
    "open": OPEN_ACL_UNSAFE,
    "creator": CREATOR_ALL_ACL,
    "read": [*CREATOR_ALL_ACL, *READ_ACL_UNSAFE],
}


class _Chatter(logging.LoggerAdapter[logging.Logger]):
    """kazoo's log, for debugging: the one line per change of state is the instancer's."""

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)


_log = _Chatter(logging.getLogger("kitmsg.discovery.kazoo"))


class ZooKeeperSource:
    """Instances that the children of a node name.

    Args:
        address: With the scheme ``zk``.

    Raises:
        ValueError: The address lacks the node, or has something ZooKeeper does not.
    """

    def __init__(self, address: Address) -> None:
        address.expect(*_COMMON)
        self.name = str(address)
        self._address = address
        self._path = _path(address)
        self._reader = Reader(self.name)
        _Session(address)  # says now what is wrong

    async def sets(self) -> AsyncGenerator[Sequence[Instance], None]:
        """Yield the instances after every change."""
        changes: asyncio.Queue[str] = asyncio.Queue()
        entries: dict[str, bytes] = {}
        async with _Session(self._address) as session:
            stale = {self._path}
            while True:
                if self._path in stale:
                    names = await self._children(session, changes)
                    for name in entries.keys() - names:
                        del entries[name]
                    stale |= names - entries.keys()
                    stale.discard(self._path)
                await self._read(session, stale, entries, changes)
                yield self._reader.read(entries)
                stale = {await session.unless_lost(changes.get(), None)}
                while not changes.empty():
                    stale.add(changes.get_nowait())

    async def _children(
        self, session: _Session, changes: asyncio.Queue[str]
    ) -> set[str]:
        """Return the names below the node, none if there is no node; watch for others."""
        watch = session.watch(changes, self._path)
        while True:
            try:
                return set(await session.do("get_children", self._path, watch=watch))
            except NoNodeError:
                if await session.do("exists", self._path, watch=watch) is None:
                    return set()

    async def _read(
        self,
        session: _Session,
        names: set[str],
        entries: dict[str, bytes],
        changes: asyncio.Queue[str],
    ) -> None:
        """Read the data of some children into `entries`, and watch for other data."""
        wanted = sorted(names)
        answers = await asyncio.gather(
            *(
                session.do(
                    "get", f"{self._path}/{name}", watch=session.watch(changes, name)
                )
                for name in wanted
            ),
            return_exceptions=True,
        )
        for name, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, NoNodeError):
                entries.pop(name, None)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                entries[name] = answer[0]


class ZooKeeperEntry:
    """An instance as an ephemeral node.

    Args:
        address: With the scheme ``zk``.
        instance: The instance.

    Raises:
        ValueError: The address lacks the node, or has something ZooKeeper does not.
    """

    def __init__(self, address: Address, instance: Instance) -> None:
        address.expect("acl", *_COMMON)
        acl = address.text("acl", "creator" if address.user else "open")
        if acl not in _ACLS:
            raise address.wrong(f"acl is one of {', '.join(_ACLS)}, not {acl!r}")
        self._acl = _ACLS[acl]
        self.name = f"{address} ({instance})"
        self.every = address.number("session", 10.0) / 3
        self._address = address
        self._path = f"{_path(address)}/{instance.address}"
        self._value = encode(instance)
        self._session: _Session | None = None
        _Session(address)  # says now what is wrong

    async def announce(self) -> None:
        """Begin a session and create the node in it, over one of an older session."""
        await self.close()
        self._session = await _Session(self._address).__aenter__()
        await self._make_parents(self._session)
        create = {"acl": self._acl, "ephemeral": True}
        try:
            await self._session.do("create", self._path, self._value, **create)
        except NodeExistsError:
            # Of a session that was lost: nobody else has our address.  At one time, so
            # that nobody sees the set without us.
            await self._session.replace(self._path, self._value, create)

    async def _make_parents(self, session: _Session) -> None:
        """Create the service's node, for this user, and those above it, for everybody."""
        service = self._path.rpartition("/")[0]
        if await session.do("exists", service) is None:
            above = service.rpartition("/")[0]
            if above:
                await session.do("ensure_path", above, acl=OPEN_ACL_UNSAFE)
            with contextlib.suppress(NodeExistsError):
                await session.do("create", service, b"", acl=self._acl)

    async def renew(self) -> bool:
        """See that the session lives and the node is its own; kazoo renews the session."""
        return await self._owned()

    async def withdraw(self) -> None:
        """Delete the node, if it is this session's."""
        if self._session is not None and await self._owned():
            with contextlib.suppress(NoNodeError):
                await self._session.do("delete", self._path)

    async def close(self) -> None:
        """End the session."""
        session, self._session = self._session, None
        if session is not None:
            await session.__aexit__()

    async def _owned(self) -> bool:
        if self._session is None:
            return False
        stat = await self._session.do("exists", self._path)
        return stat is not None and stat.ephemeralOwner == self._session.id


class _Bounded:
    """A socket that reads no answer that is longer than any should be."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv(self, size: int) -> bytes:
        """Read; kazoo asks for all that is left of an answer."""
        if not 0 <= size <= MAX_BYTES:
            raise ConnectionError(f"an answer is said to have {size} bytes")
        return self._sock.recv(size)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's threads, of which none dies loudly: a bad answer ends the session instead.

    Args:
        ended: Called when the connection's thread ends, in it: kazoo tells nobody when it
            could not connect.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        super().__init__()
        self._ended = ended
        self._sock: _Bounded | None = None

    def spawn(self, func: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
        """Start a thread."""

        def quiet() -> None:
            try:
                func(*args, **kwargs)
            except Exception:  # noqa: BLE001  the session's end is told by its state
                _log.exception("a session ended")
            if getattr(func, "__name__", "") == "zk_loop":
                self._ended()

        thread = threading.Thread(target=quiet, daemon=True, name="kitmsg-zookeeper")
        thread.start()
        return thread

    def create_connection(self, *args: Any, **kwargs: Any) -> _Bounded:
        """Connect."""
        self._sock = _Bounded(super().create_connection(*args, **kwargs))
        return self._sock

    def cut(self) -> None:
        """End the connection, and with it all waits for answers."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


class _Session:
    """One session, from its beginning to the first trouble.

    kazoo would connect again by itself; the loops of `kitmsg.discovery` do that for every
    system, so a session that loses its connection is over.
    """

    def __init__(self, address: Address) -> None:
        self._timeout = address.number("timeout", 5.0, least=0.1)
        hosts = [join_host_port(*each) for each in address.servers(_PORT)]
        has_tls = address.tls() is not None  # reads the files, too
        self._options = {
            "hosts": ",".join(hosts),
            "timeout": address.number("session", 10.0, least=0.1),
            # One round over the hosts: kazoo takes 0 for no end, and would spin.
            "connection_retry": KazooRetry(max_tries=1),
            "command_retry": KazooRetry(max_tries=1),
            "auth_data": [("digest", f"{address.user}:{address.password}")]
            if address.user
            else [],
            "use_ssl": has_tls,
            "ca": address.text("ca") or None,
            "certfile": address.text("cert") or None,
            "keyfile": address.text("key") or None,
            "logger": _log,
        }

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._handler = _Handler(lambda: self._heard(KazooState.LOST))
        self._client = KazooClient(handler=self._handler, **self._options)
        self._client.add_listener(self._heard)
        self._client.start_async()
        try:
            await self.unless_lost(self._connected, self._timeout)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.remove_listener(self._heard)
        ended = asyncio.Event()

        def end() -> None:
            try:
                self._client.stop()
                self._client.close()
            except Exception:  # noqa: BLE001  kazoo raises bare ones; there is nothing to do
                _log.exception("a session did not end well")
            self._soon(ended.set)

        thread = threading.Thread(target=end, daemon=True, name="kitmsg-zookeeper")
        thread.start()  # it joins kazoo's
        cutting = self._loop.call_later(_GOODBYE_SECONDS, self._handler.cut)
        try:
            await _to_the_end(ended.wait())
        finally:
            cutting.cancel()

    @property
    def id(self) -> int:
        """The session's id, which its ephemeral nodes have."""
        return int(self._client.client_id[0])

    async def do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Return the answer to one of kazoo's commands.

        Raises:
            KazooException: ZooKeeper refuses it.
            Unavailable: There is no answer in time, or the session is over.
        """
        answer: asyncio.Future[Any] = self._loop.create_future()
        result = getattr(self._client, f"{name}_async")(*args, **kwargs)
        result.rawlink(lambda done: self._soon(_settle, answer, done))
        return await self._answered(answer)

    async def replace(self, path: str, value: bytes, how: dict[str, Any]) -> None:
        """Delete a node and create it anew, in one step.

        Raises:
            Unavailable: That was not possible, or as `do`.
        """
        both = self._client.transaction()
        both.delete(path)
        both.create(path, value, **how)
        answer: asyncio.Future[Any] = self._loop.create_future()
        both.commit_async().rawlink(lambda done: self._soon(_settle, answer, done))
        for each in await self._answered(answer):
            if isinstance(each, Exception):
                raise Unavailable(f"{path} cannot be replaced: {type(each).__name__}")

    async def _answered(self, answer: asyncio.Future[Any]) -> Any:
        try:
            return await self.unless_lost(answer, self._timeout)
        except NoAuthError as exc:
            raise Unavailable("access refused by the node's ACL") from exc

    async def unless_lost(self, answer: Awaitable[T], seconds: float | None) -> T:
        """Return what is awaited.

        Raises:
            Unavailable: The session is over before, or the time is.
        """
        waiting = asyncio.ensure_future(answer)
        try:
            both: set[asyncio.Future[Any]] = {waiting, self._lost}
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait(both, timeout=seconds, return_when=first)
            if waiting.done():
                return await waiting
        finally:
            waiting.cancel()
        if not self._lost.done():
            raise Unavailable(f"no answer within {seconds:g} s")
        connected = self._connected.done() and not self._connected.cancelled()
        raise Unavailable("the connection was lost" if connected else "cannot connect")

    def watch(self, changes: asyncio.Queue[str], name: str) -> Callable[[Any], None]:
        """Return a watch that puts `name` into a queue."""
        return lambda _: self._soon(changes.put_nowait, name)

    def _heard(self, state: str) -> None:
        """Take note of a state; called in one of kazoo's threads."""
        future = self._connected if state == KazooState.CONNECTED else self._lost
        self._soon(_resolve, future)

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *args)


def _settle(answer: asyncio.Future[Any], done: Any) -> None:
    """Give a future the result of kazoo's."""
    if answer.done():
        return
    if done.exception is None:
        answer.set_result(done.value)
    else:
        answer.set_exception(done.exception)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _to_the_end(work: Coroutine[Any, Any, Any]) -> None:
    """Wait for `work` also when cancelled; then the cancellation goes on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        raise cancelled


def source(address: Address, bus: Bus | None, /) -> ZooKeeperSource:
    """Return the children that an address means; see `InstancerKind`."""
    return ZooKeeperSource(address)


def entry(address: Address, instance: Instance, /) -> ZooKeeperEntry:
    """Return the entry that an address means; see `RegistrarKind`."""
    return ZooKeeperEntry(address, instance)


def _path(address: Address) -> str:
    path = address.path.strip("/")
    if not path:
        raise address.wrong("say which node: zk://host:2181/services/payments")
    return f"/{path}"
