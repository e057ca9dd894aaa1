"""The service: it adds numbers and joins strings, with Go kit's business rules.

    kitmsg dev examples/addsvc
    kitmsg run examples.addsvc.service:AddService --workers 2

Each refusal is a class with fields.  A Python caller catches it as itself; over HTTP it is
a problem document with the same fields.
"""

from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.middleware import log, rate_limit

INT_MAX = 2**31 - 1
INT_MIN = -(2**31)
MAX_BYTES = 10


class TwoZeroes(BusinessError):
    """Two zeroes are not worth a call."""

    code = Code.INVALID_ARGUMENT
    template = "two zeroes are not worth a call"


class IntOverflow(BusinessError):
    """The sum does not fit into 32 bits."""

    code = Code.OUT_OF_RANGE
    template = "{a} + {b} is not within 32 bits"
    a: int
    b: int


class TwoEmptyStrings(BusinessError):
    """Two empty strings are not worth a call."""

    code = Code.INVALID_ARGUMENT
    template = "two empty strings are not worth a call"


class MaxSizeExceeded(BusinessError):
    """The result is too long."""

    code = Code.INVALID_ARGUMENT
    template = "the result has {size_bytes} bytes, at most {max_bytes} are allowed"
    size_bytes: int
    max_bytes: int


class AddService(Service):
    """Adds numbers and joins strings."""

    name = "addsvc"
    version = "1.0.0"
    middleware = (log(), rate_limit(1000))

    @endpoint(http="POST /sum", idempotent=True, raises=[TwoZeroes, IntOverflow])
    async def sum(self, a: int, b: int) -> int:
        """Add two numbers."""
        if a == 0 and b == 0:
            raise TwoZeroes
        if not INT_MIN <= a + b <= INT_MAX:
            raise IntOverflow(a, b)
        return a + b

    @endpoint(
        http="POST /concat", idempotent=True, raises=[TwoEmptyStrings, MaxSizeExceeded]
    )
    async def concat(self, a: str, b: str) -> str:
        """Join two strings."""
        if not a and not b:
            raise TwoEmptyStrings
        size = len((a + b).encode())
        if size > MAX_BYTES:
            raise MaxSizeExceeded(size, MAX_BYTES)
        return a + b
