"""One call over the bus: parameters in, the bytes of an answer out.

Hot path: `Calls.answer` runs for every call.  Thrift has no headers but THeader's, of which
credentials, traces, idempotency keys, the request id, the time limit and what routes go by
are read; without it the limit is the endpoint's or the gateway's, and the id is made here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from kitmsg.codec import ENCODE_ERRORS
from kitmsg.context import Context, new_request_id
from kitmsg.errors import (
    Code,
    Internal,
    InvalidArgument,
    KitError,
)
from kitmsg.tracing import tracer
from kitmsg.tracing.conventions import rpc_attributes
from kitmsg.transport.replies import reply_codec
from kitmsg.wire import ERROR, REQUEST_ID, TIMEOUT
from kitmsg_gateways.edge.accesslog import AccessLog
from kitmsg_gateways.edge.admission import full
from kitmsg_gateways.edge.answers import DECODERS, ENCODERS, details
from kitmsg_gateways.edge.auth import Public
from kitmsg_gateways.edge.calls import request_id
from kitmsg_gateways.edge.metrics import OTHER
from kitmsg_gateways.edge.spans import carrier, exemplary, finish
from kitmsg_gateways.edge.visit import Visit
from kitmsg_gateways.thrift.encode import UNFIT
from kitmsg_gateways.thrift.errors import encode_error
from kitmsg_gateways.thrift.protocol.base import Begin, Kind

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kitmsg.auth import Principal
    from kitmsg.message import Message
    from kitmsg.tracing.seam import Operation, Span
    from kitmsg_gateways.edge.auth import Gate
    from kitmsg_gateways.edge.calls import Callers, EdgeCaller
    from kitmsg_gateways.edge.metrics import Metrics
    from kitmsg_gateways.thrift.methods import Served
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol.base import ThriftProtocol

__all__ = ["Calls"]

_log = logging.getLogger("kitmsg_gateways.thrift")

_OK: Final = "ok"
_MOST: Final = 4096
_NO_HEADERS: Final[Mapping[str, list[str]]] = {}
_ID_NAMES: Final = (REQUEST_ID.lower(), "x-request-id")
_TIMES: Final = (TIMEOUT.lower(), "client_timeout")
"""Headers of a call's time, in milliseconds: kitmsg's and fbthrift's."""

_TIME: Final = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_REPLY: Final = Kind.REPLY  # to look up a member of an enum costs as much as a call


