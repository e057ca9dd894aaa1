"""Requests to a server's JetStream API, and its errors as ours.

JSON over plain request and reply (docs.nats.io, "JetStream wire API reference"); the
numbers are nats-server's ``errors.json``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.errors import (
    Aborted,
    AlreadyExists,
    BusDenied,
    Code,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NoResponders,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unknown,
    error_for,
)
from kitmsg.jetstream.outgoing import PubAck
from kitmsg.message import encode_headers
from kitmsg.wire import JS_API, Js

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.bus import Bus
    from kitmsg.bus.asks import Ask

__all__ = [
    "EXISTS",
    "NO_CONSUMER",
    "NO_MESSAGE",
    "Api",
    "ServerError",
    "forbidden",
    "number_of",
    "pub_ack",
    "raise_error",
]

EXISTS: Final = 10058
"""Number of the error that there is another stream of the same name."""

NO_MESSAGE: Final = 10037
"""Number of the error that there is no such message."""

NO_CONSUMER: Final = 10014
"""Number of the error that there is no such consumer."""

_OFF_ACCOUNT: Final = 10039
_OFF_SERVER: Final = 10076

_RETRIES: Final = 2  # while a cluster has no leader nobody answers (NATS ADR-22)
_RETRY_SECONDS: Final = 0.25
_OFF: Final = (
    "JetStream is off on the NATS server: give it a store (`jetstream {}` in its"
    " configuration, or -js)"
)
_OFF_HERE: Final = (
    "JetStream is off for this account of the NATS server: allow it in the account's"
    " configuration (`jetstream: enabled`)"
)
_SENTENCES: Final = {_OFF_ACCOUNT: _OFF_HERE, _OFF_SERVER: _OFF}
_ERRORS: Final[dict[int, type[KitError]]] = {
    10008: Unavailable,  # no leader yet
    10012: InvalidArgument,  # options of a consumer
    10013: AlreadyExists,  # consumer
    10023: ResourceExhausted,  # resources
    10026: ResourceExhausted,  # streams
    10028: ResourceExhausted,  # memory
    10035: Unavailable,  # no suitable peers
    NO_MESSAGE: NotFound,
    _OFF_ACCOUNT: FailedPrecondition,
    10043: NotFound,  # message to delete
    10047: ResourceExhausted,  # storage
    10052: InvalidArgument,  # options of a stream
    10057: FailedPrecondition,  # deleting is denied
    10059: NotFound,  # stream
    10060: Aborted,  # another stream than expected
    10070: Aborted,  # wrong last message id
    10071: Aborted,  # wrong last sequence
    10074: FailedPrecondition,  # replicas without a cluster
    _OFF_SERVER: FailedPrecondition,
    10077: ResourceExhausted,  # the stream is full
    10098: FailedPrecondition,  # a work queue needs acks
    10099: FailedPrecondition,  # consumers of a work queue that share messages
    10100: FailedPrecondition,  # the same
    10101: FailedPrecondition,  # a consumer of a work queue that leaves some out
    10109: FailedPrecondition,  # sealed
    10110: FailedPrecondition,  # purging is denied
    10111: FailedPrecondition,  # rollup is denied
    10118: Unavailable,  # stream is offline
    10119: Unavailable,  # consumer is offline
    10122: ResourceExhausted,  # bytes of the stream
    10148: AlreadyExists,  # consumer
    10149: NotFound,  # consumer
    10158: Unavailable,  # a message of the same id is being stored
    10163: Unavailable,  # expectations cannot be checked now
    10164: Aborted,  # wrong last sequence, unknown
    10166: FailedPrecondition,  # no time to live in this stream
    10174: FailedPrecondition,  # no atomic batches in this stream
    10176: Aborted,  # a batch with holes
    10185: FailedPrecondition,  # API level
    10188: FailedPrecondition,  # no schedules in this stream
}


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct):
    error: _Error | None = None


_ERROR: Final = b'"error"'
_decode_ack: Final = msgspec.json.Decoder(PubAck).decode


class ServerError(Exception):
    """An error in the server's own terms; the cause of the `KitError` that is raised.

    Args:
        number: As in nats-server's ``errors.json``.
        description: The server's sentence.
    """

    def __init__(self, number: int, description: str) -> None:
        super().__init__(number, description)
        self.number = number


def number_of(error: KitError) -> int:
    """Return the server's number of an error; 0 where the server said none."""
    cause = error.__cause__
    return cause.number if isinstance(cause, ServerError) else 0


