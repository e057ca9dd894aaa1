"""Places of parameters in HTTP requests: a header instead of query or body.

On the bus it is a field of the request like any other.  Its JSON Schema has the header's
name under ``x-header``, which is how a gateway knows.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

__all__ = ["HEADER_KEY", "header", "is_free_header"]

HEADER_KEY: Final = "x-header"
"""Key in a property's JSON Schema that holds the header's name."""

# RFC 9110, section 5.1: a field name is a token.
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")

# What frames a message, names its caller or is the toolkit's own word.
_TAKEN: Final = re.compile(
    r"authorization|connection|content-.*|cookie|expect|forwarded|host|if-.*|keep-alive"
    r"|kit-.*|nats-.*|proxy-.*|range|request-timeout|te|trailer|transfer-encoding"
    r"|upgrade|x-forwarded-.*|x-request-timeout-ms",
    re.IGNORECASE,
)


def header(name: str) -> msgspec.Meta:
    """Return the mark of a parameter that an HTTP caller gives in a header.

    Write ``tenant: Annotated[str, header("X-Tenant")]``.  Several values of a list come
    in one header with commas between, or in several.

    Args:
        name: The header's name; compared without case.

    Raises:
        ValueError: It is no name of a header, or one that has a meaning of its own, such
            as ``Host`` or ``Authorization``.
    """
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header, such as 'X-Tenant'")
    if not is_free_header(name):
        raise ValueError(
            f"the header {name!r} has a meaning of its own; choose another, such as"
            f" 'X-{name}'"
        )
    return msgspec.Meta(extra_json_schema={HEADER_KEY: name})


def is_free_header(name: str) -> bool:
    """Tell whether a parameter may come from the header `name`."""
    return bool(_TOKEN.fullmatch(name)) and not _TAKEN.fullmatch(name)
