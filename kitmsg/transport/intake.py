"""Shared intake of one service's servers: mailbox, membership of the queue group, drain.

An instance that fills up leaves the queue group, so that the NATS server routes to members
with room, and comes back when it has room again.  It stays reachable on its own subject.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.bus import Bus
from kitmsg.codec import JSON
from kitmsg.context import Context
from kitmsg.errors import Disconnected, KitError, Unimplemented
from kitmsg.mailbox import Mailbox
from kitmsg.threads import Beside
from kitmsg.transport.lateness import Lateness
from kitmsg.transport.replies import encode_error
from kitmsg.transport.transfer import MAX_BYTES, Fetcher
from kitmsg.wire import CANCEL, direct_subject

if TYPE_CHECKING:
    from kitmsg.bus import Subscription
    from kitmsg.message import Message

__all__ = ["Intake", "Served"]

_log = logging.getLogger("kitmsg.transport")

_UNLIMITED: Final = 1 << 30
_FLUSH_SECONDS: Final = 1.0  # for a bus that hangs, when there is no time left


class Served(Protocol):
    """A server, as its intake knows it; see `kitmsg.transport.server.Server`."""

    @property
    def subject(self) -> str:
        """The subject of its requests."""
        ...

    @property
    def queue(self) -> str:
        """Its own queue group; "" for that of the intake."""
        ...

    def receive(self, message: Message, /) -> None:
        """Take a request."""
        ...

    def cancel(self, reply: str, /) -> bool:
        """End what runs beside the mailbox and answers on `reply`; False if nothing does."""
        ...

    async def wind_down(self, seconds: float, /) -> None:
        """Wait for what goes on after its turns."""
        ...


class Intake:
    """Receives for the servers of one service.

    Args:
        bus: What carries the messages.
        service: Its name, for logs.
        queue: Queue group; "" to receive every message on every instance.
        concurrency: Turns at once, and threads for those that block.
        mailbox: Turns that may wait.
        max_bytes: Longest request, and longest reply.
        instance: Unique name of this instance; "" to be reachable through the group only.
        off: Which defaults to do without; see `kitmsg.service.declare.DEFAULTS`.

    Attributes:
        mailbox: Holds the turns of all its servers.
        beside: Where the threads of what runs beside the mailbox belong.
    """

    def __init__(
        self,
        bus: Bus,
        service: str,
        *,
        queue: str = "q",
        concurrency: int = 64,
        mailbox: int = 4096,
        max_bytes: int = MAX_BYTES,
        instance: str = "",
        off: Collection[str] = (),
    ) -> None:
        self.bus = bus
        self.service = service
        self.queue = queue
        self.instance = instance
        self.off = frozenset(off)
        sheds = "shedding" not in self.off
        threads = ThreadPoolExecutor(
            concurrency, thread_name_prefix=f"kitmsg-{service}"
        )
        self.beside = Beside(threads)
        self.mailbox = Mailbox(
            concurrency=_UNLIMITED if "limit" in self.off else concurrency,
            size=_UNLIMITED if "limit" in self.off else mailbox,
            on_full=self._leave if sheds else None,
            on_stuck=self._stuck,
            on_room=self._join if sheds else None,
            sheds=sheds,
            soon=bus.soon,
            executor=threads,
            threads=concurrency,
        )
        self.max_bytes = max_bytes
        self.fetcher = Fetcher(bus, max_bytes=max_bytes)
        self.lateness = Lateness(bus.stood)
        self.servers: dict[str, Served] = {}
        self._group: list[Subscription] = []
        self._own: list[Subscription] = []
        self._is_open = False

    @property
    def is_member(self) -> bool:
        """Whether the queue group's messages come here now."""
        return bool(self._group)

    def add(self, server: Served) -> None:
        """Receive for one more server; before `start`.

        Raises:
            ValueError: Another server has the same subject.
        """
        if server.subject in self.servers:
            raise ValueError(f"two endpoints are served on {server.subject!r}")
        self.servers[server.subject] = server

    async def start(self) -> None:
        """Join the queue group; returns when the bus knows.

        Raises:
            Disconnected: The bus was lost meanwhile.
        """
        self._is_open = True
        for first in {subject.partition(".")[0] for subject in self.servers}:
            cancel = self.bus.subscribe(f"{CANCEL}.{first}", self._cancelled)
            self._own.append(cancel)
        if self.instance:
            direct = direct_subject(self.service, self.instance, ">")
            self._own.append(self.bus.subscribe(direct, self._received_directly))
        self._join()
        await self.bus.flush()

    async def leave(self, timeout: float = 5.0) -> None:
        """Leave the queue group for good; returns when no new message can come that way.

        Args:
            timeout: Longest wait for the bus, in seconds; a second is given anyway.
        """
        self._is_open = False
        self._leave()
        try:
            await self.bus.flush(max(_FLUSH_SECONDS, timeout))
        except KitError as exc:
            _log.warning("%s: left without the bus knowing: %s", self.service, exc)

    async def drain(self, timeout: float = 25.0) -> None:
        """Leave, finish what is in the mailbox within `timeout` seconds, answer the rest."""
        deadline = asyncio.get_running_loop().time() + timeout
        await self.leave(min(5.0, timeout))
        await self.fetcher.drain(max(0.0, deadline - asyncio.get_running_loop().time()))
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.gather(
            self.mailbox.drain(left),
            *(server.wind_down(left) for server in self.servers.values()),
        )
        for subscription in self._own:
            subscription.unsubscribe()
        self._own.clear()
        try:
            await self.bus.flush(_FLUSH_SECONDS)
        except KitError as exc:
            _log.warning("%s: drained without the bus: %s", self.service, exc)

    def _join(self) -> None:
        if not self._is_open or self._group:
            return
        try:
            for server in self.servers.values():
                subscribe = self.bus.subscribe
                self._group.append(
                    subscribe(
                        server.subject, server.receive, server.queue or self.queue
                    )
                )
        except Disconnected:
            _log.warning(
                "%s: cannot join the queue group, the bus is closed", self.service
            )

    def _stuck(self) -> None:
        _log.error(
            "%s is stuck: its %d threads run for calls that are over, so it takes no more"
            " until some end. Give what they wait for a timeout",
            self.service,
            self.mailbox.held,
        )

    def _leave(self) -> None:
        for subscription in self._group:
            subscription.unsubscribe()
        self._group.clear()

    def _received_directly(self, message: Message) -> None:
        subject = message.subject.split(".", 4)[4]
        server = self.servers.get(subject)
        if server is not None:
            server.receive(message)
        elif message.reply and self.bus.inboxes.takes(message.reply):
            missing = Unimplemented(f"{self.service} serves nothing on {subject!r}")
            data, header_block = encode_error(
                missing, request_id=Context().request_id, codec=JSON, declared={}
            )
            self.bus.publish(message.reply, data, "", header_block)

    def _cancelled(self, message: Message) -> None:
        """End what answers on the subjects that a caller gave up.

        That is rare, so nobody keeps a table of them: each turn would pay for it.
        """
        servers = self.servers.values()
        replies = {
            reply
            for reply in message.data.decode("ascii", "replace").split("\n")
            if reply
            and not self.fetcher.cancel(reply)
            and not any(server.cancel(reply) for server in servers)
        }
        running, waiting = self.mailbox.turns()
        for turn in (*running, *waiting):
            if turn.reply in replies:
                self.mailbox.cancel(turn)
