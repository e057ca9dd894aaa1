"""One method of a Thrift server: its calls and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import DataLoss, InvalidArgument, KitError
from kitmsg.tracing.conventions import rpc_attributes
from kitmsg_gateways.thrift.encode import UNFIT
from kitmsg_gateways.thrift.errors import FAILURE, decode_error
from kitmsg_gateways.thrift.protocol.base import Kind, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kitmsg.service.declare import Declaration
    from kitmsg_gateways.thrift.model import Method
    from kitmsg_gateways.thrift.protocol.base import ThriftProtocol

__all__ = ["SEQID", "SUCCESS", "ThriftMethod", "ThriftReply", "ThriftRequest"]

SUCCESS: Final = "success"
"""Field of a method's result that holds what it returns."""

SEQID: Final = 1
"""Of every call: a connection has one at a time."""


@dataclass(slots=True)
class ThriftRequest:
    """A call, before it is sent.

    Attributes:
        method: Its name on the wire.
        args: Its parameters by name, as Thrift has them.
        headers: By name; they go where the transport is THeader's.
    """

    method: str
    args: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class ThriftMethod:
    """One method of a server.

    Attributes:
        declaration: Name, schemas and options.
        method: Of the IDL.
        to_args: From a request to the parameters by name.
        to_result: From what the method returns to a result.
        errors: From the fields of an exception to the error, by its field of the result.
        business_error: Finds the error in what the method returns; None for a success.
    """

    declaration: Declaration
    method: Method
    to_args: Callable[[Any], dict[str, Any]]
    to_result: Callable[[Any], Any]
    errors: Mapping[str, Callable[[dict[str, Any]], Exception]]
    business_error: Callable[[Any], Exception | None] = lambda _: None

    def described(self) -> tuple[str, Mapping[str, str]]:
        """Return name and attributes of the spans of its calls."""
        name = self.declaration.subject
        return name, rpc_attributes("thrift", self.method.name)

    def encode(self, request: Any) -> ThriftRequest:
        """Return the call.

        Raises:
            InvalidArgument: The request does not fit.
        """
        try:
            return ThriftRequest(self.method.name, self.to_args(request))
        except UNFIT as exc:
            raise self._unfit(exc) from exc

    def write(
        self, protocol: ThriftProtocol, request: ThriftRequest, prefix: str
    ) -> bytes:
        """Return the message of a call.

        Args:
            protocol: Of the server.
            request: The call.
            prefix: In front of the method's name.

        Raises:
            InvalidArgument: A parameter does not fit its type.
        """
        kind = Kind.ONEWAY if self.method.is_oneway else Kind.CALL
        name = f"{prefix}{request.method}".encode()
        out = bytearray(protocol.head(name, kind, SEQID))
        try:
            protocol.writer(self.method.args)(out, request.args)
        except UNFIT as exc:
            raise self._unfit(exc) from exc
        return bytes(out)

    def _unfit(self, why: BaseException) -> KitError:
        subject = self.declaration.subject
        return InvalidArgument(f"the request of {subject} does not fit: {why}")

    def read(
        self, protocol: ThriftProtocol, data: bytes, position: int
    ) -> tuple[ThriftReply, int]:
        """Return the answer in a message, and where that ends.

        Raises:
            Malformed: It is no answer to our call.
        """
        begin = protocol.begin(data, position)
        is_failure = begin.kind == Kind.EXCEPTION
        if begin.seqid != SEQID or not (is_failure or begin.kind == Kind.REPLY):
            raise Malformed("it answers another message")
        type_ = FAILURE if is_failure else self.method.result
        read = protocol.reader(type_)
        fields, end = read(data, begin.position, protocol.limits.max_depth)
        return ThriftReply(is_failure, fields), end

    def error(self, reply: ThriftReply) -> Exception | None:
        """Return the error that an answer tells of; None for a success."""
        if reply.is_failure:
            return decode_error(reply.fields)
        for name, rebuild in self.errors.items():
            if name in reply.fields:
                return rebuild(reply.fields[name])
        if self.method.success is None:
            return None
        if SUCCESS not in reply.fields:
            return DataLoss(f"{self.declaration.subject}: the answer has no result")
        return self.business_error(reply.fields[SUCCESS])

    def decode(self, reply: ThriftReply) -> Any:
        """Return the result in an answer.

        Raises:
            DataLoss: It does not fit.
        """
        return self.to_result(reply.fields.get(SUCCESS))
