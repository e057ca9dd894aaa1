r"""The unit the bus moves: a subject, headers and bytes.  No I/O here.

Headers travel as one block of bytes, ``NATS/1.0\r\nName: value\r\n\r\n`` (NATS ADR-4).
The bus hands the block over as it came; it is parsed when somebody looks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from kitmsg.errors import InvalidArgument

__all__ = [
    "EMPTY_HEADERS",
    "Headers",
    "Message",
    "all_printable",
    "check_name",
    "check_subject",
    "encode_headers",
    "joined_headers",
    "matches",
    "printable",
]

_VERSION: Final = b"NATS/1.0"
_LINE: Final = b"\r\n"
_FIRST_LINE = re.compile(rb"NATS/1\.0(?:[ \r]|$)")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
# Controls (C0, C1), line separators, and what turns the direction of text around.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_CONTROLS_BUT_LINES = re.compile(
    _CONTROLS.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f")
)
_BAD_TOKEN = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
# A line break or NUL lets one field forge another; a lone surrogate has no UTF-8.
_BAD_VALUE = re.compile(r"[\r\n\x00\ud800-\udfff]")
# RFC 7230 token characters, as NATS servers and clients take them.
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

_MOST_NAMES: Final = 1024
_known_names: set[str] = set()  # header names that were found to be tokens


class Headers(Mapping[str, str]):
    """Header fields of one message; names are compared without case.

    A name that came twice keeps its first value here; `all` has every one, and `single`
    refuses it.
    """

    __slots__ = ("_pairs", "_values")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._values: dict[str, str] = {}
        for name, value in self._pairs:
            self._values.setdefault(name.lower(), value)

    @classmethod
    def parse(cls, block: bytes) -> Headers:
        """Return the fields of a header block, its status line left out.

        Raises:
            InvalidArgument: The block is not ``NATS/1.0`` and lines of ``name: value``
                in UTF-8; the message names the line.
        """
        if not block:
            return EMPTY_HEADERS
        if not _FIRST_LINE.match(block):
            raise InvalidArgument(
                f"headers must begin with NATS/1.0, not {block[:16]!r}"
            )
        return cls(_field(line) for line in block.split(b"\r\n")[1:] if line)

    def single(self, name: str) -> str:
        """Return the value of `name`, "" when absent.

        Raises:
            InvalidArgument: `name` came more than once.
        """
        key = name.lower()
        if len(self._pairs) != len(self._values) and len(self.all(key)) > 1:
            raise InvalidArgument(f"header {name} came more than once", field=name)
        return self._values.get(key, "")

    def all(self, name: str) -> list[str]:
        """Return every value of `name`, in the order they came."""
        key = name.lower()
        return [value for field, value in self._pairs if field.lower() == key]

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return every field as it came: original case and order, duplicates included."""
        return self._pairs

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterable[str]:  # type: ignore[override]
        names = {name.lower(): name for name, _ in reversed(self._pairs)}
        return iter([names[key] for key in self._values])

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    try:
        field = name.decode("ascii"), value.strip(b" \t").decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"header line {line[:40]!r} is not UTF-8") from None
    if not colon or not _HEADER_NAME.fullmatch(field[0]) or _BAD_VALUE.search(field[1]):
        raise InvalidArgument(f"header line {line[:40]!r} is not 'name: value'")
    return field


EMPTY_HEADERS: Final = Headers()


