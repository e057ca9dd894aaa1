"""Output of commands: tables, colours, JSON, and the exit code of a failure."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "EXIT_CODES",
    "UsageError",
    "exit_code",
    "fail",
    "has_colour",
    "paint",
    "table",
    "to_json",
    "usage",
]

EXIT_CODES: Final = {
    0: "all is well",
    1: "the endpoint answered with an error of its own, whatever its code; or a failure",
    2: "the command is wrong: arguments, settings, files, code that cannot be imported",
    3: "nobody serves it, or the bus is out of reach",
    4: "no answer in time",
    5: "the request is wrong",
    6: "not allowed, or not known",
    7: "the service is full; trying again may help",
}
"""Exit code -> what it means."""

# errors.Code, by value, so that --help need not import it
_BY_CODE: Final = {
    "not_found": 3,
    "unavailable": 3,
    "unimplemented": 3,
    "deadline_exceeded": 4,
    "cancelled": 4,
    "invalid_argument": 5,
    "out_of_range": 5,
    "permission_denied": 6,
    "unauthenticated": 6,
    "resource_exhausted": 7,
    "failed_precondition": 7,
    "aborted": 7,
    "already_exists": 7,
}


class UsageError(Exception):
    """The command is wrong; the message says what to write instead."""

    exit_code = 2


@contextlib.contextmanager
def usage() -> Iterator[None]:
    """Make a `KitError` of the block the fault of the command: see `UsageError`."""
    from kitmsg.errors import KitError

    try:
        yield
    except KitError as exc:
        raise UsageError(str(exc)) from exc


def exit_code(error: Exception) -> int:
    """Return the exit code of a failure; 1 for what the table does not list."""
    given = getattr(error, "exit_code", None)
    if isinstance(given, int):
        return given
    if _is_of_an_endpoint(error):
        return 1
    return _BY_CODE.get(str(getattr(error, "code", "")), 1)


def _is_of_an_endpoint(error: Exception) -> bool:
    """Tell whether an endpoint ran, and answered with this error.

    Not so are those of the bus, and of a service that did not let the request in.
    """
    from kitmsg.errors import DeadlineExceeded, InvalidArgument

    is_answer = getattr(error, "reply", None) is not None
    if not is_answer or getattr(error, "refused", None):
        return False
    if isinstance(error, InvalidArgument):
        is_unfit = error.field or str(error).startswith(("the request", "item "))
        return not is_unfit
    return not isinstance(error, DeadlineExceeded)


def has_colour(stream: Any = None) -> bool:
    """Tell whether to write colours to `stream`, by default standard output."""
    stream = sys.stdout if stream is None else stream
    dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return bool(stream.isatty()) and not dumb


def paint(text: str, code: str, stream: Any = None) -> str:
    """Return `text` in a colour (an SGR code) where colours are wanted."""
    return f"\033[{code}m{text}\033[0m" if has_colour(stream) else text


def fail(sentence: str) -> None:
    """Write one sentence about a failure to standard error."""
    from kitmsg.message import printable  # a peer may have written it

    shown = printable(sentence, lines=True)
    print(f"{paint('kitmsg:', '31', sys.stderr)} {shown}", file=sys.stderr)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return aligned columns under their heads; numbers stand right."""
    cells = [[str(cell) for cell in row] for row in rows]
    if not cells:
        return ""
    right = [
        all(_is_number(row[column]) for row in cells) for column in range(len(heads))
    ]
    widths = [
        max(len(row[column]) for row in (list(heads), *cells))
        for column in range(len(heads))
    ]

    def line(row: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([paint(line([*heads]), "1"), *map(line, cells)])


def to_json(value: Any, *, is_compact: bool = False) -> str:
    """Return `value` as JSON text; bytes are base64, times RFC 3339."""
    import msgspec

    plain = msgspec.to_builtins(value, str_keys=True)
    if is_compact:
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(plain, ensure_ascii=False, indent=2)


_NUMBER: Final = re.compile(r"(-|\d+(\.\d+)?( (us|ms|s))?)?")


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
