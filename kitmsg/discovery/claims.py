"""Claims to names and subjects: discovery proposes, the operator disposes.

An INFO names any subject that it likes.  What is called on its word is never a subject of
NATS or kitmsg itself, never one below another service's name, and never one that somebody
else has: whoever was there first keeps it, for ten minutes after it was last seen too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from kitmsg.errors import InvalidArgument
from kitmsg.message import check_name, check_subject, matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KEPT_SECONDS", "Claims", "SubjectPolicy", "why_never"]

KEPT_SECONDS: Final = 600.0
"""How long a name, a subject or a route stays somebody's who is not there any more."""

_MOST: Final = 20_000  # claims; the oldest of those who left go first


@dataclass(frozen=True, kw_only=True)
class SubjectPolicy:
    """The operator's word on subjects that do not carry their service's name.

    Args:
        strict: Whether only subjects below a service's own name are called, and those
            in `allowed`.
        allowed: Services and patterns of subjects that they may have besides.
    """

    strict: bool = False
    allowed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, strict: bool, allowed: Iterable[str]) -> SubjectPolicy:
        """Return the policy of options, ``billing=legacy.>`` each.

        Raises:
            InvalidArgument: One is no service's name and pattern.
        """
        return cls(strict=strict, allowed=tuple(map(_allowance, allowed)))

    def allows(self, service: str, subject: str) -> bool:
        """Tell whether the operator named the subject for this service."""
        return any(
            name == service and matches(pattern, subject)
            for name, pattern in self.allowed
        )


def _allowance(text: str) -> tuple[str, str]:
    service, _, pattern = text.partition("=")
    try:
        check_name(service, "a service")
        check_subject(pattern, wildcards=True)
    except (ValueError, InvalidArgument):
        raise InvalidArgument(
            f"{text!r} is not SERVICE=PATTERN, such as billing=legacy.>"
        ) from None
    return service, pattern


class _Claim(NamedTuple):
    service: str
    seen: float


class Claims:
    """Names and subjects, and the services that had them first.

    Args:
        policy: What the operator allows.
    """

    def __init__(self, policy: SubjectPolicy) -> None:
        self._policy = policy
        self._names: dict[str, float] = {}
        self._subjects: dict[str, _Claim] = {}

    def __len__(self) -> int:
        return len(self._names) + len(self._subjects)

    def seniority(self, services: Iterable[str]) -> list[str]:
        """Return services with those in front that were known before, the eldest first."""
        there = set(services)
        known = [name for name in self._names if name in there]
        return [*known, *sorted(there.difference(known))]

    def settle(self, services: Sequence[str], now: float) -> None:
        """Note the names of those who are there; forget who has been away for long."""
        for name in services:
            self._names[name] = now
        if len(self) > _MOST:
            self._forget(now - 1.0)
        self._forget(now - KEPT_SECONDS)

    def _forget(self, before: float) -> None:
        gone = [name for name, seen in self._names.items() if seen < before]
        for name in gone:
            del self._names[name]
        old = [s for s, claim in self._subjects.items() if claim.seen < before]
        for subject in old:
            del self._subjects[subject]

    def take(self, service: str, subject: str, now: float) -> str:
        """Have a service serve a subject, if nobody else may.

        Returns:
            Why it may not, as the rest of a sentence about the endpoint; "" if it may.
        """
        if problem := self._problem(service, subject):
            return problem
        self._subjects[subject] = _Claim(service, now)
        return ""

    def _problem(self, service: str, subject: str) -> str:
        if problem := why_never(subject):
            return problem
        owner = self._subjects.get(subject)
        if owner is not None and owner.service != service:
            return f"{owner.service!r} has its subject {subject!r}"
        first, dot, _ = subject.partition(".")
        is_free = (first == service and dot) or self._policy.allows(service, subject)
        if not is_free and self._policy.strict:
            return (
                f"its subject {subject!r} is not below {service!r}; if it is right, say"
                f" --allow-subject '{service}={subject}'"
            )
        if not is_free and owner is None and dot and first in self._names:
            return f"its subject {subject!r} is below {first!r}, another service"
        return ""


def why_never(subject: str) -> str:
    """Return why nothing is called at a subject on a service's word; "" if it may be."""
    if subject.startswith(("$", "_")):
        return f"its subject {subject!r} is of NATS or kitmsg itself"
    try:
        check_subject(subject)
    except InvalidArgument as exc:
        return str(exc)
    return ""
