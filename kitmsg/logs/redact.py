"""Secrets are kept out of logs: by the key they stand under, and by what they look like.

The cost is bounded: most texts are dismissed by looking for a few words, no pattern can be
made to go back and forth, and a text longer than `MAX_CHARS` is cut before it is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

__all__ = ["MAX_CHARS", "VEIL", "Redactor"]

VEIL: Final = "***"
"""Stands for a secret."""

MAX_CHARS: Final = 64 << 10
"""Longest text in a line, in characters; the middle of a longer one is left out."""

_EDGE: Final = 1024  # a word that the cut goes through is left out, up to so long

_STRONG: Final = (
    *("password", "passwd", "passphrase"),
    *("api[_-]?key", "private[_-]?key", "signing[_-]?key"),
)
_WEAK: Final = ("secret", "token", "credential")
_WHOLE: Final = ("authorization", "cookie", "kit-principal")
_WORDS: Final = tuple(
    word.replace("[_-]?", "").replace("-", "") for word in (*_STRONG, *_WEAK, *_WHOLE)
)

# Quoted; quoted within a text that is quoted itself, as by `repr`; bare.
_QUOTED: Final = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\{1,3}["'][^"'\\]*"""
_BARE: Final = r"""[^\s"',;&(){}\[\]<>]+"""
_AFTER: Final = r"[\w-]{0,32}"
_MARK: Final = r"""\\{0,3}["']"""
_END: Final = rf"(?:{_MARK})?\s{{0,3}}[=:]\s{{0,3}}"  # of a key
# Of one character each time, so no text makes them try again: linear.
_URL: Final = re.compile(r"(://[^\s:/@\"'<>]*:)[^\s/\"'<>]+(?=@)")
_NATS_URL: Final = re.compile(r"((?:nats|tls|wss?)://)[^\s:/@\"'<>]+(?=@)")
_JWT: Final = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)?")
_SCHEME: Final = re.compile(
    r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)(\s{1,3})"
    r"(?=[\w.~+/-][\w.~+/=-]{0,64}?[0-9A-Z])[\w.~+/=-]{8,}"
)
_PEM: Final = re.compile(
    r"(-----BEGIN [A-Z ]{0,32}PRIVATE KEY-----).*?(-----END [A-Z ]{0,32}KEY-----|\Z)",
    re.DOTALL,
)
_SHAPES: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:S[UAONCX][A-Z2-7]{56}"  # seed of an nkey
    r"|gh[pousr]_[A-Za-z0-9]{30,}|xox[abeprs]-[\w-]{10,}|sk_live_[A-Za-z0-9]{10,})"
    r"(?![A-Za-z0-9])"
)
_SHAPED: Final = re.compile(r"S[UAONCX][A-Z2-7]{8}|gh[pousr]_|xox[abeprs]-|sk_live_")
_SHORTEST_SHAPE: Final = 15
_KNOWN: Final = (
    ("://", _URL, rf"\1{VEIL}"),
    ("://", _NATS_URL, rf"\1{VEIL}"),
    ("eyJ", _JWT, VEIL),
    ("PRIVATE KEY", _PEM, rf"\1{VEIL}\2"),
)
"""Text that is there, the pattern to look for then, and what to write instead."""

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?")


