"""An ordered consumer: the messages of a stream's subjects, in order, none left out.

A push consumer on an inbox of ours, without acks, that is made again from the last message
when one is missing, when the connection was lost, or when its heartbeats stop (NATS
ADR-17).  The server forgets it by itself after a while without us.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import DeadlineExceeded, KitError, Unavailable
from kitmsg.wire import JS_API, JS_LAST_CONSUMER

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream.api import Api
    from kitmsg.message import Message

__all__ = ["Feed"]

_HEARTBEAT: Final = 5.0
_SILENCE: Final = 2.5 * _HEARTBEAT  # then it is made again
_FORGOTTEN: Final = 30.0  # after so long without interest the server drops it
_BACKOFF: Final = 0.25
_MOST_BACKOFF: Final = 5.0
_NS: Final = 1_000_000_000
_ACK_TOKENS: Final = 9  # $JS.ACK.stream.consumer.delivered.sseq.cseq.time.pending


class Feed:
    """The last message of each subject that matches, then all that come.

    Args:
        api: The server's.
        stream: Name of the stream.
        pattern: Subjects wanted.
        on_message: Called with each message, its sequence and its time in ns.
        on_end: Called with the error when the stream is gone; nothing comes after.
        headers_only: Leave the payloads out.
    """

    # Invariant: `_expected` is the consumer's next number.  A message with another one means
    # that some were lost on the way: the consumer that sent it is given up, and one that
    # begins behind `_last` takes its place.

    def __init__(
        self,
        api: Api,
        stream: str,
        pattern: str,
        on_message: Callable[[Message, int, int], None],
        on_end: Callable[[KitError], None],
        *,
        headers_only: bool = False,
    ) -> None:
        self._api = api
        self._stream = stream
        self._pattern = pattern
        self._on_message = on_message
        self._on_end = on_end
        self._headers_only = headers_only
        self._name = ""
        self._expected = 1
        self._last = 0
        self._has_begun = False
        self._broken = asyncio.Event()
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._undo: list[Callable[[], None]] = []

    async def start(self) -> int:
        """Begin, and return how many messages are there at first.

        Raises:
            KitError: As `Api.ask`.
        """
        bus = self._api.bus
        self._place = f"{bus.inbox}js.{secrets.token_urlsafe(12)}"
        subscription = bus.subscribe(self._place, self._take)
        self._undo = [subscription.unsubscribe, bus.watch(self._connection_changed)]
        try:
            pending = await self._create()
        except BaseException:
            self._release()
            raise
        self._task = asyncio.ensure_future(self._keep())
        return pending

    async def stop(self) -> None:
        """End it here and on the server."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._release()

    def _release(self) -> None:
        while self._undo:
            self._undo.pop()()
        self._drop()

    async def _create(self) -> int:
        self._drop()
        self._name, self._expected = secrets.token_hex(8), 1
        self._broken.clear()
        self._heard_at = asyncio.get_running_loop().time()
        start: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        if self._has_begun:
            start = {
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._last + 1,
            }
        config = start | {
            "name": self._name,
            "deliver_subject": self._place,
            "ack_policy": "none",
            "max_deliver": 1,
            "filter_subject": self._pattern,
            "mem_storage": True,
            "num_replicas": 1,
            "headers_only": self._headers_only,
            "idle_heartbeat": int(_HEARTBEAT * _NS),
            "inactive_threshold": int(_FORGOTTEN * _NS),
        }
        made = await self._api.ask(
            f"CONSUMER.CREATE.{self._stream}.{self._name}",
            {"stream_name": self._stream, "config": config, "action": "create"},
        )
        if not self._has_begun:  # where nothing is there at first, go on from here
            self._last = max(self._last, int(made["delivered"]["stream_seq"]))
        self._has_begun = True
        return int(made.get("num_pending", 0)) + int(made["delivered"]["consumer_seq"])

    def _drop(self) -> None:
        """Delete the consumer, if it can be said now; the server would do it later."""
        if self._name:
            where = f"{JS_API}.CONSUMER.DELETE.{self._stream}.{self._name}"
            with contextlib.suppress(KitError):
                self._api.bus.publish(where, b"")

    def _take(self, message: Message) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        tokens = message.reply.split(".")
        if message.status:
            last = message.headers.get(JS_LAST_CONSUMER, "")
            if last.isdigit() and int(last) >= self._expected:
                self._broken.set()
        elif len(tokens) == _ACK_TOKENS and tokens[3] == self._name:
            if int(tokens[6]) != self._expected:
                self._broken.set()
                return
            self._expected += 1
            self._last = int(tokens[5])
            self._on_message(message, self._last, int(tokens[7]))

    def _connection_changed(self, is_up: bool) -> None:
        if is_up:
            self._broken.set()

    async def _keep(self) -> None:
        """Make the consumer again whenever it is lost."""
        while True:
            if not await self._is_lost():
                continue
            wait = _BACKOFF
            while True:
                try:
                    await self._create()
                    break
                except (Unavailable, DeadlineExceeded):
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, _MOST_BACKOFF)
                except KitError as error:
                    self._on_end(error)
                    return

    async def _is_lost(self) -> bool:
        """Wait until something says so, or it should have been heard of."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEARTBEAT):
                await self._broken.wait()
            return True
        now = asyncio.get_running_loop().time()
        return now - self._heard_at > _SILENCE
