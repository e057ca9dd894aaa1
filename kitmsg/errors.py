"""The error tree: one class for each code.

    KitError                  a `Code`, a message for people, maybe facts in `details`
      InvalidArgument         the request is wrong, whatever the state of the system
      DeadlineExceeded        time ran out (also a TimeoutError)
      Unavailable             nobody can do it now; trying again may help
        NoResponders          nobody serves the subject
        Disconnected          the bus is out of reach, or was lost while waiting
      PermissionDenied        the caller may not do this
        BusDenied             the bus lets this process not send or hear there
      ResourceExhausted       the service is full; `retry_after` says when to come back
      ... one class for each other `Code`: NotFound, Aborted, Internal, ...
      BusinessError           a declared, typed error of your own; its fields cross the wire

Every error has a `Code`, so one ``except KitError`` and one table per gateway cover all
of them.  A remote error is raised again as the class of its code.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, ClassVar, Self, dataclass_transform

__all__ = [
    "Aborted",
    "AlreadyExists",
    "BusDenied",
    "BusinessError",
    "Cancelled",
    "Code",
    "DataLoss",
    "DeadlineExceeded",
    "Disconnected",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "KitError",
    "NoResponders",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "code_of",
    "error_for",
    "outward",
]


class Code(StrEnum):
    """Kind of failure: gRPC's status names, with gRPC's meanings.

    Source: grpc.io, "Status codes", for names and `grpc`; google.rpc.Code for `http`;
    NATS ADR-32, "Error Handling", which wants a number in its header, for sending `http`
    there too; Apache Thrift's ``TApplicationException`` for `thrift`.
    """

    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    DATA_LOSS = "data_loss"
    UNAUTHENTICATED = "unauthenticated"

    @property
    def http(self) -> int:
        """HTTP status, also the number in ``Nats-Service-Error-Code``; not one to one."""
        return _TABLE[self][0]

    @property
    def grpc(self) -> int:
        """Status number in gRPC, 1 to 16; one to one."""
        return _TABLE[self][1]

    @property
    def thrift(self) -> int:
        """Type of a ``TApplicationException``; not one to one."""
        return _TABLE[self][2]

    @classmethod
    def from_http(cls, status: int) -> Code:
        """Return the code that an HTTP-like number from a foreign service means.

        Where several codes share a number the most general one wins; an unlisted 4xx is
        `INVALID_ARGUMENT`, anything else unlisted `UNKNOWN`.
        """
        known = _FROM_HTTP.get(status)
        if known is not None:
            return known
        return cls.INVALID_ARGUMENT if status // 100 == 4 else cls.UNKNOWN  # noqa: PLR2004

    @classmethod
    def from_grpc(cls, number: int) -> Code:
        """Return the code of a gRPC status number; `UNKNOWN` for one gRPC does not list."""
        return _FROM_GRPC.get(number, cls.UNKNOWN)

    @classmethod
    def from_thrift(cls, number: int) -> Code:
        """Return the code of a ``TApplicationException``; `UNKNOWN` for an unlisted type."""
        return _FROM_THRIFT.get(number, cls.UNKNOWN)


# code -> (HTTP status, gRPC number, Thrift exception type)
_TABLE: dict[Code, tuple[int, int, int]] = {
    Code.CANCELLED: (499, 1, 6),
    Code.UNKNOWN: (500, 2, 0),
    Code.INVALID_ARGUMENT: (400, 3, 7),
    Code.DEADLINE_EXCEEDED: (504, 4, 6),
    Code.NOT_FOUND: (404, 5, 6),
    Code.ALREADY_EXISTS: (409, 6, 6),
    Code.PERMISSION_DENIED: (403, 7, 6),
    Code.RESOURCE_EXHAUSTED: (429, 8, 6),
    Code.FAILED_PRECONDITION: (400, 9, 6),
    Code.ABORTED: (409, 10, 6),
    Code.OUT_OF_RANGE: (400, 11, 7),
    Code.UNIMPLEMENTED: (501, 12, 1),
    Code.INTERNAL: (500, 13, 6),
    Code.UNAVAILABLE: (503, 14, 6),
    Code.DATA_LOSS: (500, 15, 6),
    Code.UNAUTHENTICATED: (401, 16, 6),
}
_FROM_GRPC = {grpc: code for code, (_, grpc, _) in _TABLE.items()}
# Thrift's names: unknown method, invalid message type, wrong method name, bad sequence id,
# missing result, internal error, protocol error, invalid transform, invalid protocol,
# unsupported client type.
_FROM_THRIFT = {
    1: Code.UNIMPLEMENTED,
    2: Code.INVALID_ARGUMENT,
    3: Code.DATA_LOSS,
    4: Code.DATA_LOSS,
    5: Code.DATA_LOSS,
    6: Code.INTERNAL,
    7: Code.INVALID_ARGUMENT,
    8: Code.UNIMPLEMENTED,
    9: Code.UNIMPLEMENTED,
    10: Code.UNIMPLEMENTED,
}
_FROM_HTTP = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ABORTED,
    412: Code.FAILED_PRECONDITION,
    416: Code.OUT_OF_RANGE,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


class KitError(Exception):
    """Base of every error that kitmsg raises on purpose.

    Args:
        message: One sentence for people; it reaches the caller, so no secrets.
        retry_after: When trying again may help, in seconds from now; None if unknown.
        request_id: The request it answers, as in the service's log; "" if unknown.

    Attributes:
        reply: The message that told of it, on the calling side; None for an error that was
            made in this process.  Transports read it, nothing else should.
        refused: Dotted name of the endpoint whose work certainly never began; "" where it
            may have.  It names the endpoint, because an error travels: a service that lets
            an error of its own call through has begun.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    reply: Any = None
    refused: str = ""

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.request_id = request_id

    def __str__(self) -> str:
        return self.message or self.code.value

    def before(self, endpoint: str) -> Self:
        """Return itself, with the mark that the work of `endpoint` never began."""
        self.refused = endpoint
        return self


