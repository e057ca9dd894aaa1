"""One client's connection: messages in, answers out in the same order.

Hot path.  Calls of one connection run at the same time, up to a bound; what comes beyond
waits unread, and so does everything while the client does not take its answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from kitmsg.errors import InvalidArgument, KitError, ResourceExhausted
from kitmsg_gateways.edge.auth import peer_principal
from kitmsg_gateways.edge.budget import Claim
from kitmsg_gateways.edge.parting import part
from kitmsg_gateways.thrift.methods import SEPARATOR
from kitmsg_gateways.thrift.protocol.base import Begin, Cursor, Kind, Malformed, skip
from kitmsg_gateways.thrift.protocol.framing import framed

if TYPE_CHECKING:
    from kitmsg.auth import Principal
    from kitmsg_gateways.edge.admission import Place
    from kitmsg_gateways.edge.budget import Budget
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.edge.visit import Visit
    from kitmsg_gateways.thrift.call import Calls
    from kitmsg_gateways.thrift.methods import Served, Table
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol.base import ThriftProtocol
    from kitmsg_gateways.thrift.protocol.framing import Inbox
    from kitmsg_gateways.thrift.protocol.header import Header

__all__ = ["Connection"]

_log = logging.getLogger("kitmsg_gateways.thrift")

_SEPARATOR: Final = SEPARATOR.encode()
_CALLS: Final = frozenset({Kind.CALL, Kind.ONEWAY})
_ONEWAY: Final = int(
    Kind.ONEWAY
)  # to look up a member of an enum costs as much as a call


class Door(Protocol):
    """The gateway of a connection; `GatewayServer` says more."""

    metrics: Metrics
    calls: Calls
    budget: Budget
    options: GatewayOptions

    @property
    def table(self) -> Table: ...
    def inbox(self) -> Inbox: ...
    def missing(self, name: bytes, /) -> KitError: ...
    def joined(self, connection: Connection, /) -> None: ...
    def left(self, connection: Connection, /) -> None: ...


class _Slot:
    """A call whose answer has its place among those of the connection."""

    __slots__ = ("answer", "header", "size", "task")

    def __init__(self, header: Header | None, size: int = 0) -> None:
        self.size = size  # bytes of the request, which are held until its answer leaves
        self.answer: bytes | None = None  # b"" for a call that gets none
        self.header = header
        self.task: asyncio.Task[None] | None = None


class Connection(asyncio.Protocol):
    """Serves one client.

    Args:
        gateway: Whose client it is.
        place: Its place among the connections that there may be.
    """

    def __init__(self, gateway: Door, place: Place) -> None:
        self._gateway = gateway
        self._place = place
        self._options = gateway.options
        self._loop = asyncio.get_running_loop()
        self._is_open = gateway.calls.is_open(None)  # to everybody, for ever
        self._table = gateway.table  # of the present read
        self._inbox = gateway.inbox()
        self._budget = gateway.budget
        self._unread = Claim(self._budget, lambda: self.abort("slow"))
        self._slots: deque[_Slot] = deque()
        self._transport: asyncio.Transport | None = None
        self._is_choked = self._is_ending = self._is_paused = False
        # What the sweep looks at: when the client was last seen to move on.
        self._moved = self._loop.time()
        self._who = ""
        self._shown: Principal | None = None  # of its certificate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._who = str(peer[0]) if peer else "?"
        self._shown = peer_principal(transport)
        self._gateway.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what nobody waits for any more, and with it the services' turns."""
        self._transport = None
        for slot in self._slots:
            if slot.task is not None:
                slot.task.cancel()
            self._budget.give(slot.size)
        self._slots.clear()
        self._inbox.clear()
        self._unread.end()
        self._place.leave()
        self._gateway.left(self)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        was_partial = self._inbox.is_partial
        self._inbox.feed(data)
        has_read = self._read()
        if has_read or not was_partial:  # a message that drips does not move on
            self._moved = self._loop.time()
        if self._unread.size or self._inbox.size:
            self._hold(has_read)

    def _hold(self, has_read: bool) -> None:
        """Have the bytes that wait count; without room for them the connection ends."""
        claim, size = self._unread, self._inbox.size
        if has_read and claim.size:
            claim.resize(0)  # what follows is another message
        if size != claim.size:
            try:
                claim.resize(size)
            except ResourceExhausted:
                self.abort("full")

    def pause_writing(self) -> None:
        """Read no more until the client takes its answers."""
        self._is_choked = True
        self._moved = self._loop.time()
        self._pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_choked = False
        self._moved = self._loop.time()
        self._go_on()

    def check(self, now: float) -> None:
        """Close the connection if its client is too slow, or silent for too long."""
        options, waited = self._options, now - self._moved
        if self._is_choked:
            if waited > options.write_timeout:
                self.abort("slow")
        elif self._inbox.is_partial:
            if waited > options.message_timeout:
                self.abort("slow")
        elif not self._slots and waited > options.idle_timeout:
            self.abort("idle")

    def drain(self) -> None:
        """Begin no more calls; close when those in flight are answered."""
        self._is_ending = True
        self._pause()
        if not self._slots and self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once."""
        if self._transport is not None and not self._transport.is_closing():
            self._gateway.metrics.closed[reason] += 1
            self._transport.abort()
            self._inbox.clear()  # at once: others wait for the room

    def _read(self) -> bool:
        """Begin the calls that came; tell whether there was one."""
        has_read = False
        table = self._table = self._gateway.table
        while self._may_read():
            try:
                taken = self._inbox.take(table.protocols, self._message)
            except Malformed as exc:
                self._give_up(exc)
                break
            if taken is None:
                break
            has_read = True
            self._begin(*taken)
            if not self._inbox.size:  # as nearly always
                break
        return has_read

    def _may_read(self) -> bool:
        if self._is_choked or self._is_ending or self._transport is None:
            return False
        if len(self._slots) < self._options.max_pipelined:
            return True
        self._pause()
        return False

    def _message(
        self, protocol: ThriftProtocol, data: bytes, position: int
    ) -> tuple[tuple[ThriftProtocol, Begin, Served | None, Any], int]:
        """Read one message."""
        begin = protocol.begin(data, position)
        if begin.kind not in _CALLS:
            raise Malformed(f"a message of kind {begin.kind}; only calls are taken")
        served = self._table.methods.get(begin.name)
        # `find`, since `in` tries first whether it looks for a number, and fails.
        if served is not None and begin.name.find(_SEPARATOR) >= 0:
            # The multiplexed protocol is in calls only; answers have the bare name.
            begin = begin._replace(name=begin.name.rpartition(_SEPARATOR)[2])
        depth = protocol.limits.max_depth
        if served is None:
            cursor = Cursor(data, begin.position, protocol.limits)
            end = skip(protocol.scan_struct(cursor, depth))
            return (protocol, begin, None, None), end
        try:
            args, end = served.coder(protocol)[0](data, begin.position, depth)
        except Malformed as exc:
            raise _Refused(protocol, begin, exc) from exc
        return (protocol, begin, served, args), end

    def _begin(
        self, protocol: ThriftProtocol, begin: Begin, served: Served | None, args: Any
    ) -> None:
        calls = self._gateway.calls
        if not (self._is_open or calls.is_open(served)):
            slot = self._slot(protocol, begin)
            if slot is not None:
                work = self._admitted(slot, protocol, begin, served, args)
                slot.task = self._loop.create_task(work)
        elif served is None:
            answer = calls.refuse(protocol, begin, self._gateway.missing(begin.name))
            if begin.kind == Kind.CALL:
                self._answer(answer)
        else:
            self._begin_open(protocol, begin, served, args)

    def _begin_open(
        self, protocol: ThriftProtocol, begin: Begin, served: Served, args: Any
    ) -> None:
        """Begin a call that anybody may make."""
        calls, header, visit = self._gateway.calls, self._inbox.header, None
        if header is not None and header.fields:
            try:
                visit = calls.visit(self._who, header.fields)
            except KitError as exc:
                answer = calls.refuse(protocol, begin, exc)
                if begin.kind == Kind.CALL:
                    self._answer(answer)
                return
        if begin.kind == _ONEWAY or served.is_oneway:
            calls.tell(served, args, visit)
            return
        slot = self._slot(protocol, begin)
        if slot is not None:
            run = self._run(slot, protocol, begin, served, args, visit)
            slot.task = self._loop.create_task(run)

    def _slot(self, protocol: ThriftProtocol, begin: Begin) -> _Slot | None:
        """Return the place of a call's answer, behind those before it.

        Returns:
            None without room for the call's bytes; then it is answered.
        """
        size = self._inbox.taken
        try:
            self._budget.take(size)
        except ResourceExhausted as exc:
            if begin.kind == Kind.CALL:
                self._answer(self._gateway.calls.refuse(protocol, begin, exc))
            return None
        slot = _Slot(self._inbox.header, size)
        self._slots.append(slot)
        return slot

    async def _run(
        self,
        slot: _Slot,
        protocol: ThriftProtocol,
        begin: Begin,
        served: Served,
        args: Any,
        visit: Visit | None = None,
    ) -> None:
        calls = self._gateway.calls
        slot.answer = await calls.answer(
            served, protocol, begin, args, self._who, visit
        )
        self._flush()

    async def _admitted(
        self,
        slot: _Slot,
        protocol: ThriftProtocol,
        begin: Begin,
        served: Served | None,
        args: Any,
    ) -> None:
        """Answer a call if its client may make one."""
        calls, header = self._gateway.calls, slot.header
        given = header.fields if header is not None else {}
        try:
            visit = await calls.admit(self._who, given, self._shown)
            if served is None:
                raise self._gateway.missing(begin.name)
        except KitError as exc:
            answer = calls.refuse(protocol, begin, exc)
            slot.answer = answer if begin.kind == Kind.CALL else b""
        else:
            if not (begin.kind == _ONEWAY or served.is_oneway):
                await self._run(slot, protocol, begin, served, args, visit)
                return
            calls.tell(served, args, visit)
            slot.answer = b""
        self._flush()

    def _answer(self, answer: bytes) -> None:
        """Answer in turn."""
        slot = _Slot(self._inbox.header)
        slot.answer = answer
        self._slots.append(slot)
        self._flush()

    def _flush(self) -> None:
        """Write the answers whose turn it is."""
        slots, speech, transport = self._slots, self._inbox.speech, self._transport
        if transport is None or speech is None:
            return
        ready, size = [], 0
        while slots and (answer := slots[0].answer) is not None:
            slot = slots.popleft()
            size += slot.size
            header = slot.header
            if header is not None and answer:
                answer = header.answer(answer)
            if answer:
                ready.append(framed(answer, speech))
        self._budget.give(size)
        if ready:
            self._moved = self._loop.time()
            transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self._is_ending:
            self._part_if_done()
        elif self._is_paused:
            self._go_on()

    def _go_on(self) -> None:
        """Read again, beginning with what is here already."""
        room = self._options.max_pipelined // 2
        if self._is_choked or self._is_ending or len(self._slots) > room:
            return
        if self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
            self._hold(self._read())

    def _pause(self) -> None:
        if self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _part_if_done(self) -> None:
        if not self._slots and self._transport is not None:
            part(self._transport, self)

    def _give_up(self, why: Malformed) -> None:
        """Say what was wrong, if we know how the client speaks, and close."""
        _log.debug("bad Thrift from %s: %s", self._who, why)
        self._gateway.metrics.closed["malformed"] += 1
        self._is_ending = True
        self._pause()
        if isinstance(why, _Refused):
            error: KitError = InvalidArgument(str(why))
            self._answer(self._gateway.calls.refuse(why.protocol, why.begin, error))
        self._part_if_done()


class _Refused(Malformed):
    """A message is wrong, but its begin could be read, so it can be answered."""

    def __init__(self, protocol: ThriftProtocol, begin: Begin, why: Malformed) -> None:
        super().__init__(str(why))
        self.protocol = protocol
        self.begin = begin
