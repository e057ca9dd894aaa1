"""Templates of subjects: literal tokens and fields, ``orders.placed.{order_id}``.

A field's value is one token whatever it holds: bytes that NATS gives a meaning (``.``, ``*``,
``>``, space, control characters) and those outside ASCII are percent-encoded (RFC 3986,
section 2.1), ``%`` too, and no value at all is a lone ``%``.  So two values never share a
subject, and none leaves the place that the template gives it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from kitmsg.errors import InvalidArgument

__all__ = ["MAX_TOKEN", "Template", "token_of"]

MAX_TOKEN: Final = 256
"""Longest token that a field's value may become, in characters."""

_LITERAL: Final = re.compile(r"[a-z0-9][a-z0-9_-]*", re.IGNORECASE)
_FIELD: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_SAFE: Final = "!#$&'()+,/:;=@[]"  # beside what `quote` never touches, which has a dot


def token_of(value: Any) -> str:
    """Return the one token that stands for a value of a field.

    Raises:
        InvalidArgument: It would be longer than `MAX_TOKEN`, or is nothing that has a text
            of its own.
    """
    text = _text(value)
    if not _PLAIN.fullmatch(text):
        text = (
            quote(text, safe=_SAFE, errors="surrogatepass").replace(".", "%2E") or "%"
        )
    if len(text) > MAX_TOKEN:
        raise InvalidArgument(
            f"a subject holds at most {MAX_TOKEN} characters of a field, not {len(text)}"
        )
    return text


def _text(value: Any) -> str:
    if isinstance(value, Enum):
        return _text(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, UUID)):
        return str(value)
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    raise InvalidArgument(f"{value!r} has no form in a subject")


@dataclass(frozen=True, slots=True)
class Template:
    """A subject with fields in it.

    Attributes:
        text: As it was written.
        tokens: Its literal tokens, and the names of its fields in braces.
        fields: Names of its fields, in order.
        name: Its literal tokens, joined by dots.
    """

    text: str
    tokens: tuple[str, ...]
    fields: tuple[str, ...]
    name: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Return a template of its text.

        Raises:
            ValueError: It begins with a field, has one twice, or has a token that is
                neither a field nor letters, digits, ``-`` and ``_``.
        """
        tokens = tuple(text.split("."))
        fields = tuple(m[1] for m in map(_FIELD.fullmatch, tokens) if m)
        literals = [token for token in tokens if not _FIELD.fullmatch(token)]
        for token in literals:
            if not _LITERAL.fullmatch(token):
                raise ValueError(
                    f"subject={text!r}: {token!r} is no token; write letters, digits, -"
                    " and _, or one field in braces"
                )
        if _FIELD.fullmatch(tokens[0]):
            raise ValueError(
                f"subject={text!r} begins with a field, so it could be any subject; begin"
                " with a word"
            )
        if len(set(fields)) < len(fields):
            raise ValueError(f"subject={text!r} has a field twice")
        return cls(text, tokens, fields, ".".join(literals))

    def writer(self, prefix: str) -> Callable[[Any], str]:
        """Return a function from an object with the fields to its subject.

        Args:
            prefix: Tokens before it.

        It raises `InvalidArgument`, naming the field, for a value that has no token.
        """
        form = f"{prefix}." + ".".join(
            "%s" if _FIELD.fullmatch(token) else token for token in self.tokens
        )
        fields = self.fields
        if not fields:
            return lambda event: form

        def write(event: Any) -> str:
            return form % tuple([_token(event, field) for field in fields])

        return write

    def pattern(self, prefix: str, where: Mapping[str, Any] | None = None) -> str:
        """Return the subjects where fields have given values, with ``*`` for the others.

        Args:
            prefix: Tokens before it.
            where: Values, by field.

        Raises:
            InvalidArgument: `where` names what is no field of the template, or has a value
                without a token.
        """
        given = dict(where or {})
        unknown = sorted(set(given) - set(self.fields))
        if unknown:
            known = ", ".join(self.fields) or "none"
            raise InvalidArgument(
                f"{unknown[0]!r} is no field of the subject {self.text!r}; there is {known}",
                field=unknown[0],
            )
        return ".".join([prefix, *self._filled(given)])

    def _filled(self, given: Mapping[str, Any]) -> Iterable[str]:
        for token in self.tokens:
            field = _FIELD.fullmatch(token)
            if field is None:
                yield token
            else:
                yield _named(field[1], given[field[1]]) if field[1] in given else "*"


def _token(event: Any, field: str) -> str:
    value = getattr(event, field)
    if type(value) is str and _PLAIN.fullmatch(value) and len(value) <= MAX_TOKEN:
        return value
    return _named(field, value)


def _named(field: str, value: Any) -> str:
    try:
        return token_of(value)
    except InvalidArgument as error:
        raise InvalidArgument(f"{field}: {error}", field=field) from None
