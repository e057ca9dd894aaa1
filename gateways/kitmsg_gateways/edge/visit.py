"""One call at a gateway: its caller, and the headers that go on to the service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kitmsg.wire import AUTHORIZATION, IDEMPOTENCY_KEY, REQUEST_ID
from kitmsg_gateways.edge.calls import add_header, add_trace, request_id
from kitmsg_gateways.edge.spans import TRACES, passing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kitmsg.auth import Principal
    from kitmsg_gateways.edge.calls import Callers

__all__ = ["Visit"]

_IDEMPOTENCY: Final = "idempotency-key"


def _nothing(_: str) -> Sequence[str]:
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One call or request that was let in.

    Attributes:
        id: The request id.
        address: Of the client; "" for one without.
        authorization: The values of ``Authorization``, if services get it.
        principal: Who asks; None when nobody knows.
        trace: The headers of traces that came, with their values.
        is_outside: Whether an outsider calls at a public edge, whose baggage does not count.
        seconds: That the call may take, as its headers say; None if they do not.
        sent: Returns the values of any header, by its name in lower case.
    """

    id: str = field(default_factory=lambda: request_id(""))
    address: str = ""
    authorization: Sequence[str] = ()
    principal: Principal | None = None
    trace: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_outside: bool = False
    seconds: float | None = None
    sent: Callable[[str], Sequence[str]] = _nothing

    def carrier(self, own: Mapping[str, object]) -> dict[str, list[str]]:
        """Return the headers of the trace that the call is part of; for `own` see `fields`."""
        found = {name: list(values) for name, values in self.trace.items()}
        said = {n: v for n in TRACES if isinstance(v := own.get(n), str)}
        return found | {name: [value] for name, value in said.items()}

    def fields(self, own: Mapping[str, object]) -> dict[str, str]:
        """Return the headers with which a call goes to its service.

        Args:
            own: What the call itself says, by name, beside the request that it is in: a
                trace or an ``idempotency-key`` there goes before the request's.

        Raises:
            InvalidArgument: ``Authorization`` or ``Idempotency-Key`` is not printable
                ASCII, or came twice.
        """
        fields = {REQUEST_ID: self.id}
        for name in passing(self.is_outside):
            said = own.get(name)
            given = [said] if isinstance(said, str) else self.trace.get(name)
            if given:
                add_trace(fields, name, given)
        said = own.get(_IDEMPOTENCY)
        keys = [said] if isinstance(said, str) else self.sent(_IDEMPOTENCY)
        if keys:
            keys = [key.strip('"') for key in keys]
            add_header(fields, IDEMPOTENCY_KEY, keys, f"header {_IDEMPOTENCY}")
        if self.authorization:
            add_header(fields, AUTHORIZATION, self.authorization)
        return fields

    def given(
        self, callers: Callers, own: Mapping[str, object]
    ) -> Mapping[str, str] | None:
        """Return the headers of a call that the gateway's rules go by.

        Args:
            callers: The gateway's.
            own: As in `fields`; what it says there goes before the request's headers.

        Raises:
            InvalidArgument: One came more than once, or is not printable ASCII.
        """
        if not callers.headers:
            return None
        said = {name.lower(): one for name, one in own.items() if isinstance(one, str)}
        return callers.given(
            lambda name: [said[name]] if name in said else self.sent(name)
        )
