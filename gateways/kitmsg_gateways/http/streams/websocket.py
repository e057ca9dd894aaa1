"""A stream as a WebSocket: items both ways, in JSON or msgpack.  Source: RFC 6455.

    kitmsg.json      items are text messages; the usual one
    kitmsg.msgpack   items are binary messages

The first message has the parameters, unless they are in the path or the query; an empty
message says that there are no more items from its sender's side.  After an error comes
its problem, in JSON, as a message of the other kind (binary for ``kitmsg.json``), and the
close code is 4000 and the problem's status.

Hot path: an item takes no task and no timer; frames are written as they are made.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from kitmsg.codec import MSGPACK
from kitmsg.errors import (
    InvalidArgument,
    KitError,
    ResourceExhausted,
    Unavailable,
)
from kitmsg_gateways.edge.budget import Claim
from kitmsg_gateways.http.body import received
from kitmsg_gateways.http.connection import sent
from kitmsg_gateways.http.streams.live import drop_if_gone
from kitmsg_gateways.http.streams.protocol import (
    PROTOCOLS,
    CloseCode,
    FrameReader,
    Opcode,
    ProtocolError,
    accept_headers,
    close_payload,
    frame,
    protocol_of,
)
from kitmsg_gateways.http.streams.source import Inbox, pumping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.message import Message
    from kitmsg_gateways.http.connection import Connection
    from kitmsg_gateways.http.streams.live import Items, Live, Opening

__all__ = ["Socket"]

_SWITCHING: Final = 101
_OWN_CODES: Final = 4000
_FULL_BYTES: Final = 1 << 16
_CLOSE_SECONDS: Final = 2.0
_REGISTERED: Final = frozenset({*range(1000, 1004), *range(1007, 1015)})
_FREE: Final = range(3000, 5000)
_FINAL: Final = 0x80
_GO_ON: Final = (False, b"")


class Socket:
    """One WebSocket; a `Party` of the gateway."""

    kind = "websocket"

    def __init__(self, live: Live, opening: Opening, limit: int) -> None:
        self._live = live
        self._opening = opening
        self._frames = FrameReader(limit)
        budget = cast("Connection", opening.request.protocol).budget
        self._partial = Claim(budget, self._give_way)  # of a message in parts
        self._opcode, self._control = Opcode.TEXT, Opcode.BINARY
        self._inbox = Inbox(opening.request.protocol)
        self._closed: asyncio.Future[None] | None = None
        self._protocol = opening.request.protocol
        self._transport: asyncio.Transport  # once hands are shaken
        self._stream: Items | None = None
        self._awaits_first = _has_parameters(opening)
        self._has_finished = opening.mounted.stream == "out"
        self._is_closing = self._is_cut = False
        self._is_heard = True
        self._outcome = "client"

    async def run(self) -> web.StreamResponse:
        """Shake hands, and carry items until one side ends.

        Raises:
            Problem: The handshake is refused.
            InvalidArgument: It is none.
        """
        response = await self._begin()
        self._live.enter(self)
        try:
            code, reason = await self._talk()
            await self._close(code, reason)
        finally:
            self._partial.end()
            self._live.exit(self, self._outcome)
        return response

    async def _begin(self) -> web.StreamResponse:
        opening = self._opening
        request = opening.request
        protocol = protocol_of(request)
        headers = accept_headers(request, protocol)
        opening.codec = PROTOCOLS[protocol or next(iter(PROTOCOLS))]
        if opening.codec is MSGPACK:
            self._opcode, self._control = Opcode.BINARY, Opcode.TEXT
        headers |= {"X-Request-Id": opening.visit.id, "Server": "kitmsg"}
        response = web.StreamResponse(status=_SWITCHING, headers=headers)
        response.force_close()
        opening.visit.add_to(response)
        await response.prepare(request)
        if request.transport is None:
            raise ConnectionResetError("the client went away")
        self._transport = request.transport
        self._protocol.set_parser(self)  # type: ignore[arg-type]  # it feeds us bytes
        return response

    # -- the stream ----------------------------------------------------------------

    async def _talk(self) -> tuple[int, str]:
        """Carry items; return the code and reason to close with."""
        opening = self._opening
        try:
            first = await self._parameters() if self._awaits_first else b""
            async with opening.stream(first) as stream:
                self._stream = stream
                stream.on_item = self._pass_on
                if self._is_cut or opening.broken:
                    stream.cancel()
                async with pumping(opening, stream, self.items()):
                    async for message in stream:
                        await self._send(self._opcode, message.data)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as exc:  # noqa: BLE001  the client is told
            if self._is_cut:
                self._outcome = "drained"
                return CloseCode.GOING_AWAY, "the gateway is stopping; come back"
            problem = opening.problem(exc, self._stream, is_head=False)
            self._outcome = problem.code.value
            await self._send(self._control, opening.problem_body(problem))
            return _OWN_CODES + problem.status, problem.detail
        self._outcome = "ok"
        return CloseCode.OK, ""

    async def _parameters(self) -> bytes:
        """Return the first message.

        Raises:
            Problem: 408; it does not come.
            Unavailable: The gateway stops.
        """
        seconds = self._opening.options.body_timeout
        late = f"the first message, with the parameters, did not come in {seconds:g} s"
        return await received(self._inbox.get(), seconds, late)

    async def items(self) -> AsyncIterator[bytes]:
        """Yield what comes in, until the client says that there is no more."""
        while item := await self._inbox.get():
            yield item

    # -- in ------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes from the connection; part of aiohttp's protocol for parsers."""
        self._is_heard = True
        try:
            item = self._frames.whole(_FINAL | self._opcode, data)
            if item is not None and not self._is_closing:
                self._take_item(item)
                return _GO_ON
            for opcode, payload in self._frames.read(data):
                self._take(opcode, payload)
            self._partial.resize(self._frames.held)
        except ProtocolError as exc:
            self._break_off(exc.code, str(exc))
        except ResourceExhausted as exc:
            self._break_off(CloseCode.TRY_AGAIN, str(exc))
        return _GO_ON

    def _give_way(self) -> None:
        self._break_off(CloseCode.TRY_AGAIN, "others need the room")

    def feed_eof(self) -> None:
        """Take the end of the connection: our task is cancelled, nothing is to do."""

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == self._opcode:
            if not self._is_closing:
                self._take_item(payload)
        elif opcode == Opcode.PING:
            self._answer(frame(Opcode.PONG, payload))
        elif opcode == Opcode.CLOSE:
            self._take_close(payload)
        elif opcode != Opcode.PONG and self._has_finished and not self._awaits_first:
            self._refuse(InvalidArgument(self._opening.unasked))
        elif opcode != Opcode.PONG:
            kind = "text" if self._opcode == Opcode.TEXT else "binary"
            raise ProtocolError(
                CloseCode.UNSUPPORTED, f"items are {kind} in this subprotocol"
            )

    def _take_item(self, payload: bytes) -> None:
        if self._opcode == Opcode.TEXT and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise ProtocolError(
                    CloseCode.INVALID_DATA, "a text message is not UTF-8"
                ) from None
        if self._awaits_first:
            self._awaits_first = False
        elif self._has_finished and payload:
            self._refuse(InvalidArgument(self._opening.unasked))
            return
        elif not payload:
            self._has_finished = True
        elif self._push(payload):
            return
        self._inbox.put(payload)

    def _push(self, item: bytes) -> bool:
        """Send an item at once, if all before it are sent; False if it has to wait."""
        stream = self._stream
        if stream is None or not self._inbox.is_awaited:
            return False
        try:
            return stream.push(item)
        except KitError:
            return False  # it is raised again where somebody can take it

    def _refuse(self, error: InvalidArgument) -> None:
        """End the stream because of what the client sent."""
        self._opening.broken = error
        if self._stream is not None:
            self._stream.fail(error)

    def _take_close(self, payload: bytes) -> None:
        """Answer the client's close, and let the connection end."""
        code = int.from_bytes(payload[:2]) if payload else CloseCode.NO_STATUS
        if payload and not _is_close(payload):
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "a close frame is broken")
        if self._closed is not None:
            if not self._closed.done():
                self._closed.set_result(None)
            return
        self._outcome = "ok"
        self._is_closing = True
        back = b"" if code == CloseCode.NO_STATUS else payload[:2]
        self._answer(frame(Opcode.CLOSE, back))
        self._transport.close()  # which cancels our task

    # -- out -----------------------------------------------------------------------

    def _pass_on(self, message: Message) -> bool:
        """Write an item as soon as it comes, if the client keeps up."""
        if self._protocol.writing_paused or self._transport.is_closing():
            return False
        self._transport.write(frame(self._opcode, message.data))
        return True

    async def _send(self, opcode: int, data: bytes) -> None:
        """Write a message, and wait until the client has read enough.

        Raises:
            ConnectionError: It does not read.
        """
        self._write(frame(opcode, data))
        if not self._has_room():
            writer, options = self._opening.request.writer, self._opening.options
            await sent(writer.drain(), self._transport, options.send_timeout)

    def _has_room(self) -> bool:
        return self._transport.get_write_buffer_size() < _FULL_BYTES

    def _answer(self, data: bytes) -> None:
        """Write what answers a control frame, unless the client lets such pile up."""
        if self._has_room():
            self._transport.write(data)

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._transport.write(data)

    async def _close(self, code: int, reason: str) -> None:
        """Close, and give the client a moment to agree."""
        self._is_closing = True
        self._closed = asyncio.get_running_loop().create_future()
        self._write(frame(Opcode.CLOSE, close_payload(code, reason)))
        self._inbox.go_on()
        await asyncio.wait([self._closed], timeout=_CLOSE_SECONDS)

    def _break_off(self, code: int, reason: str) -> None:
        """Close at once: what the client sends cannot be understood any more."""
        if self._transport.is_closing():
            return
        if not self._is_closing:
            self._outcome = "protocol"
            self._transport.write(frame(Opcode.CLOSE, close_payload(code, reason)))
        self._transport.close()

    # -- a party of the gateway ------------------------------------------------------

    def beat(self) -> None:
        """Ping a client that is quiet; end the connection of one that stays so."""
        if self._inbox.is_paused:  # we do not listen
            drop_if_gone(self._transport)
        elif self._is_heard:
            self._is_heard = False
            if not self._transport.is_closing():
                self._answer(frame(Opcode.PING, b""))
        else:
            self._transport.abort()

    def leave(self) -> None:
        """Close: the gateway stops."""
        self._is_cut = True
        self._inbox.shut()
        if self._stream is not None:
            self._stream.fail(Unavailable("the gateway is stopping"))


def _has_parameters(opening: Opening) -> bool:
    """Tell whether the first message has parameters: those that are not in the URL."""
    mounted = opening.mounted
    if opening.match.values or opening.query:
        return False
    parameters = mounted.parameters
    return not mounted.schema or bool(
        parameters.properties.keys() - parameters.headers.keys()
    )


def _is_close(payload: bytes) -> bool:
    """Tell whether a client may close with this: a code, and a reason in UTF-8."""
    code: Any = int.from_bytes(payload[:2])
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return False
    return len(payload) > 1 and (code in _REGISTERED or code in _FREE)
