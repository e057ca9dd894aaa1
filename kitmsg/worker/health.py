"""``/healthz``, ``/readyz`` and ``/metrics`` of a supervisor, over a very small HTTP.

It answers GET and HEAD, closes after each answer, and serves nothing else: no keep-alive,
no TLS.  Bind it where only the platform reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition
from kitmsg.worker import prometheus
from kitmsg.worker.control import BEAT_SECONDS

if TYPE_CHECKING:
    from kitmsg.worker.supervisor import Supervisor

__all__ = ["HealthServer"]

_READ_SECONDS: Final = 5.0
_REPORT_SECONDS: Final = 1.0
_MAX_SILENCE: Final = 6 * BEAT_SECONDS
_JSON: Final = "application/json"
_REASONS: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


class HealthServer:
    """What a platform asks a parent process.

    Args:
        supervisor: Whose health it is.
        host: Address to listen on.
        port: Port; 0 for a free one.

    Attributes:
        port: The port it listens on, after `start`.
    """

    def __init__(self, supervisor: Supervisor, host: str, port: int) -> None:
        self.port = port
        self._host = host
        self._supervisor = supervisor
        self._server: asyncio.Server | None = None

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
                f"cannot serve health on {where}: {why}; choose another --health"
            ) from exc
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def health(self) -> tuple[int, dict[str, Any]]:
        """Return the status and body of ``/healthz``: does every worker's loop turn?"""
        workers = self._workers()
        is_well = all(worker["is_turning"] for worker in workers)
        word = "ok" if is_well else "stuck"
        return (200 if is_well else 503), {"status": word, "workers": workers}

    def readiness(self) -> tuple[int, dict[str, Any]]:
        """Return the status and body of ``/readyz``: is every service served?"""
        workers = self._workers()
        serving = [w for w in workers if w["state"] == "ready" and w["is_turning"]]
        is_ready = bool(serving) and not self._supervisor.is_stopping
        if serving and set(serving[0]["stuck"]).intersection(
            *(worker["stuck"] for worker in serving)
        ):
            is_ready = False
        word = "ready" if is_ready else "not ready"
        return (200 if is_ready else 503), {"status": word, "workers": workers}

    async def metrics(self) -> str:
        """Return the page of ``/metrics``; a worker that does not answer is left out."""
        slots = [slot for slot in self._supervisor.slots if slot.child is not None]
        reports = await asyncio.gather(
            *(slot.child.report(_REPORT_SECONDS) for slot in slots if slot.child)
        )
        return prometheus.render(
            (slot.index, slot.restarts, report)
            for slot, report in zip(slots, reports, strict=True)
            if report is not None
        )

    def _workers(self) -> list[dict[str, Any]]:
        now = asyncio.get_running_loop().time()
        return [
            {
                "worker": slot.index,
                "pid": slot.child.pid,
                "state": slot.child.state,
                "restarts": slot.restarts,
                "stuck": sorted(slot.child.stuck),
                "is_turning": slot.child.last_beat is None
                or now - slot.child.last_beat < _MAX_SILENCE,
            }
            for slot in self._supervisor.slots
            if slot.child is not None
        ]

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
        status, kind, body = await self._page(path.partition(b"?")[0].decode("latin-1"))
        if method not in (b"GET", b"HEAD"):
            status, kind, body = 405, _JSON, b'{"status": "only GET"}\n'
        lines = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return lines.encode() + (b"" if method == b"HEAD" else body)

    async def _page(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, prometheus.CONTENT_TYPE, (await self.metrics()).encode()
        if path == "/healthz":
            status, body = self.health()
        elif path == "/readyz":
            status, body = self.readiness()
        else:
            status, body = 404, {"status": "try /healthz, /readyz or /metrics"}
        return status, _JSON, json.dumps(body).encode() + b"\n"