class Calls:
    """Answers calls.

    Args:
        callers: Carries them over the bus.
        options: Limits, times and switches.
        metrics: Counts them.
        gate: Lets calls in.
    """

    def __init__(
        self, callers: Callers, options: GatewayOptions, metrics: Metrics, gate: Gate
    ) -> None:
        self._gate = gate
        self._public = Public(options.auth_public)
        self._callers = callers
        self._telling: set[asyncio.Task[None]] = set()
        self._options = options
        self._metrics = metrics
        self._access = (
            AccessLog("thrift", options.access_format) if options.access_log else None
        )
        self._tracer = tracer()
        self._operations: dict[str, Operation] = {}

    def is_open(self, served: Served | None) -> bool:
        """Tell whether anybody may call a method; None for one that is not there."""
        return self._gate.is_open or (
            served is not None and served.name in self._public
        )

    async def admit(
        self, address: str, given: Mapping[str, list[str]], shown: Principal | None
    ) -> Visit:
        """Return one call that was let in.

        Args:
            address: Of the client.
            given: The headers of the call, by names in lower case.
            shown: Of the client's certificate; None without.

        Raises:
            Refused: The credentials do not hold, or there are none.
            KitError: The client calls too often, or cannot be checked now, or what it
                sends cannot be passed on.
        """
        authorization = given.get("authorization", [])
        keys = given.get("x-api-key", [])
        visit = self._visit(address, given)
        credentials = self._gate.auth.given(authorization, keys)
        who = await self._gate.admit(address, credentials, shown, visit.id)
        self._check(visit)
        return dataclasses.replace(visit, principal=who)

    def visit(self, address: str, given: Mapping[str, list[str]]) -> Visit:
        """Return one call that anybody may make; see `admit`.

        Raises:
            InvalidArgument: What the client sends cannot be passed on.
        """
        visit = self._visit(address, given)
        self._check(visit)
        return visit

    def _check(self, visit: Visit) -> None:
        """Raise what is wrong with its headers before the call has begun."""
        visit.fields({})
        visit.given(self._callers, {})

    def _visit(self, address: str, given: Mapping[str, list[str]]) -> Visit:
        options = self._options
        id_ = "" if options.public else _first(given, _ID_NAMES)
        return Visit(
            id=request_id(id_),
            address=address,
            authorization=given.get("authorization", [])
            if options.forward_authorization
            else (),
            trace=carrier(given),
            is_outside=options.public,
            seconds=_seconds(given),
            sent=lambda name: given.get(name, ()),
        )

    def begin(
        self, served: Served, given: Mapping[str, Sequence[str]] = _NO_HEADERS
    ) -> Span | None:
        """Begin the span of a call, and enter it; None where nothing is traced."""
        if self._tracer is None:
            return None
        operation = self._operations.get(served.name)
        if operation is None:
            if len(self._operations) >= _MOST:  # methods that came and went
                self._operations.clear()
            attributes = rpc_attributes("thrift", served.name)
            operation = self._tracer.server(served.name, attributes)
            self._operations[served.name] = operation
        return operation.accept(given, is_public=self._options.public)

    async def answer(  # noqa: PLR0912, PLR0915  # one frame for every call, not three
        self,
        served: Served,
        protocol: ThriftProtocol,
        begin: Begin,
        args: Any,
        who: str,
        visit: Visit | None = None,
    ) -> bytes:
        """Return the answer to one call, be it an error; never raises a `KitError`.

        Args:
            served: The method.
            protocol: How the client speaks.
            begin: How its message began.
            args: The parameters.
            who: The client's address, for the access log.
            visit: Who calls, where somebody was asked.
        """
        started, code, metrics = perf_counter(), _OK, self._metrics
        span = self.begin(served, visit.trace if visit else _NO_HEADERS)
        headers = visit.fields({}) if visit else {REQUEST_ID: new_request_id()}
        id_ = headers[REQUEST_ID]
        try:
            caller = self._callers.of(served.endpoint)
            ctx = self._context(served, caller, visit, headers)
            data = self._request(served, args)
            metrics.in_flight += 1
            try:
                reply = await caller.send(ctx, data)
            except KitError as exc:
                fields, code = _failed(served, exc, caller.explained(ctx, exc))
            else:
                fields = served.binding.result(_value(served, reply))
            finally:
                metrics.in_flight -= 1
            out = bytearray(protocol.head(begin.name, _REPLY, begin.seqid))
            served.coder(protocol)[1](out, fields)
        except asyncio.CancelledError:
            code = Code.CANCELLED.value
            raise
        except KitError as exc:
            code = exc.code.value
            return encode_error(protocol, begin, exc)
        except Exception as exc:  # noqa: BLE001  # logged; the client must not wait for ever
            code = Code.INTERNAL.value
            return encode_error(protocol, begin, _broken(served, exc, id_))
        finally:
            seconds = perf_counter() - started
            if metrics.observe(served.name, code, seconds):
                trace = exemplary(span, visit.trace if visit else _NO_HEADERS)
                metrics.exemplify(served.name, code, seconds, trace)
            if span is not None:
                span.finish(None if code == _OK else Code(code))
            if self._access is not None:
                self._access.write(
                    f"{served.name} {code}",
                    client=who,
                    seconds=seconds,
                    principal=visit.principal if visit else None,
                    request_id=id_,
                )
        return bytes(out)

    def _request(self, served: Served, args: Any) -> bytes:
        """Return a request's bytes.

        Raises:
            ResourceExhausted: Too many calls are in flight.
            InvalidArgument: The parameters cannot be sent.
        """
        if self._metrics.in_flight >= self._options.max_concurrent:
            raise full(self._options.max_concurrent)
        return _encode(served, args)

    def _context(
        self,
        served: Served,
        caller: EdgeCaller,
        visit: Visit | None,
        fields: dict[str, str],
    ) -> Context:
        callers, codec = self._callers, served.codec
        asked = None if visit is None else visit.seconds
        seconds = callers.seconds(asked, served.endpoint)
        if visit is None:
            return callers.context(caller, codec, seconds, fields)
        who, given = visit.principal, visit.given(callers, {})
        return callers.context(caller, codec, seconds, fields, who, given)

    def tell(self, served: Served, args: Any, visit: Visit | None = None) -> None:
        """Send a call that nobody waits for; what goes wrong is counted and logged."""
        # Apart from others of the connection, whose span is none of theirs.
        copy_context().run(self._begin_telling, served, args, visit)

    def _begin_telling(self, served: Served, args: Any, visit: Visit | None) -> None:
        started = perf_counter()
        span = self.begin(served, visit.trace if visit else _NO_HEADERS)
        try:
            data, caller = _encode(served, args), self._callers.of(served.endpoint)
            fields = visit.fields({}) if visit else {REQUEST_ID: new_request_id()}
            ctx = self._context(served, caller, visit, fields)
            sending = caller.publish(ctx, data)
        except KitError as exc:
            self._told(served, started, span, exc)
            return
        if sending is None:
            self._told(served, started, span)
            return
        telling = asyncio.create_task(self._tell(served, started, span, sending))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    async def _tell(
        self,
        served: Served,
        started: float,
        span: Span | None,
        sending: Coroutine[Any, Any, None],
    ) -> None:
        """Wait for an instance to be picked, whether the client is still there or not."""
        try:
            await sending
        except KitError as exc:
            self._told(served, started, span, exc)
        else:
            self._told(served, started, span)

    def _told(
        self,
        served: Served,
        started: float,
        span: Span | None,
        error: KitError | None = None,
    ) -> None:
        if error is not None:
            _log.debug("%s was not told: %s", served.name, error)
        if span is not None:
            finish(span, error)
        code = _OK if error is None else error.code.value
        self._metrics.observe(served.name, code, perf_counter() - started)

    def refuse(self, protocol: ThriftProtocol, begin: Begin, error: KitError) -> bytes:
        """Return the answer to a call that is not carried out, and count it."""
        self._metrics.observe(OTHER, error.code.value, 0.0)
        return encode_error(protocol, begin, error)