class Cancelled(KitError):
    """The caller gave up before the answer came."""

    code = Code.CANCELLED


class Unknown(KitError):
    """The peer failed and did not say how, or in a way that is not ours."""

    code = Code.UNKNOWN


class InvalidArgument(KitError):
    """The request is wrong, whatever the state of the system.

    Args:
        message: What was wrong and what was expected.
        field: Path of the offending field, such as ``order.lines[2].sku``; "" for none.
        retry_after: As in `KitError`.
        request_id: As in `KitError`.
    """

    code = Code.INVALID_ARGUMENT

    def __init__(
        self,
        message: str = "",
        *,
        field: str = "",
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message, retry_after=retry_after, request_id=request_id)
        self.field = field


class DeadlineExceeded(KitError, TimeoutError):
    """The deadline passed before the answer came.

    The peer may still have done the work.
    """

    code = Code.DEADLINE_EXCEEDED


class NotFound(KitError):
    """The thing asked for does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(KitError):
    """The thing to be made exists already."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(KitError):
    """The caller is known and may not do this."""

    code = Code.PERMISSION_DENIED


class BusDenied(PermissionDenied):
    """The bus does not let this process send or hear there: its user has no such right.

    That is for whoever runs the process.  Those that it works for are told `outward`.
    """


class ResourceExhausted(KitError):
    """A quota or a mailbox is full; `retry_after` says when to come back."""

    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(KitError):
    """The system is not in the state the request needs; retrying alone will not help."""

    code = Code.FAILED_PRECONDITION


class Aborted(KitError):
    """A conflict with a concurrent change; trying the whole sequence again may help."""

    code = Code.ABORTED


class OutOfRange(KitError):
    """Past the valid range, such as reading after the end; the state could change that."""

    code = Code.OUT_OF_RANGE


class Unimplemented(KitError):
    """The service does not have this endpoint or this feature of it."""

    code = Code.UNIMPLEMENTED


class Internal(KitError):
    """The service failed; its log has the details under `request_id`."""

    code = Code.INTERNAL


