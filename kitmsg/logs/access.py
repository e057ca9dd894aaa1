"""Lines of calls as web servers write them: Common Log Format, combined, and JSON.

Common Log Format is that of NCSA httpd, as Apache's ``mod_log_config`` documents it:

    127.0.0.1 - ann [28/Nov/2026:19:35:01 +0000] "GET /hello/Ann HTTP/1.1" 200 13

Nothing of a request's body and query is in it, and of its headers only, in ``combined``, the
referer (without its query) and the user agent.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ACCESS_FORMATS", "LINE", "Call", "access_line"]

LINE: Final = "line"
"""The format that is a log line like any other."""

ACCESS_FORMATS: Final = (LINE, "common", "combined", "json")
"""Formats of lines of calls, by name."""

_MONTHS: Final = [
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
]
_SPECIAL: Final = re.compile(r'["\\]|[^\x20-\x7e]')
_LONGEST: Final = 2048  # of a text that a client sends


class Call(NamedTuple):
    """One call that has ended.

    Attributes:
        client: The address that called; "" when it has none.
        user: Name of the principal; "" when nobody knows.
        method: HTTP's, or ``CALL``.
        path: What was called; without a query.
        protocol: Such as ``HTTP/1.1``.
        status: As HTTP's.
        size: Bytes of the answer's body; None when it is not known.
        seconds: How long it took.
        referer: Of the request; "" for none.
        agent: Of the request; "" for none.
    """

    client: str
    user: str
    method: str
    path: str
    protocol: str
    status: int
    size: int | None
    seconds: float
    referer: str = ""
    agent: str = ""


def access_line(
    form: str, call: Call, moment: datetime, facts: Mapping[str, Any]
) -> str:
    """Return the line of a call.

    Args:
        form: ``common``, ``combined`` or ``json``.
        call: The call.
        moment: When it ended, with its time zone.
        facts: More fields, of JSON.
    """
    if form == "json":
        return _json(call, moment, facts)
    # The month's name is English, whatever the locale.
    month = _MONTHS[moment.month - 1]
    when = f"{moment:%d}/{month}/{moment:%Y:%H:%M:%S %z}"
    size = "-" if call.size is None else str(call.size)
    line = (
        f"{_word(call.client)} - {_word(call.user)} [{when}]"
        f' "{_text(f"{call.method} {call.path} {call.protocol}")}" {call.status} {size}'
    )
    if form == "common":
        return line
    referer = call.referer.partition("?")[0]
    return f'{line} "{_text(referer) or "-"}" "{_text(call.agent) or "-"}"'


def _json(call: Call, moment: datetime, facts: Mapping[str, Any]) -> str:
    stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, Any] = {
        "ts": stamp,
        "client": call.client,
        "principal": call.user or None,
        "method": call.method,
        "path": call.path[:_LONGEST],
        "protocol": call.protocol,
        "status": call.status,
        "bytes": call.size,
        "ms": round(call.seconds * 1000, 1),
    }
    for name, value in facts.items():
        fields.setdefault(name, value)
    return json.dumps({k: v for k, v in fields.items() if v is not None}, default=str)


def _text(text: str) -> str:
    """Return what a client sent with what ends a field or a line escaped, as Apache does."""
    return _SPECIAL.sub(_escaped, text[:_LONGEST])


def _word(text: str) -> str:
    return _text(text).replace(" ", "\\x20") or "-"


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if char in '"\\':
        return f"\\{char}"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
