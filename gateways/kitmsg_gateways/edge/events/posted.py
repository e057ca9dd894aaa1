"""An event as a client gives it: CloudEvents' attributes, and data in JSON.

Source: CloudEvents 1.0.2, "Context Attributes".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from kitmsg.errors import InvalidArgument

__all__ = ["Posted"]

_ID: Final = re.compile(r"[!-~]{1,256}")
_SOURCE: Final = re.compile(r"[!-~]{1,1024}")
_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_MOST_CHARS: Final = 4096
_OURS: Final = frozenset(
    {
        *("specversion", "id", "type", "source", "time", "dataschema", "data"),
        *("data_base64", "datacontenttype", "authid", "authtype", "authclaims"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """An event that is to be published.

    Attributes:
        id: Unique with `source`; by it the stream knows the event again.
        source: Where it happened; a URI reference.
        type: Name of the event; "" for the one that is published to.
        time: When it happened, as in RFC 3339; "" for now.
        schema: Its ``dataschema``; "" for none.
        data: Its fields.
        raw: The same in JSON, as it came; b"" to have it encoded.
        more: Extension attributes, by name.
        place: Where it stands in what came, such as ``[3]``; for errors.
    """

    id: str
    source: str
    data: Any
    type: str = ""
    time: str = ""
    schema: str = ""
    raw: bytes = b""
    more: Mapping[str, str] = field(default_factory=dict)
    place: str = ""

    def check(self, name: str) -> None:
        """Check the attributes of an event of the type `name`.

        Raises:
            InvalidArgument: One does not fit, naming it.
        """
        if not _ID.fullmatch(self.id):
            raise self.refusal(
                "id", "must be 1 to 256 printable ASCII characters without spaces"
            )
        if not _SOURCE.fullmatch(self.source):
            raise self.refusal(
                "source", "must be a URI reference of 1 to 1024 characters"
            )
        if self.type not in ("", name):
            raise self.refusal("type", f"must be {name!r}, not {self.type[:80]!r}")
        if self.time and not _is_time(self.time):
            raise self.refusal("time", "must be a time such as 2026-11-28T12:00:00Z")

    def extensions(self) -> dict[str, str]:
        """Return the extension attributes as header fields; what is not ASCII is encoded.

        Who is said to have published it is left out: the door knows better.

        Raises:
            InvalidArgument: A name is not of small letters and digits, or a value too long.
        """
        found = {}
        for name, value in self.more.items():
            if name in _OURS:
                continue
            if not _NAME.fullmatch(name):
                raise self.refusal(name[:80], "must be of small letters and digits")
            text = quote(value, safe=_PRINTABLE, errors="replace")
            if len(text) > _MOST_CHARS:
                raise self.refusal(name, f"must have {_MOST_CHARS} characters at most")
            found[f"ce-{name}"] = text
        return found

    def refusal(self, attribute: str, why: str) -> InvalidArgument:
        """Return the error of an attribute."""
        path = f"{self.place}.{attribute}" if self.place else attribute
        return InvalidArgument(f"{path} {why}", field=path)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None and text.isascii()
    except ValueError:
        return False
