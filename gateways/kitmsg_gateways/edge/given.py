"""Headers of a client that go no further than the gateway: rules of routes go by them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitmsg.context import Context

__all__ = ["GivenContext", "given"]


class GivenContext(Context, eq=False, kw_only=True):
    """The context of a call whose client sent such headers.

    Attributes:
        given: Their values, by name in lower case.
    """

    given: Mapping[str, str] = {}

    def evolve(self, **changes: Any) -> GivenContext:
        """Return a copy with other values for the attributes named in `changes`."""
        return super().evolve(**{"given": self.given, **changes})

    @classmethod
    def of_visit(cls, found: Mapping[str, str], endpoint: str, **facts: Any) -> Context:
        """Return the context of a call whose client sent the headers `found`.

        The rest is as in `Context.of_call`.
        """
        ctx = cls.of_call(endpoint, **facts)
        ctx.given = found
        return ctx


def given(ctx: Context, header: str) -> str:
    """Return the value of a header, by its name in lower case; "" for none."""
    return ctx.given.get(header, "") if isinstance(ctx, GivenContext) else ""
