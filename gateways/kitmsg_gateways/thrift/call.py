"""One call over the bus: parameters in, the bytes of an answer out.

Hot path: `Calls.answer` runs for every call.  Thrift has no headers, so the time limit is
the endpoint's or the gateway's, and there is no trace to pass on.
"""

from __future__ import annotations

import asyncio
import logging
import math
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import DECODE_ERRORS, ENCODE_ERRORS, JSON, MSGPACK
from kitmsg.context import Context, new_request_id
from kitmsg.errors import (
    BusDenied,
    Code,
    Internal,
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
    outward,
)
from kitmsg.transport import gokit, transfer
from kitmsg.transport.replies import decode_error, reply_codec
from kitmsg.wire import CODE, ERROR
from kitmsg_gateways.metrics import UNKNOWN_METHOD
from kitmsg_gateways.thrift.encode import UNFIT
from kitmsg_gateways.thrift.protocol import FAILURE, Begin, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from kitmsg.bus import Bus
    from kitmsg.message import Message
    from kitmsg_gateways.thrift.methods import Served
    from kitmsg_gateways.thrift.metrics import Metrics
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol import ThriftProtocol

__all__ = ["Calls", "failure"]

_log = logging.getLogger("kitmsg_gateways.thrift")
_access = logging.getLogger("kitmsg_gateways.thrift.access")

_CALLER: Final = "gateway.thrift"
_GONE: Final = "it is known, but every instance is full, leaving or gone"
_OK: Final = "ok"
_BUSY_SECONDS: Final = 0.1
_encoders: Final = {codec.name: codec.encoder() for codec in (JSON, MSGPACK)}
_decoders: Final = {
    JSON.name: msgspec.json.Decoder().decode,
    MSGPACK.name: msgspec.msgpack.Decoder().decode,
}


