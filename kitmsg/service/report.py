"""Report of a process: its counters and gauges, as a page or a push loop reads them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.service import Kit, ServiceHost

__all__ = ["describe", "process_facts", "report"]


def report(kit: Kit | None, hosts: Iterable[ServiceHost] = ()) -> dict[str, Any]:
    """Return what `kitmsg.service.counted` makes families of.

    Args:
        kit: With the connection; None before there is one.
        hosts: What is served on it.
    """
    stats = getattr(kit.bus, "stats", None) if kit else None
    counts = ("reconnects", "refused", "late_replies", "dropped")
    return {
        "services": [describe(host) for host in hosts],
        "bus": {
            "connected": kit is not None and kit.is_connected,
            **{name: getattr(stats, name, 0) for name in counts},
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
