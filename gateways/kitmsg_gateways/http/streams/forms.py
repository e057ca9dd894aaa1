"""The forms in which items go out over HTTP: what each is called, and who takes which.

A form turns items, which come as JSON, to bytes of a body.  All have the same shape:

    sse.py      ``text/event-stream``: for browsers, with ids to resume at
    ndjson.py   ``application/x-ndjson``: a line for each; the usual one
    octets.py   ``application/octet-stream``: items that are bytes, one after the other
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kitmsg.errors import Code
from kitmsg_gateways.http.problem import Problem
from kitmsg_gateways.http.streams.accept import choose
from kitmsg_gateways.http.streams.ndjson import NDJSON, NdJson
from kitmsg_gateways.http.streams.octets import OCTETS, Octets
from kitmsg_gateways.http.streams.sse import SSE, Sse

if TYPE_CHECKING:
    from kitmsg_gateways.http.streams.opening import Opening

__all__ = ["Form", "form_of", "forms_of"]

_NOT_ACCEPTABLE = 406


class Form(Protocol):
    """How one stream of items becomes a body."""

    kind: str
    """Its name in the metrics."""

    media_type: str
    """Its ``Content-Type``."""

    beat: bytes
    """What is sent when nothing happens; b"" for nothing."""

    is_resumed: bool
    """Whether a client comes back by itself after the end, so that it may come soon."""

    def start(self) -> bytes:
        """Return what comes before the first item."""
        ...

    def item(self, data: bytes) -> bytes:
        """Return one item, which is JSON."""
        ...

    def end(self) -> bytes:
        """Return what comes after the last item."""
        ...

    def pause(self) -> bytes:
        """Return what tells a client to come back: the gateway stops."""
        ...

    def failure(self, problem: bytes) -> bytes | None:
        """Return what tells of an error; None if only a broken connection can."""
        ...


def forms_of(gives_bytes: bool) -> tuple[str, ...]:
    """Return the media types in which items can go out, the usual one first."""
    return (OCTETS, NDJSON, SSE) if gives_bytes else (NDJSON, SSE)


def form_of(opening: Opening) -> Form:
    """Return the form that a client wants.

    Raises:
        Problem: 406; it wants none that we have.
    """
    headers = opening.request.headers
    offers = forms_of(opening.mounted.gives_bytes)
    accept = ",".join(headers.getall("Accept", []))
    chosen = choose(accept, offers)
    if chosen is None:
        raise Problem(
            _NOT_ACCEPTABLE,
            Code.INVALID_ARGUMENT,
            f"{opening.mounted.service}.{opening.mounted.name} is a stream; it comes as"
            f" {' or '.join(offers)}, or over a WebSocket; 'Accept: */*' takes the first"
            " (curl --json asks for application/json alone)",
            field="Accept",
        )
    if chosen == SSE:
        return Sse(opening)
    return NdJson() if chosen == NDJSON else Octets()