class _Declared(Exception):
    """An endpoint's answer is an error that the method has a place for.

    Args:
        code: Kind of error.
        fields: Of the method's result.
    """

    def __init__(self, code: Code, fields: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields


class Calls:
    """Answers calls.

    Args:
        bus: What carries them.
        options: Limits, times and switches.
        metrics: Counts them.
    """

    def __init__(self, bus: Bus, options: GatewayOptions, metrics: Metrics) -> None:
        self._bus = bus
        self._options = options
        self._metrics = metrics

    async def answer(
        self,
        served: Served,
        protocol: ThriftProtocol,
        begin: Begin,
        args: Any,
        who: str,
    ) -> bytes:
        """Return the answer to one call, be it an error; never raises a `KitError`.

        Args:
            served: The method.
            protocol: How the client speaks.
            begin: How its message began.
            args: The parameters.
            who: The client's address, for the access log.
        """
        started = perf_counter()
        code, metrics = _OK, self._metrics
        try:
            awaited = self._ask(served, args)
            metrics.in_flight += 1
            try:
                reply = await awaited
            finally:
                metrics.in_flight -= 1
            fields, code = _fields(served, reply)
            out = bytearray(protocol.head(begin.name, Kind.REPLY, begin.seqid))
            served.coder(protocol)[1](out, fields)
        except asyncio.CancelledError:
            code = Code.CANCELLED.value
            raise
        except KitError as exc:
            code = outward(exc).code.value
            return failure(protocol, begin, _explained(exc, served))
        except UNFIT as exc:
            code = Code.INTERNAL.value
            return failure(protocol, begin, _unfit(served, exc))
        except Exception:  # noqa: BLE001  # logged; the client must not wait for ever
            code = Code.INTERNAL.value
            return failure(protocol, begin, _broken(served))
        finally:
            seconds = perf_counter() - started
            metrics.observe(served.name, code, seconds)
            if self._options.access_log:
                _access.info("%s %s %s %.1f ms", who, served.name, code, seconds * 1000)
        return bytes(out)

    def _timeout(self, served: Served) -> float:
        return served.endpoint.timeout or self._options.timeout

    def _ask(self, served: Served, args: Any) -> Awaitable[Message]:
        """Return the wait for a reply.

        Raises:
            ResourceExhausted: Too many calls are in flight.
            InvalidArgument: The parameters cannot be sent.
        """
        if self._metrics.in_flight >= self._options.max_concurrent:
            raise ResourceExhausted(
                f"{self._options.max_concurrent} calls are in flight at this gateway",
                retry_after=_BUSY_SECONDS,
            )
        bus, subject = self._bus, served.endpoint.subject
        data = _encode(served, args)
        timeout = self._timeout(served)
        block = served.block or _block(timeout, served)
        if served.endpoint.is_kit:
            return transfer.request(bus, subject, data, timeout, block)
        return bus.request(subject, data, timeout, block)

    def tell(self, served: Served, args: Any) -> None:
        """Send a call that nobody waits for; what goes wrong is counted and logged."""
        code = _OK
        started = perf_counter()
        try:
            block = _block(self._timeout(served), served)
            data = _encode(served, args)
            self._bus.publish(served.endpoint.subject, data, "", block)
        except KitError as exc:
            code = exc.code.value
            _log.debug("%s was not told: %s", served.name, exc)
        self._metrics.observe(served.name, code, perf_counter() - started)

    def refuse(self, protocol: ThriftProtocol, begin: Begin, error: KitError) -> bytes:
        """Return the answer to a call that is not carried out, and count it."""
        self._metrics.observe(UNKNOWN_METHOD, error.code.value, 0.0)
        return failure(protocol, begin, error)


def failure(protocol: ThriftProtocol, begin: Begin, error: KitError) -> bytes:
    """Return the message that tells of an error: a ``TApplicationException``.

    Its text begins with the code, of which its type is only a part.
    """
    out = bytearray(protocol.head(begin.name, Kind.EXCEPTION, begin.seqid))
    text = f"{error.code.value}: {error}"
    protocol.writer(FAILURE)(out, {"message": text, "type": error.code.thrift})
    return bytes(out)


def _encode(served: Served, args: Any) -> bytes:
    convert = served.plan.request
    try:
        request = args if convert is None else convert(args)
        return _encoders[served.codec.name](request)
    except ENCODE_ERRORS as exc:
        raise InvalidArgument(f"the request of {served.name} cannot be sent") from exc


def _block(timeout: float, served: Served) -> bytes:
    """Return the header block of a method's calls, made once."""
    text = f"NATS/1.0\r\nKit-Timeout: {math.ceil(timeout * 1000)}\r\nKit-Caller: {_CALLER}\r\n"
    if served.codec is not MSGPACK:  # which a map in it tells
        text += f"Content-Type: {served.codec.content_type}\r\n"
    served.block = f"{text}\r\n".encode("ascii")
    return served.block


def _fields(served: Served, reply: Message) -> tuple[dict[str, Any], str]:
    """Return the fields of a method's result, and what to count the call as."""
    try:
        return served.plan.result(_value(served, reply)), _OK
    except _Declared as exc:
        return exc.fields, exc.code.value


def _explained(error: KitError, served: Served) -> KitError:
    """Return `error` with what a caller can do about it; what is not for it is logged."""
    if isinstance(error, BusDenied):
        _log.warning("%s: %s", served.name, error)
        return outward(error)
    if isinstance(error, NoResponders):
        # Nobody is asked who is there: it would be done for each of a flood of calls.
        return NoResponders(error.subject, _GONE)
    return error


def _value(served: Served, reply: Message) -> Any:
    """Return what a reply holds.

    Raises:
        KitError: It tells of an error.
        _Declared: Of one that the method has a place for.
    """
    codec = served.codec
    if served.endpoint.wire == "gokit":
        _raise_gokit(served, reply)
    if reply.header_block:
        _raise_error(served, reply)
        codec = reply_codec(reply, codec)
    if not reply.data:
        return None
    decode = _decoders.get(codec.name)
    if decode is None:
        return reply.data
    try:
        value = decode(reply.data)
    except DECODE_ERRORS as exc:
        raise _unfit(served, exc) from exc
    if (
        served.endpoint.wire == "gokit"
        and served.is_wrapped
        and isinstance(value, dict)
    ):
        return next((v for k, v in value.items() if k.lower() == "v"), None)
    return value


def _raise_gokit(served: Served, reply: Message) -> None:
    """Raise the error that a reply in Go kit mode tells of, if it does."""
    error = gokit.decode_error(Context(), reply)
    if error is None:
        return
    refusal = served.plan.refusal
    if refusal is not None:
        raise _Declared(Code.UNKNOWN, refusal(str(error)))
    if not reply.header_block:  # which would tell more
        raise error


def _raise_error(served: Served, reply: Message) -> None:
    """Raise the error that a reply's headers tell of, if they do."""
    error = decode_error(reply, codec=served.codec, declared={})
    if not isinstance(error, KitError):
        return
    headers = reply.headers
    name = headers.get(ERROR, "")
    if name:
        _raise_declared(served, reply, name, error)
    if CODE not in headers and error.code is Code.INTERNAL:
        # A foreign service often sends the text of its exception, which is not for
        # everybody.
        id_ = new_request_id()
        _log.warning("%s failed: %s (request id %s)", served.name, error, id_)
        raise Internal(f"{served.name} failed; the gateway's log says more under {id_}")
    raise error


def _raise_declared(served: Served, reply: Message, name: str, error: KitError) -> None:
    plan = served.plan
    make = plan.errors.get(name)
    if make is not None:
        decode = _decoders.get(reply_codec(reply, served.codec).name)
        try:
            fields = decode(reply.data) if decode and reply.data else None
            raise _Declared(error.code, make(fields, str(error)))
        except (*DECODE_ERRORS, *UNFIT) as exc:
            raise _unfit(served, exc) from exc
    if plan.refusal is not None:
        raise _Declared(error.code, plan.refusal(str(error)))


def _broken(served: Served) -> KitError:
    """Return the error of a failure of the gateway itself, which goes to its log."""
    id_ = new_request_id()
    _log.exception("a call of %s failed here (request id %s)", served.name, id_)
    return Internal(f"the gateway failed; its log says more under request id {id_}")


def _unfit(served: Served, why: BaseException) -> KitError:
    """Return the error of a reply that does not fit; what it held goes to the log only."""
    id_ = new_request_id()
    _log.warning(
        "%s answered what does not fit: %s: %s (request id %s)",
        *(served.name, type(why).__name__, why, id_),
    )
    return Internal(
        f"{served.name} answered what does not fit its types; the gateway's log says"
        f" more under {id_}"
    )