class Redactor:
    """Veils secrets in the fields and the texts of a line.

    A value is veiled under a key that has a word such as ``password``, ``token``,
    ``authorization``, ``cookie`` or ``api_key`` in it, however it is written.  In texts,
    those of exceptions too, so is what follows such a word as ``token=...``, a password in
    a URL, a bearer or basic credential, a JWT, a private key, and tokens of known shapes.

    Args:
        keys: More names of fields whose values are secret.
        patterns: More regular expressions of secrets.

    Raises:
        ValueError: A pattern is no regular expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        more = [key for key in keys if key]
        self._words = (*_WORDS, *filter(None, map(_plain, more)))
        strong = "|".join([*_STRONG, *(_loose(key) for key in more)])
        loose = "|".join(_WEAK)
        flags = re.IGNORECASE
        # "token: expired" is prose, "token=expired" is not.
        self._pairs = [
            re.compile(
                rf"((?:{strong}){_AFTER}{_END})({_QUOTED}|{_BARE})",
                flags,
            ),
            re.compile(
                rf"((?:{loose}){_AFTER}(?:{_MARK}\s{{0,3}}[=:]\s{{0,3}}|=|:))({_QUOTED}|{_BARE})",
                flags,
            ),
            re.compile(
                rf"((?:{'|'.join(_WHOLE)}){_END})"
                rf"({_QUOTED}|[^\s\"'][^\r\n\"']*)",
                flags,
            ),
        ]
        self._hints = (
            *("passw", "passphrase", "key", "secret", "token", "credential"),
            *("authorization", "cookie", "kit-principal"),
            *(key.lower() for key in more),
        )
        self._patterns = [_compiled(pattern) for pattern in patterns]
        self._is_secret = lru_cache(maxsize=4096)(self._has_word)

    def value(self, key: str, value: Any) -> Any:
        """Return a plain value that stands under `key`, fit for a line."""
        if self._is_secret(key) and value is not None and not isinstance(value, bool):
            is_count = isinstance(value, (int, float)) and "token" in key.lower()
            return value if is_count else VEIL
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {name: self.value(str(name), one) for name, one in value.items()}
        is_list = isinstance(value, (list, tuple))
        return [self.value("", one) for one in value] if is_list else value

    def text(self, text: str) -> str:
        """Return `text` without the secrets in it, and cut where it is too long."""
        if len(text) > MAX_CHARS:
            text = _cut(text)
        lower = text.lower()
        for word in self._hints:  # no generator: most lines end here
            if word in lower:
                text = self._without_pairs(text)
                break
        for hint, pattern, veiled in _KNOWN:
            if hint in text:
                text = pattern.sub(veiled, text)
        if "bearer" in lower or "basic" in lower:
            text = _SCHEME.sub(rf"\1\2{VEIL}", text)
        if len(text) >= _SHORTEST_SHAPE and _SHAPED.search(text):
            text = _SHAPES.sub(VEIL, text)
        for pattern in self._patterns:
            text = pattern.sub(VEIL, text)
        return text

    def _without_pairs(self, text: str) -> str:
        for pattern in self._pairs:
            text = pattern.sub(_veiled_pair, text)
        return text

    def _has_word(self, key: str) -> bool:
        plain = _plain(key)
        return any(word in plain for word in self._words)


def _veiled_pair(found: re.Match[str]) -> str:
    key, value = found[1], found[2]
    if (
        _NUMBER.fullmatch(value) and "token" in key.lower()
    ):  # a count, as in max_tokens=5
        return found[0]
    begins = re.match(r"""\\*["']""", value)
    quote = begins[0] if begins else ""
    if quote.startswith("\\"):
        return f"{key}{quote}{VEIL}"  # what closes it stands behind the match
    return f"{key}{quote}{VEIL}{quote}"


def _plain(key: str) -> str:
    """Return a key without what differs between ``api_key``, ``Api-Key`` and ``apiKey``."""
    return "".join(filter(str.isalnum, key.lower()))


def _loose(key: str) -> str:
    return re.escape(key)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as exc:
        raise ValueError(f"{pattern!r} is no regular expression: {exc}") from exc


def _cut(text: str) -> str:
    """Return both ends of a text, without the words that the cuts go through."""
    half = MAX_CHARS // 2
    head, tail = text[:half], text[-half:]
    if " " in head[-_EDGE:]:
        head = head[: head.rindex(" ")]
    if " " in tail[:_EDGE]:
        tail = tail[tail.index(" ") :]
    left_out = len(text) - len(head) - len(tail)
    return f"{head} ... ({left_out} characters left out) ...{tail}"