def _first(given: Mapping[str, list[str]], names: Sequence[str]) -> str:
    return next((given[name][0] for name in names if given.get(name)), "")


def _seconds(given: Mapping[str, list[str]]) -> float | None:
    """Return the time that a call gives itself; None if it does not say.

    Raises:
        InvalidArgument: It is no positive number of milliseconds.
    """
    text = _first(given, _TIMES)
    if not text:
        return None
    if not _TIME.fullmatch(text):
        raise InvalidArgument(
            f"header {TIMEOUT} must be positive whole milliseconds, not {text[:40]!r}",
            field=TIMEOUT,
        )
    return int(text) / 1000


def _encode(served: Served, args: Any) -> bytes:
    convert = served.binding.request
    try:
        request = args if convert is None else convert(args)
        return ENCODERS[served.codec.name](request)
    except ENCODE_ERRORS as exc:
        raise InvalidArgument(f"the request of {served.name} cannot be sent") from exc


def _value(served: Served, reply: Message) -> Any:
    """Return what a reply holds."""
    codec = served.codec
    if reply.header_block:
        codec = reply_codec(reply, codec)
    if not reply.data:
        return None
    decode = DECODERS.get(codec.name)
    if decode is None:
        return reply.data
    value = decode(reply.data)
    if (
        served.endpoint.wire == "gokit"
        and served.is_wrapped
        and isinstance(value, dict)
    ):
        return next((v for k, v in value.items() if k.lower() == "v"), None)
    return value


def _failed(
    served: Served, error: KitError, told: KitError
) -> tuple[dict[str, Any], str]:
    """Return the result's fields for the error of a call, and what to count it as.

    Args:
        served: The method.
        error: As the call raised it.
        told: What of it is fit for strangers.

    Raises:
        KitError: The method has no place for it.
    """
    fields = _declared(served, told)
    if fields is not None:
        return fields, told.code.value
    if told is error:
        raise error
    raise told from error


def _declared(served: Served, error: KitError) -> dict[str, Any] | None:
    """Return the result's fields for an error that the method has a place for."""
    reply, binding = error.reply, served.binding
    if reply is None:
        return None
    name = reply.headers.get(ERROR, "") if reply.header_block else ""
    make = binding.errors.get(name)
    if make is not None and served.endpoint.wire != "gokit":
        return make(details(reply, served.codec), str(error))
    if binding.refusal is not None and (name or served.endpoint.wire == "gokit"):
        return binding.refusal(str(error))
    return None


def _broken(served: Served, why: Exception, id_: str) -> KitError:
    """Return the error of a reply that does not fit, or of a failure of the gateway itself.

    What it held, and what failed, goes to the log only.
    """
    extra = {"endpoint": served.name, "request_id": id_}
    if not isinstance(why, UNFIT):
        _log.error(
            "a call of %s failed here (request id %s)",
            *(served.name, id_),
            exc_info=why,
            extra=extra,
        )
        return Internal(f"the gateway failed; its log says more under request id {id_}")
    _log.warning(
        "%s answered what does not fit: %s: %s (request id %s)",
        *(served.name, type(why).__name__, why, id_),
        extra=extra,
    )
    return Internal(
        f"{served.name} answered what does not fit its types; the gateway's log says"
        f" more under {id_}"
    )
