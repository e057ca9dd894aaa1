"""The bus at hand while an endpoint is wrapped in its middlewares.

A middleware is made where no bus is known, in the body of a class, say.  Services, clients
and gateways name theirs around the wrapping, so that one which shares something with its
fleet finds it then.  Calls cost nothing for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from kitmsg.bus import Bus

__all__ = ["Site", "at_site", "site"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Facts about the endpoint that is wrapped.

    Attributes:
        bus: The bus that its calls come from or go to.
        result: Type of its result; None where that is not known.
        raises: Exception classes that it declares.
        is_stream: Whether items are streamed.
    """

    bus: Bus
    result: Any = None
    raises: tuple[type[Exception], ...] = ()
    is_stream: bool = False


_site: Final[ContextVar[Site | None]] = ContextVar("kitmsg_site", default=None)


@contextlib.contextmanager
def at_site(place: Site) -> Iterator[None]:
    """Name the site of the endpoints that are wrapped inside."""
    token = _site.set(place)
    try:
        yield
    finally:
        _site.reset(token)


def site() -> Site | None:
    """Return the site of the endpoint that is wrapped now; None where none was named."""
    return _site.get()