def encode_headers(fields: Mapping[str, str]) -> bytes:
    """Return `fields` as a header block; b"" for none.

    Raises:
        InvalidArgument: A name is not a token, or a value holds CR, LF or NUL, which
            would let one field forge another, or half a surrogate pair.
    """
    if not fields:
        return b""
    text = "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
    # One look at the whole where nothing is wrong, as nearly always: no value brings a
    # line break if there are just those that stand between the fields.
    if (
        text.count("\n") == text.count("\r") == len(fields)
        and "\0" not in text
        and _known_names.issuperset(fields)
    ):
        try:
            return f"NATS/1.0\r\n{text}\r\n".encode()
        except UnicodeEncodeError:
            text = ""  # half a surrogate pair: refused below, by name
    lines = [_VERSION.decode()]
    for name, value in fields.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidArgument(f"header name {name!r} is not a token", field=name)
        if _BAD_VALUE.search(value):
            raise InvalidArgument(
                f"header {name} holds a line break, NUL or broken text", field=name
            )
        lines.append(f"{name}: {value}")
    if len(_known_names) < _MOST_NAMES:
        _known_names.update(fields)
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def joined_headers(first: bytes, second: bytes) -> bytes:
    """Return the header block with the fields of two; either may be b""."""
    if not first or not second:
        return first or second
    return first[: -len(_LINE)] + second[len(_VERSION) + len(_LINE) :]


# A Struct, because one is made for every message: it takes a quarter of the time.
class Message(msgspec.Struct, eq=False):
    """One message.

    Args:
        subject: Where it was sent; dotted tokens.
        data: The payload.
        reply: Subject that an answer goes to; "" when none is wanted.
        header_block: The headers as bytes on the wire; b"" for none.

    Attributes:
        is_plain: Whether a transport has found that nothing in the headers says how the
            payload is to be read; False while nobody has looked.
    """

    subject: str
    data: bytes = b""
    reply: str = ""
    header_block: bytes = b""
    is_plain: bool = False
    _headers: Headers | None = None

    @property
    def headers(self) -> Headers:
        """The header fields, parsed once.

        Raises:
            InvalidArgument: The block is malformed.
        """
        if self._headers is None:
            self._headers = Headers.parse(self.header_block)
        return self._headers

    @property
    def status(self) -> int:
        """Status number of the header line, such as 503 for no responders; 0 for none."""
        digits = self.header_block[len(_VERSION) + 1 : len(_VERSION) + 4]
        return int(digits) if digits.isdigit() else 0

    def __repr__(self) -> str:
        return (
            f"Message({self.subject!r}, {len(self.data)} bytes, reply={self.reply!r})"
        )


def printable(text: str, *, lines: bool = False) -> str:
    """Return `text` fit to be shown: without what moves a terminal or turns text around.

    Args:
        text: From anybody.
        lines: Whether line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return (_CONTROLS_BUT_LINES if lines else _CONTROLS).sub(" ", text)


def all_printable(value: Any) -> Any:
    """Return a plain value, in whose texts and keys `printable` was applied."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {all_printable(key): all_printable(each) for key, each in value.items()}
    return [all_printable(each) for each in value] if isinstance(value, list) else value


def check_subject(subject: str, *, wildcards: bool = False) -> str:
    """Return `subject` if a message can be sent to it.

    Args:
        subject: Dotted tokens.
        wildcards: Allow ``*`` and a final ``>``, for subscribing.

    Raises:
        InvalidArgument: It is empty, has an empty token, white space or a wildcard where
            none may be.
    """
    tokens = subject.split(".")
    if not all(tokens) or _BAD_TOKEN.search(subject):
        raise InvalidArgument(
            f"{subject!r} is not a subject: dotted tokens, no white space"
        )
    if not wildcards and ("*" in tokens or ">" in tokens):
        raise InvalidArgument(f"{subject!r} has a wildcard; name one subject")
    if ">" in tokens[:-1]:
        raise InvalidArgument(f"{subject!r}: '>' may only be the last token")
    return subject


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name a service or an endpoint.

    Source: NATS ADR-32, "Service Configuration".

    Raises:
        ValueError: It does not match ``[A-Za-z0-9_-]+``; `what` says whose name it is.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} is named {name!r}; use letters, digits, '_' and '-'")
    return name


def matches(pattern: str, subject: str) -> bool:
    """Tell whether `subject` is covered by `pattern` (``*`` one token, ``>`` the rest)."""
    if pattern == subject:
        return True
    wanted, given = pattern.split("."), subject.split(".")
    for i, want in enumerate(wanted):
        if want == ">":
            return len(given) > i
        if i >= len(given) or want not in ("*", given[i]):
            return False
    return len(wanted) == len(given)
