"""The service as Go kit's own addsvc has it: Go kit's clients cannot tell the difference.

    python -m examples.addsvc

Same rules and texts as there, and its way on the bus: bare JSON, keys in any case,
``{"v": 3}`` for a result and ``{"err": "..."}`` for a refusal.  The gateways do the rest:
HTTP and JSON-RPC pass these bytes on, gRPC and Thrift have their own place for `err`, given
by Go kit's .proto and .thrift beside this file.
"""

from kitmsg import BusinessError, Code, Service, endpoint

INT_MAX = 2**31 - 1
INT_MIN = -(2**31)
MAX_BYTES = 10


class TwoZeroes(BusinessError):
    """An arbitrary business rule."""

    code = Code.INVALID_ARGUMENT
    template = "can't sum two zeroes"


class IntOverflow(BusinessError):
    """The sum does not fit into 32 bits."""

    code = Code.OUT_OF_RANGE
    template = "integer overflow"


class MaxSizeExceeded(BusinessError):
    """The result is too long."""

    code = Code.INVALID_ARGUMENT
    template = "result exceeds maximum size"


def make_service(sum_subject: str = "", concat_subject: str = "") -> Service:
    """Return the service, at these subjects; ``addsvc.sum``, ``addsvc.concat`` if empty."""

    class AddService(Service):
        """Adds numbers and joins strings."""

        name = "addsvc"
        version = "1.0.0"

        @endpoint(
            http="POST /sum",
            wire="gokit",
            subject=sum_subject,
            idempotent=True,
            raises=[TwoZeroes, IntOverflow],
        )
        async def sum(self, a: int, b: int) -> int:
            """Add two numbers."""
            if a == 0 and b == 0:
                raise TwoZeroes
            if not INT_MIN <= a + b <= INT_MAX:
                raise IntOverflow
            return a + b

        @endpoint(
            http="POST /concat",
            wire="gokit",
            subject=concat_subject,
            idempotent=True,
            raises=[MaxSizeExceeded],
        )
        async def concat(self, a: str, b: str) -> str:
            """Join two strings."""
            if len((a + b).encode()) > MAX_BYTES:
                raise MaxSizeExceeded
            return a + b

    return AddService()
