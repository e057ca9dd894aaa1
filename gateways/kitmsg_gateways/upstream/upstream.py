"""An upstream: endpoints that a server elsewhere implements, as a service.

A protocol brings its connections, its encoding and its errors in a subclass of `Upstream`.
For ``kitmsg upstream KIND ADDRESS... --as NAME`` see `kitmsg.worker.plugins`.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar

from kitmsg.bus.reach import at_site, site
from kitmsg.discovery.subject import check_version
from kitmsg.endpoints import chain
from kitmsg.errors import NotFound
from kitmsg.message import check_name
from kitmsg.middleware.hedge import fitting
from kitmsg.service import Service
from kitmsg.service.described import described_service
from kitmsg.service.proxy import local_client
from kitmsg.wire import Meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from kitmsg.bus import Bus
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.service.declare import Declaration

__all__ = ["Connections", "Remote", "Upstream"]

_OWN: Final = ("name", "doc", "version")
S = TypeVar("S", bound=Service)

CONCURRENCY: Final = 512
"""Calls at once; they wait for a server elsewhere, so it is more than a service's own."""


@dataclass(frozen=True, slots=True)
class Remote:
    """One endpoint elsewhere.

    Attributes:
        declaration: Name, schemas and options; made by `kitmsg.service.described.describe`,
            or the declaration of a typed class.
        call: The endpoint.  Its request is what the declaration's signature decodes: a
            plain dict, or the typed request.
    """

    declaration: Declaration
    call: Endpoint[Any, Any] = field(repr=False)


class Connections(Protocol):
    """The connections of an upstream's endpoints."""

    async def close(self) -> None:
        """Close them; a later call opens them again."""
        ...


class Upstream:
    """Endpoints that a server elsewhere implements, as a service.

    ::

        await kit.serve(upstream)                          # on the bus
        await upstream.endpoint("sum")(current(), {"a": 1})   # in process

    Args:
        name: Name on the bus.
        remotes: The endpoints.
        kind: Protocol of the server, such as ``http``; shown in discovery.
        version: Semantic version; "0.1.0" if empty.
        doc: Description in discovery.
        middleware: Around each call; the first is outermost.
        settings: Attributes of the service on the bus, such as `concurrency`; `doc` and
            `version` count where the arguments say none.
        client: Closed along with it.
        bus: Where middlewares find what they share with their fleet, such as
            `rate_limit(shared=)`, when endpoints are called in process; a service that
            stands for it has its own.

    Raises:
        ValueError: `name` or `version` cannot be one on the bus, two endpoints have one
            name, or there is none.
    """

    def __init__(
        self,
        name: str,
        remotes: Iterable[Remote],
        *,
        kind: str,
        version: str = "",
        doc: str = "",
        middleware: Sequence[Middleware] = (),
        settings: Mapping[str, Any] | None = None,
        client: Connections | None = None,
        bus: Bus | None = None,
    ) -> None:
        own = dict(settings or {})
        self.name = check_name(name or own.pop("name", ""), "the upstream")
        self.kind = kind
        self.doc = doc or own.pop("doc", "")
        version = version or own.pop("version", "") or "0.1.0"
        self.version = check_version(version, self.name)
        self._middleware = tuple(middleware)
        self._settings = {n: v for n, v in own.items() if n not in _OWN}
        self._client = client
        self._bus = bus
        self.remotes: dict[str, Remote] = {}
        for remote in remotes:
            if self.remotes.setdefault(remote.declaration.name, remote) is not remote:
                raise ValueError(
                    f"{name}: two endpoints are named {remote.declaration.name!r}"
                )
        if not self.remotes:
            raise ValueError(f"{name}: an upstream without endpoints serves nobody")

    def endpoint(self, name: str) -> Endpoint[Any, Any]:
        """Return an endpoint, ready for middleware.

        Raises:
            NotFound: There is none of that name; the message says which there are.
        """
        remote = self.remotes.get(name)
        if remote is None:
            near = difflib.get_close_matches(name, self.remotes, n=1)
            known = ", ".join(self.remotes)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {known}"
            raise NotFound(f"{self.name} has no endpoint {name!r}; {hint}")
        declaration = remote.declaration
        around = fitting(self._middleware, idempotent=declaration.options.idempotent)
        if site() is not None or self._bus is None:
            return chain(*around)(remote.call)
        with at_site(declaration.site(self._bus)):
            return chain(*around)(remote.call)

    def client(self, service: type[S]) -> S:
        """Return an object with the methods of `service`, carried out there, without a bus.

        Args:
            service: The class that this upstream was made of.

        Raises:
            NotFound: It has an endpoint that this upstream lacks.
        """
        calls = {name: self.endpoint(name) for name in service.__declarations__}
        return local_client(service, calls)

    def __call__(self) -> Service:
        """Return the service that stands for it, so that `kit.serve` takes an upstream."""
        return described_service(
            self.name,
            {n: (r.declaration, r.call) for n, r in self.remotes.items()},
            around=self.endpoint,
            version=self.version,
            doc=self.doc,
            stop=self.close,
            settings={
                "concurrency": CONCURRENCY,
                **self._settings,
                "metadata": {
                    **self._settings.get("metadata", {}),
                    Meta.UPSTREAM: self.kind,
                },
            },
        )

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        if self._client is not None:
            await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
