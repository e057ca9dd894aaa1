"""Publishing and following as calls: the requests that a gateway's middlewares see.

    async def audited(ctx: Context, request: object) -> object:
        if isinstance(request, Publishing):
            audit(ctx.principal, ctx.endpoint, [each.id for each in request.events])
        return await endpoint(ctx, request)

``ctx.endpoint`` is ``events.`` and the event's name.  The response is a list of
`kitmsg.jetstream.PubAck`, or a `kitmsg_gateways.edge.events.Follower`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kitmsg_gateways.edge.events.feed import Feed
from kitmsg_gateways.edge.events.posted import Posted
from kitmsg_gateways.edge.events.since import Since

__all__ = ["Following", "Publishing"]


@dataclass(frozen=True, slots=True)
class Publishing:
    """Events of one name that a client publishes.

    Attributes:
        events: They; one, or those of a batch.
    """

    events: Sequence[Posted]


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """A log that a client wants to follow.

    Attributes:
        since: A sequence, a time in unix seconds, or None for from now on.
        after: Sequence of the last event that was read; goes before `since`.
        where: Values of fields that are in the subject.
        goes_on: Whether to go on with what comes, at the end of the log.
        opened: Logs that were opened for it; the door leaves them.
    """

    since: Since = None
    after: int | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    goes_on: bool = True
    opened: list[Feed] = field(default_factory=list, repr=False, compare=False)
