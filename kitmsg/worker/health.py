"""``/healthz``, ``/readyz``, ``/metrics`` and ``/debug/vars`` of a supervisor."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from kitmsg.metrics.prometheus import merge
from kitmsg.service.counted import families
from kitmsg.worker.control import BEAT_SECONDS
from kitmsg.worker.pages import Pages

if TYPE_CHECKING:
    from kitmsg.metrics.families import Family
    from kitmsg.worker.supervisor import Supervisor

__all__ = ["HealthServer"]

_REPORT_SECONDS: Final = 1.0
_MAX_SILENCE: Final = 6 * BEAT_SECONDS


class HealthServer(Pages):
    """HTTP server for health checks and metrics of a parent process.

    Args:
        supervisor: Whose health it is.
        host: Address to listen on.
        port: Port; 0 for a free one.

    Attributes:
        port: The port it listens on, after `start`.
    """

    def __init__(self, supervisor: Supervisor, host: str, port: int) -> None:
        super().__init__(host, port, "--health")
        self._supervisor = supervisor

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

    async def collect(self) -> tuple[list[Family], str]:
        """Return what is counted; a worker that does not answer is left out."""
        slots = [slot for slot in self._supervisor.slots if slot.child is not None]
        reports = await asyncio.gather(
            *(slot.child.report(_REPORT_SECONDS) for slot in slots if slot.child)
        )
        known = [
            (slot.index, slot.restarts, report)
            for slot, report in zip(slots, reports, strict=True)
            if report is not None
        ]
        pages = merge((worker, report["metrics"]) for worker, _, report in known)
        return families(known), "".join(f"{line}\n" for line in pages)

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
