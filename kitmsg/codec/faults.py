"""Decoding errors as a caller should see them: which field, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

import msgspec

from kitmsg.errors import InvalidArgument

__all__ = [
    "Choices",
    "FieldError",
    "as_step",
    "join",
    "refusal",
    "translate",
    "unknown_field",
]

Choices: TypeAlias = Callable[[str], Sequence[str]]
"""Takes the path of a field; returns the names or values that may stand there."""

_AT_KEY = re.compile(r"(?s)(.*) - at `key` in `\$(.*)`")
_AT_PATH = re.compile(r"(?s)(.*) - at `\$(.*)`")
_NAMED = re.compile(
    r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL
)
_INT64 = re.compile(r"Expected `int` (>= -9223372036854775808|<= 9223372036854775807)")
_FINITE = re.compile(r"Expected `float` (>= -|<= )1\.7976931348623157e\+308")
_OUT_OF_RANGE = {
    "Integer value out of range": "expected a 64-bit integer",
    "Number out of range": "expected a finite number",
}


def translate(
    error: BaseException, codec: str, choices: Choices | None = None
) -> InvalidArgument:
    """Return the error a caller should see for one of `DECODE_ERRORS`.

    Args:
        error: What the decoder raised.
        codec: Name of the codec, for bodies that are not even well-formed.
        choices: Looks up what is allowed at a path; None leaves that out.
    """
    if not isinstance(error, msgspec.ValidationError):
        return InvalidArgument(f"the body is not valid {codec}: {_plain(error)}")
    problem, path = _split(str(error))
    inner = error.__cause__
    if isinstance(inner, FieldError):
        return refusal(join(path, inner.field), inner.problem)
    named = _NAMED.fullmatch(problem)
    if named is None:
        return refusal(path, _expectation(problem, path, choices))
    known = choices(path) if choices else ()
    return _named(join(path, as_step(named[2])), named[1] == "contains unknown", known)


def _named(field: str, is_unknown: bool, known: Sequence[str]) -> InvalidArgument:
    """Return the error for a field that is not known, or not there."""
    if not is_unknown:
        return refusal(field, "is missing")
    return refusal(field, unknown_field(known))


def unknown_field(known: Sequence[str]) -> str:
    """Return what is wrong with a field that is none of `known`."""
    return "is not known" + (f"; known fields: {', '.join(known)}" if known else "")


def refusal(field: str, problem: str) -> InvalidArgument:
    """Return an `InvalidArgument` whose message begins with the field it is about."""
    where = f"field {field!r}" if field else "the request"
    verb = problem.startswith("is ")
    return InvalidArgument(f"{where}{' ' if verb else ': '}{problem}", field=field)


def as_step(name: str) -> str:
    """Return a field's name as part of a path; one without letters is seen there too."""
    return name or '""'


def join(path: str, tail: str) -> str:
    """Return `path` with `tail` (a name, or an index in brackets) at its end."""
    return path + tail if not path or not tail or tail[0] == "[" else f"{path}.{tail}"


def _split(message: str) -> tuple[str, str]:
    """Return the problem and the dotted path of a message of msgspec's."""
    key = _AT_KEY.fullmatch(message)
    if key is not None:
        return f"{key[1]} as a key", key[2].removeprefix(".")
    at = _AT_PATH.fullmatch(message)
    return (at[1], at[2].removeprefix(".")) if at is not None else (message, "")


def _expectation(problem: str, path: str, choices: Choices | None) -> str:
    if _INT64.match(problem):
        return "expected a 64-bit integer"
    if _FINITE.match(problem):
        return "expected a finite number"
    if problem in _OUT_OF_RANGE:
        return _OUT_OF_RANGE[problem]
    text = problem.replace("`None`", "null").replace("`", "")
    allowed = choices(path) if choices and problem.startswith("Invalid enum") else ()
    tail = f"; expected one of {', '.join(allowed)}" if allowed else ""
    return text[:1].lower() + text[1:] + tail


def _plain(error: BaseException) -> str:
    """Return what a low-level error says, without the codec's own preface."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "a text is not UTF-8"
    text = str(error)
    for preface in ("JSON is malformed: ", "MessagePack data is malformed: "):
        text = text.removeprefix(preface)
    return text[:1].lower() + text[1:]


class FieldError(ValueError):
    """A problem inside an object that msgspec leaves to a hook.

    Args:
        field: Path below that object.
        problem: What was expected.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(problem)
        self.field = field
        self.problem = problem