class Unavailable(KitError):
    """Nobody can do it now; trying again, with a delay, may help."""

    code = Code.UNAVAILABLE


class NoResponders(Unavailable):
    """Nobody is subscribed to the subject (NATS status 503).

    Full instances leave their queue group, so this is what most calls of an overloaded
    service meet.  With the hint `KNOWN` it says when to come back.
    """

    KNOWN: ClassVar[str] = "it is known, but every instance is full, leaving or gone"
    """Hint about an endpoint that is known and that nobody serves now."""

    def __init__(
        self, subject: str, hint: str = "", *, retry_after: float | None = None
    ) -> None:
        super().__init__(
            f"no responders for {subject!r}" + (f"; {hint}" if hint else ""),
            retry_after=retry_after,
        )
        self.subject = subject
        self.hint = hint


class Disconnected(Unavailable):
    """The bus is out of reach, or was lost while waiting.

    `sent` is False when the message never left: it was not and will not be carried out.
    """

    def __init__(
        self, message: str = "not connected to the bus", *, sent: bool = False
    ) -> None:
        super().__init__(message)
        self.sent = sent


class DataLoss(KitError):
    """Data is lost or broken beyond repair."""

    code = Code.DATA_LOSS


class Unauthenticated(KitError):
    """The caller is not known: credentials are missing or wrong."""

    code = Code.UNAUTHENTICATED


_OWN = frozenset(
    {
        "args",
        "code",
        "message",
        "refused",
        "reply",
        "request_id",
        "retry_after",
        "template",
    }
)


@dataclass_transform(eq_default=False)
class BusinessError(KitError):
    """A declared error of your own: a dataclass whose fields cross the wire.

    ::

        class OutOfStock(BusinessError):
            code = Code.FAILED_PRECONDITION
            template = "only {left} of {sku} left"
            sku: str
            left: int = 0

    Declare it with ``@endpoint(raises=[OutOfStock])``, raise it in the service, catch it in
    the caller.  `template` makes the message from the fields; without one it is the first
    line of the docstring.
    """

    code = Code.FAILED_PRECONDITION
    template: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        doc = cls.__doc__
        dataclasses.dataclass(eq=False, repr=False)(cls)
        cls.__doc__ = doc  # not the signature that dataclass writes there
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            if field.name in _OWN:
                raise TypeError(
                    f"{cls.__name__}: field {field.name!r} belongs to every error;"
                    " choose another name"
                )

    def __post_init__(self) -> None:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        doc = (type(self).__doc__ or "").strip().partition("\n")[0]
        KitError.__init__(
            self, self.template.format(**fields) if self.template else doc
        )

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, f.name) for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return type(self), tuple(values), self.__dict__


def _by_code(root: type[KitError]) -> dict[Code, type[KitError]]:
    """Return the class of each code: the direct children of `root` that set one."""
    return {cls.code: cls for cls in root.__subclasses__() if cls is not BusinessError}


_CLASSES = _by_code(KitError)


def error_for(code: Code, message: str, **facts: Any) -> KitError:
    """Return an error of the class that stands for `code`.

    Args:
        code: Kind of failure.
        message: One sentence for people.
        facts: `retry_after`, `request_id`, as in `KitError`.
    """
    return _CLASSES[code](message, **facts)


def outward(error: KitError) -> KitError:
    """Return what a caller may know of an error that a call made on its behalf met.

    All but `BusDenied` as it is: that one is no fault of the caller, and its text is the
    configuration of whoever answers, whose log is the place for it.
    """
    if not isinstance(error, BusDenied):
        return error
    return Internal(_DENIED, request_id=error.request_id)


_DENIED = "what this needs is not allowed on the bus; the log here says more"


def code_of(error: BaseException) -> Code:
    """Return the code of any exception; `INTERNAL` for one that has none.

    Any exception may have one: a plain class that imports nothing of kitmsg says
    ``code = "not_found"``.
    """
    try:
        return Code(getattr(error, "code", ""))
    except ValueError:
        return Code.INTERNAL
