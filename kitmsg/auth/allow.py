"""Policies: who may call an endpoint.

    @endpoint(allow=scope("orders:write") | role("admin"))
    async def place(self, order: NewOrder) -> Order: ...

A policy is alternatives, each of which is requirements that all have to hold: ``|`` is an
alternative, ``&`` adds a requirement.  INFO tells it as text, such as
``scope:orders:write | role:admin``, so that a door can refuse early.  The service decides.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.errors import (
    FailedPrecondition,
    InvalidArgument,
    KitError,
    PermissionDenied,
)
from kitmsg.filemarks import mark_of

if TYPE_CHECKING:
    from kitmsg.auth import Principal

__all__ = [
    "AUTHENTICATES",
    "Allow",
    "Policy",
    "Requirement",
    "anyone",
    "as_policy",
    "casbin",
    "custom",
    "denied",
    "known",
    "parse_policy",
    "role",
    "scope",
]

_log = logging.getLogger("kitmsg.auth")

_WORD: Final = re.compile(r"[!-~]+")
_LOOK_SECONDS: Final = 1.0

AUTHENTICATES: Final = "__kit_authenticates__"
"""Attribute of a middleware that finds the principal: policies are asked inside of it."""

Met: TypeAlias = Callable[[Any], bool | Awaitable[bool]]
"""Tells whether the caller, `principal` of a `kitmsg.Context`, meets a requirement."""


@dataclass(frozen=True)
class Requirement:
    """One thing that a caller has to meet.

    Attributes:
        text: It, as INFO tells it.
        met: Tells whether the caller of a context does; None where only the service knows.
    """

    text: str
    met: Met | None


@dataclass(frozen=True)
class Policy:
    """Alternatives: a caller may call that meets all requirements of one.

    Attributes:
        alternatives: They; one without requirements lets in anyone.
    """

    alternatives: tuple[tuple[Requirement, ...], ...]

    def __or__(self, other: Policy) -> Policy:
        return Policy((*self.alternatives, *other.alternatives))

    def __and__(self, other: Policy) -> Policy:
        return Policy(
            tuple((*a, *b) for a in self.alternatives for b in other.alternatives)
        )

    def __str__(self) -> str:
        return " | ".join(
            " ".join(one.text for one in each) or "anyone" for each in self.alternatives
        )

    async def permits(self, ctx: Any) -> bool:
        """Tell whether the caller of a context may call."""
        for each in self.alternatives:
            for one in each:
                is_met = one.met is None or one.met(ctx)
                if inspect.isawaitable(is_met):
                    is_met = await is_met
                if not is_met:
                    break
            else:
                return True
        return False

    def may_permit(self, principal: Principal) -> bool:
        """Tell whether a service may let a principal in, as far as a door can know."""
        seen = _Seen(principal)
        return any(
            all(one.met is None or one.met(seen) for one in each)
            for each in self.alternatives
        )


@dataclass(frozen=True)
class _Seen:
    """Stands for a context, where there is only a principal."""

    principal: Principal


Allow: TypeAlias = Policy | Met
"""As ``allow=`` takes it: a policy, or a function of the context, plain or async."""


def _is_known(ctx: Any) -> bool:
    return ctx.principal is not None


def _word(name: Any, what: str) -> str:
    if not (isinstance(name, str) and _WORD.fullmatch(name)) or "|" in name:
        raise ValueError(f"{what} takes one word of printable ASCII, not {name!r}")
    return str(name)


def scope(name: str) -> Policy:
    """Return a policy for callers with an OAuth scope; see `Principal.scopes`.

    Raises:
        ValueError: `name` is no word.
    """
    _word(name, "scope")

    def met(ctx: Any) -> bool:
        return ctx.principal is not None and name in ctx.principal.scopes

    return Policy(((Requirement(f"scope:{name}", met),),))


def role(name: str) -> Policy:
    """Return a policy for callers with a role; see `Principal.roles`.

    Raises:
        ValueError: `name` is no word.
    """
    _word(name, "role")

    def met(ctx: Any) -> bool:
        return ctx.principal is not None and name in ctx.principal.roles

    return Policy(((Requirement(f"role:{name}", met),),))


def custom(met: Met) -> Policy:
    """Return a policy that a function decides, where the service runs.

    Args:
        met: Takes the `kitmsg.Context` of the call; may be ``async``.
    """
    return Policy(((Requirement("custom", met),),))


def casbin(model: str = "model.conf", policy: str = "policy.csv") -> Policy:
    """Return a policy that pycasbin decides (https://casbin.org).

    The request is ``caller, service, endpoint``: ``ann, orders, place``.  Both files are
    read again when they change, which is seen within a second; while they cannot be read,
    what was read before goes on.

    Args:
        model: File with the model.
        policy: File with the policy.

    Raises:
        InvalidArgument: A file cannot be read.
        FailedPrecondition: pycasbin is not installed.
    """
    return Policy(((Requirement("casbin", _enforcer(model, policy).met),),))


anyone: Final = Policy(((),))
"""Lets in anyone, known or not; for one endpoint of a service that has a policy."""

known: Final = Policy(((Requirement("known", _is_known),),))
"""Lets in any caller that is known."""


def as_policy(allow: Allow) -> Policy:
    """Return what ``allow=`` was given as a policy.

    Raises:
        TypeError: It is neither a policy nor a function.
    """
    if isinstance(allow, Policy):
        return allow
    given: Any = allow  # not everybody has a type checker
    if not callable(given) or isinstance(given, type):
        raise TypeError(
            "allow takes a policy such as scope('orders:write') | role('admin'), or a"
            f" function of the context, not {allow!r}"
        )
    if given in (scope, role, casbin, custom):
        raise TypeError(f"allow={given.__name__}: call it, as {given.__name__}(...)")
    return custom(given)


def parse_policy(text: str) -> Policy | None:
    """Return the policy that INFO tells as text; None for none.

    What is not understood is left to the service.
    """
    if not text.strip():
        return None
    return Policy(
        tuple(
            tuple(_requirement(word) for word in part.split() if word != "anyone")
            for part in text.split("|")
        )
    )


def _requirement(word: str) -> Requirement:
    kind, _, name = word.partition(":")
    if word == "known":
        return known.alternatives[0][0]
    if kind in ("scope", "role") and _WORD.fullmatch(name):
        return (scope if kind == "scope" else role)(name).alternatives[0][0]
    return Requirement(word, None)


def denied(principal: Principal, endpoint: str) -> KitError:
    """Return the refusal of a known caller: the same words wherever it happens."""
    del principal  # it knows who it is, and nobody else is to learn it
    return PermissionDenied(f"you may not call {endpoint}")


class _Enforcer:
    """A casbin enforcer that follows its files."""

    def __init__(self, model: str, policy: str) -> None:
        try:
            import casbin as library
        except ImportError as exc:
            raise FailedPrecondition(
                "allow=casbin() needs pycasbin: pip install 'kitmsg[casbin]'"
            ) from exc
        self._make = library.Enforcer
        self._files = model, policy
        self._marks = self._look()
        self._look_at = 0.0
        try:
            self._enforcer = self._read()
        except Exception as exc:  # the library has no errors of its own
            raise InvalidArgument(
                f"casbin({model!r}, {policy!r}): these cannot be used: {exc}"
            ) from exc

    def met(self, ctx: Any) -> bool:
        """Tell whether the caller may call the endpoint."""
        if ctx.principal is None:
            return False
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._follow()
        service, _, endpoint = ctx.endpoint.partition(".")
        return bool(self._enforcer.enforce(ctx.principal.name, service, endpoint))

    def _follow(self) -> None:
        marks = self._look()
        if marks == self._marks:
            return
        self._marks = marks
        try:
            self._enforcer = self._read()
        except Exception as exc:  # noqa: BLE001  what was read before goes on
            _log.warning(
                "casbin: %s cannot be used: %s", " and ".join(self._files), exc
            )

    def _read(self) -> Any:
        return self._make(*self._files)

    def _look(self) -> list[object]:
        return [mark_of(path) for path in self._files]


@functools.cache
def _enforcer(model: str, policy: str) -> _Enforcer:
    return _Enforcer(model, policy)