class Api:
    """The JetStream API behind one bus.

    Args:
        bus: The connection.
        timeout: Longest wait for an answer, in seconds.
    """

    def __init__(self, bus: Bus, timeout: float) -> None:
        self.bus = bus
        self._timeout = timeout

    async def ask(
        self, subject: str, body: object = None, *, level: int = 0
    ) -> dict[str, Any]:
        """Ask ``$JS.API.{subject}`` and return the answer's fields.

        Args:
            subject: The rest of the subject.
            body: Sent as JSON; None for nothing.
            level: API level that the server must have, or refuse.

        Raises:
            FailedPrecondition: JetStream is off.
            KitError: As the server's error says; see `number_of`.
        """
        data = b"" if body is None else msgspec.json.encode(body)
        where = f"{JS_API}.{subject}"
        block = encode_headers({Js.REQUIRED_LEVEL: str(level)}) if level else b""
        reply = await self.request(where, data, block, _OFF, FailedPrecondition)
        raise_error(reply, where)
        found: dict[str, Any] = msgspec.json.decode(reply)
        return found

    async def listed(
        self, subject: str, field: str, body: Mapping[str, object] | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of an answer that comes in pages.

        Args:
            subject: As in `ask`.
            field: Name of the field that has the rows.
            body: As in `ask`.
        """
        rows: list[dict[str, Any]] = []
        while True:
            found = await self.ask(subject, {**(body or {}), "offset": len(rows)})
            page = found.get(field) or []
            rows += page
            if not page or len(rows) >= found.get("total", 0):
                return rows

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str], missing: str
    ) -> int:
        """Store a message and return its sequence.  Raises as `put`."""
        block = encode_headers(headers)
        return (await self.put(subject, data, block, missing)).sequence

    async def put(
        self,
        subject: str,
        data: bytes,
        block: bytes,
        missing: str,
        timeout: float | None = None,
    ) -> PubAck:
        """Store a message.

        Args:
            subject: A subject of a stream.
            data: The payload.
            block: Its headers, expectations among them.
            missing: Sentence for the case that no stream takes the subject.
            timeout: Longest wait for one answer, in seconds; None for that of all requests.

        Raises:
            Aborted: The stream is not in the state that the headers expect.
            ResourceExhausted: It is full.
            Unavailable: No stream takes the subject.
        """
        reply = await self.request(subject, data, block, missing, Unavailable, timeout)
        return pub_ack(reply, subject)

    async def request(
        self,
        subject: str,
        data: bytes,
        block: bytes,
        missing: str,
        kind: type[KitError] = Unavailable,
        timeout: float | None = None,
    ) -> bytes:
        """Return the answer to a message, which is sent again where nobody is there.

        Args:
            subject: Where it is sent.
            data: The payload.
            block: Its headers.
            missing: Sentence for the case that nobody is there.
            kind: Error that says it.
            timeout: Longest wait for one answer, in seconds; None for that of all requests.

        Raises:
            KitError: `kind`.
            PermissionDenied: The user may not send there.
            DeadlineExceeded: There was no answer in time.
        """
        wait = self._timeout if timeout is None else timeout
        for attempt in range(_RETRIES + 1):
            ask: Ask | None = None
            try:
                ask = self.bus.ask(subject, data, wait, block)
                found = await ask.future
            except NoResponders as error:
                if attempt == _RETRIES:
                    raise kind(missing) from error
                await asyncio.sleep(_RETRY_SECONDS)
            except BusDenied as error:
                raise forbidden(subject) from error
            except BaseException as error:
                if ask is not None:
                    self.bus.give_up(ask, error)
                raise
            else:
                return found.data
        raise AssertionError


def forbidden(subject: str, verb: str = "publish") -> PermissionDenied:
    """Return the error of a user who may not use `subject`."""
    return PermissionDenied(
        f"this user of the NATS server may not {verb} to {subject!r}: allow it, or give"
        " another user"
    )


def pub_ack(reply: bytes, subject: str) -> PubAck:
    """Return the store's word that it has a message sent to `subject`.

    Raises:
        KitError: It has not.
    """
    if _ERROR in reply:
        raise_error(reply, subject)
    try:
        return _decode_ack(reply)
    except msgspec.MsgspecError:
        raise Unknown(f"{subject} answered with what is not JetStream's JSON") from None


def raise_error(reply: bytes, where: str) -> None:
    """Raise the error that an answer tells of."""
    try:
        error = msgspec.json.decode(reply, type=_Reply).error
    except msgspec.MsgspecError:
        raise Unknown(f"{where} answered with what is not JetStream's JSON") from None
    if error is None:
        return
    kind = _ERRORS.get(error.err_code)
    text = f"{where}: {error.description} (JetStream error {error.err_code})"
    text = _SENTENCES.get(error.err_code, text)
    found = kind(text) if kind else error_for(Code.from_http(error.code), text)
    raise found from ServerError(error.err_code, error.description)
