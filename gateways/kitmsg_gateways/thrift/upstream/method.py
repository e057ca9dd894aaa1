"""One method of a Thrift server: what a call says, and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import (
    Code,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    error_for,
)
from kitmsg_gateways.thrift.decode import Decoders
from kitmsg_gateways.thrift.encode import UNFIT, Encoders
from kitmsg_gateways.thrift.protocol import FAILURE, Kind, Malformed
from kitmsg_gateways.thrift.upstream.offer import ERR, reply_struct

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.errors import BusinessError
    from kitmsg_gateways.thrift.convert import Convert
    from kitmsg_gateways.thrift.protocol import ThriftProtocol
    from kitmsg_gateways.thrift.upstream.offer import Offer

__all__ = ["RemoteMethod", "ThriftReply", "ThriftRequest"]

_SEQID: Final = 1  # a connection has one call at a time
_SUCCESS: Final = "success"


@dataclass(slots=True)
class ThriftRequest:
    """A call, before it is sent.

    Attributes:
        method: Its name on the wire.
        args: Its parameters by name, as Thrift has them.
    """

    method: str
    args: dict[str, Any]


@dataclass(slots=True)
class ThriftReply:
    """An answer.

    Attributes:
        is_failure: Whether it is a ``TApplicationException``.
        fields: Of the method's result: ``success`` or an exception's name; or ``message``
            and ``type`` of a failure.
    """

    is_failure: bool
    fields: dict[str, Any]


class RemoteMethod:
    """One method of a server.

    Args:
        offer: The method, as an endpoint.
        prefix: What goes in front of its name.
    """

    def __init__(self, offer: Offer, prefix: str = "") -> None:
        self._offer = offer
        self._prefix = prefix
        self._where = where = offer.declaration.subject
        self._beside = reply_struct(offer.method)
        # Bytes are bytes: what comes from the bus was conformed to its schema.
        self._args = Encoders(None, as_json=False).any_fields(offer.method.args, where)
        decoders = Decoders(None, as_json=False)
        self._result = decoders.any_fields(offer.method.result, where)

    @property
    def is_oneway(self) -> bool:
        """Whether nothing comes back."""
        return self._offer.method.is_oneway

    def request(self, request: Any) -> ThriftRequest:
        """Return the call that an endpoint's request is.

        Raises:
            InvalidArgument: It does not fit.
        """
        try:
            args = _applied(self._args, request)
        except UNFIT as exc:
            raise self._unfit(exc) from exc
        return ThriftRequest(self._offer.method.name, args)

    def write(self, protocol: ThriftProtocol, request: ThriftRequest) -> bytes:
        """Return the message that a call is.

        Raises:
            InvalidArgument: A parameter does not fit its type.
        """
        kind = Kind.ONEWAY if self.is_oneway else Kind.CALL
        name = f"{self._prefix}{request.method}".encode()
        out = bytearray(protocol.head(name, kind, _SEQID))
        try:
            protocol.writer(self._offer.method.args)(out, request.args)
        except UNFIT as exc:
            raise self._unfit(exc) from exc
        return bytes(out)

    def _unfit(self, why: BaseException) -> KitError:
        return InvalidArgument(f"the request of {self._where} does not fit: {why}")

    def read(
        self, protocol: ThriftProtocol, data: bytes, position: int
    ) -> tuple[ThriftReply, int]:
        """Return the answer in a message, and where that ends.

        Raises:
            Malformed: It is no answer to our call.
        """
        begin = protocol.begin(data, position)
        is_failure = begin.kind == Kind.EXCEPTION
        if begin.seqid != _SEQID or not (is_failure or begin.kind == Kind.REPLY):
            raise Malformed("it answers another message")
        type_ = FAILURE if is_failure else self._offer.method.result
        read = protocol.reader(type_)
        fields, end = read(data, begin.position, protocol.limits.max_depth)
        return ThriftReply(is_failure, fields), end

    def error(self, _ctx: Context, reply: ThriftReply) -> Exception | None:
        """Return the error that an answer tells of; None for a success."""
        if reply.is_failure:
            return _failure(reply.fields)
        method = self._offer.method
        for field in method.throws:
            if field.name in reply.fields:
                values = _applied(self._result, reply.fields)[field.key]
                return _thrown(self._offer.errors[field.name], values)
        if method.success is None:
            return None
        if _SUCCESS not in reply.fields:
            return DataLoss(f"{self._where}: the answer has no result")
        text = reply.fields[_SUCCESS].get(ERR) if self._beside is not None else ""
        return FailedPrecondition(text) if text else None

    def value(self, reply: ThriftReply) -> Any:
        """Return the result in an answer."""
        value = _applied(self._result, reply.fields).get(_SUCCESS)
        if self._beside is None:
            return value
        names = [field.key for field in self._beside]
        found = {name: value[name] for name in names if name in value}
        return found if len(names) > 1 else next(iter(found.values()), None)


def _failure(fields: dict[str, Any]) -> KitError:
    """Return the error of a ``TApplicationException``."""
    text, type_ = fields.get("message", ""), fields.get("type", 0)
    name, _, rest = text.partition(": ")
    if name in Code.__members__.values():
        return error_for(Code(name), rest)
    return error_for(Code.from_thrift(type_), text)


def _thrown(cls: type[BusinessError], values: dict[str, Any]) -> BusinessError:
    """Return the error that an exception is."""
    text = values.pop("message", "")
    known = cls.__annotations__
    named = {n if n in known else f"{n}_": value for n, value in values.items()}
    error = cls(**{n: value for n, value in named.items() if n in known})
    if isinstance(text, str) and text:
        error.message = text
        error.args = (text,)
    return error


def _applied(convert: Convert, value: Any) -> Any:
    return value if convert is None else convert(value)
