"""A very small HTTP for the pages that a platform reads: health, readiness, metrics.

It answers GET and HEAD, closes after each answer, and serves nothing else: no keep-alive,
no TLS.  Bind it where only the platform reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition
from kitmsg.metrics import variables
from kitmsg.metrics.prometheus import CONTENT_TYPE, negotiate, render

if TYPE_CHECKING:
    from kitmsg.metrics.families import Family

__all__ = ["Pages"]

_READ_SECONDS: Final = 5.0
_JSON: Final = "application/json"
_REASONS: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class Pages(ABC):
    """``/healthz``, ``/readyz``, ``/metrics`` and ``/debug/vars`` at one address.

    Args:
        host: Address to listen on.
        port: Port; 0 for a free one.
        flag: The option that chose the address, for the error.

    Attributes:
        port: The port it listens on, after `start`.
    """

    def __init__(self, host: str, port: int, flag: str) -> None:
        self.port = port
        self._host = host
        self._flag = flag
        self._server: asyncio.Server | None = None

    @abstractmethod
    def health(self) -> tuple[int, dict[str, Any]]:
        """Return the status and body of ``/healthz``."""

    @abstractmethod
    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Return the status and body of ``/readyz``."""

    @abstractmethod
    async def collect(self) -> tuple[list[Family], str]:
        """Return what is counted; and what there is only in Prometheus' text format."""

    async def metrics(self, accept: str = "") -> tuple[str, str]:
        """Return the content type and body of ``/metrics``.

        Args:
            accept: The reader's header; one that takes OpenMetrics gets it, with exemplars.
        """
        families, text = await self.collect()
        if text:  # of a plugin: it cannot be written in another format
            return CONTENT_TYPE, render(families) + text
        return negotiate(accept, families)

    async def start(self) -> None:
        """Listen.

        Raises:
            FailedPrecondition: The port is taken, or not allowed.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, self._host, self.port
            )
        except OSError as exc:
            where = f"{self._host}:{self.port}"
            why = exc.strerror or exc
            raise FailedPrecondition(
                f"cannot serve health on {where}: {why}; choose another {self._flag}"
            ) from exc
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await self._answer(head))
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass  # not HTTP, or gone
        except asyncio.LimitOverrunError:
            pass  # no request of ours is that long
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        method, path = words[0], words[1] if len(words) > 1 else b""
        name = path.partition(b"?")[0].decode("latin-1")
        status, kind, body = await self._page(name, _header(head, b"accept"))
        if method not in (b"GET", b"HEAD"):
            status, kind, body = 405, _JSON, b'{"status": "only GET"}\n'
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return lines.encode() + (b"" if method == b"HEAD" else body)

    async def _page(self, path: str, accept: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            kind, text = await self.metrics(accept)
            return 200, kind, text.encode()
        if path == "/debug/vars":
            return 200, _JSON, variables.render((await self.collect())[0])
        if path == "/healthz":
            status, body = self.health()
        elif path == "/readyz":
            status, body = self.readiness()
        else:
            status, body = (
                404,
                {"status": "try /healthz, /readyz, /metrics or /debug/vars"},
            )
        return status, _JSON, json.dumps(body).encode() + b"\n"


def _header(head: bytes, name: bytes) -> str:
    """Return a header of a request; "" for none."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().decode("latin-1")
    return ""
