"""Report of a worker: its counters and gauges, as its parent or a push loop reads them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitmsg.service import ServiceHost
    from kitmsg.worker.runtime import Runtime

__all__ = ["describe", "process_facts", "report"]


def report(runtime: Runtime) -> dict[str, Any]:
    """Return what `kitmsg.worker.prometheus` makes families of."""
    stats = getattr(runtime.kit.bus, "stats", None) if runtime.kit else None
    return {
        "services": [describe(host) for host in runtime.hosts],
        "bus": {
            "connected": runtime.is_connected,
            "reconnects": getattr(stats, "reconnects", 0),
            "refused": getattr(stats, "refused", 0),
        },
        "process": process_facts(),
    }


def describe(host: ServiceHost) -> dict[str, Any]:
    """Return the counters and gauges of one instance."""
    box = host.intake.mailbox
    return {
        "service": host.service.name,
        "instance": host.id,
        "running": box.running,
        "waiting": box.waiting,
        "held": box.held,
        "quarantined": host.quarantine.refused,
        "concurrency": box.concurrency,
        "mailbox": box.size,
        "endpoints": host.snapshots(),
    }


def process_facts() -> dict[str, float]:
    """Return the resident memory of this process in bytes, and its CPU time in s."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not Linux
        import resource

        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"memory_bytes": memory, "cpu_seconds": time.process_time()}
