"""Moves messages: subjects, queue groups, request and reply.

    nats.py       `NatsBus`, over the NATS client
    connection.py the hardened client connection under it; dialer.py reaches a server,
                  subscribed.py tells it what is subscribed to
    watchdog.py   looks after it; pulse.py finds a link that is silent though it should not
    mover.py      leaves a server that is about to stop; moving.py: two links at once
    soon.py       callbacks at the end of a read, and how a task waits for one
    outbox.py     the write buffer; linger.py: how long it waits for more
    denials.py    what the server forbids
    inbound.py    who gets what came in; wire.py parses it, reader.py and link.py bring it
    foreign.py    what came in for nats-py itself
    natspy.py     what is taken from nats-py, private parts included
    options.py    how to reach NATS, and as whom; credentials.py proves it
    asks.py       replies that are awaited, and their deadlines; used by every bus
    inboxes.py    where an answer may go: the one rule; used by every bus
    reach.py      the bus at hand while an endpoint is wrapped in middlewares
    watchers.py   who hears of it when the bus comes and goes
    checks.py     what no bus sends: malformed subjects, too many bytes
    memory.py     `MemoryBus`, the public in-process twin: no server, same promises
    embedded.py   `EmbeddedServer` starts a real ``nats-server`` for dev and tests

What every bus promises, and one contract suite checks on each:

- At most once.  A message published while nobody listens is gone.
- Messages from one publisher to one subscription arrive in order.
- A subject's queue group gets each message once, on a random member.
- `request` ends: with a reply, `NoResponders` at once, `DeadlineExceeded` at the
  timeout, or `Disconnected` as soon as the connection is lost.  What was reported as
  not sent (``Disconnected.sent`` is False) is never sent later.
- Handlers are called one after the other on the event loop, and must not wait: they
  enqueue.  One that raises is logged and harms nobody else; `Disconnected` is no failure
  of a handler: there is nobody to answer any more.
- After `unsubscribe` and `flush`, no new message arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from kitmsg.bus.inboxes import Inboxes
from kitmsg.message import Message

if TYPE_CHECKING:
    from kitmsg.bus.asks import Ask

__all__ = ["Bus", "Handler", "Subscription"]

Handler: TypeAlias = Callable[[Message], None]
"""Takes one message; never waits."""


class Subscription(Protocol):
    """Interest in a subject."""

    @property
    def subject(self) -> str:
        """The pattern subscribed to."""
        ...

    def unsubscribe(self) -> None:
        """Stop new messages; those on their way may still arrive until a `flush`."""
        ...


class Bus(Protocol):
    """The seam between transports and the system that carries their messages."""

    @property
    def is_connected(self) -> bool:
        """Whether a message can be sent now."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether much waits to be written: what can wait should, and leave the room."""
        ...

    @property
    def max_payload(self) -> int:
        """Longest header block and payload together, in bytes."""
        ...

    @property
    def inbox(self) -> str:
        """Prefix of the subjects that reach this connection alone; ends with a dot.

        What begins with a digit after it is an ask's; whoever wants more takes a token of
        its own, and something after it that cannot be guessed.
        """
        ...

    @property
    def inboxes(self) -> Inboxes:
        """The rule of where an answer may go; it counts what it refuses.

        Whatever a peer names as a place to publish to is held against it: reply subjects,
        peers of streams, places of long bodies.
        """
        ...

    def publish(
        self, subject: str, data: bytes, reply: str = "", header_block: bytes = b""
    ) -> None:
        """Send to whoever listens.  At most once; written by the end of the next turn.

        Raises:
            Disconnected: There is no connection; nothing will be sent.
            InvalidArgument: The subject is malformed, or the message is over
                `max_payload`.
            ResourceExhausted: More is waiting to be written than the bus buffers.
        """
        ...

    def respond(self, message: Message, data: bytes, header_block: bytes = b"") -> None:
        """Answer `message`, which came over this bus and has a reply subject.

        Raises:
            Disconnected: As `publish`.
            InvalidArgument: The answer is over `max_payload`.
            ResourceExhausted: As `publish`.
        """
        ...

    def acknowledge(self, message: Message, data: bytes) -> None:
        """Answer `message` as `respond` does, where nobody waits for it.

        So it is written together with what follows, by the end of the read or turn.
        """
        ...

    async def request(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Message:
        """Send and wait for one reply, at most `timeout` seconds (in steps of 50 ms).

        A cancelled wait publishes the ask's reply subject on
        ``_kit.cancel.{first token of subject}``, so that a service can stop its turn.

        Raises:
            NoResponders: Nobody is subscribed to `subject`.
            DeadlineExceeded: No reply in time.
            Disconnected: No connection, or lost while waiting.
            BusDenied: The server does not let this user send there.
            InvalidArgument: As in `publish`.
            ResourceExhausted: As in `publish`.
        """
        ...

    def ask(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Ask:
        """Send, and return the reply to await: `request` without a coroutine.

        To stop waiting, for whatever reason, call `give_up`.

        Raises:
            KitError: What `request` raises before it waits.
        """
        ...

    def give_up(self, ask: Ask, error: BaseException) -> None:
        """Wait no longer for an ask, because of `error`; cancels it as `request` does."""
        ...

    def subscribe(
        self, subject: str, handler: Handler, queue: str = ""
    ) -> Subscription:
        """Call `handler` with each message on `subject` (wildcards allowed).

        Args:
            subject: Pattern to listen on.
            handler: Called on the event loop; must not wait.
            queue: Queue group to join; "" to get every message.

        Raises:
            InvalidArgument: The subject or the queue group is malformed.
            Disconnected: The bus is closed.
        """
        ...

    def watch(self, on_change: Callable[[bool], None]) -> Callable[[], None]:
        """Call `on_change` with `is_connected` whenever it changes; returns an undo."""
        ...

    def watch_denials(self, on_denied: Callable[[str], None]) -> None:
        """Call `on_denied` with each subject that this user may not use, in lower case.

        The server says so after the fact.  It is a subject that was sent to, the reply
        subject that stood with it, or a pattern that was subscribed to.
        """
        ...

    def soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` when what came together has been handed over, no task running.

        That is the best moment to begin work: the end of the read that brought a message,
        where the bus knows when that is; else the event loop's next turn.
        """
        ...

    def stood(self, now: float) -> float:
        """Return for how many seconds a message handed over now may have lain here, unread.

        That is 0.0, unless this process was stopped, or its event loop blocked: then it is
        the longest time that fits.

        Args:
            now: The event loop's time.
        """
        ...

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until all that was sent or subscribed before is known to the server.

        Raises:
            DeadlineExceeded: It took longer than `timeout` seconds.
            Disconnected: No connection, or lost while waiting.
        """
        ...

    async def close(self) -> None:
        """Send what is buffered, end waiting asks with `Disconnected`, disconnect."""
        ...
