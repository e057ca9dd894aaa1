"""The process runtime: starts services, supervises them and drains them.

    settings.py    one dataclass: what flags, environment and pyproject.toml may say
    targets.py     ``module:Class``, files and folders: where the code is
    load.py        imports it, and finds the services
    runtime.py     serves on a bus until told to stop, then drains
    modules.py     the folders of what it imported, for ``kitmsg dev``
    starting.py    the order in which services start
    process.py     a worker process, seen from inside: signals, heartbeats, reports
    control.py     what parent and worker say to each other, line by line
    child.py       a worker process, seen from its parent
    parent.py      the parent process: signals, health, a supervisor
    announce.py    announces the process in a system of discovery while it serves
    supervisor.py  starts workers, restarts them, replaces stuck ones, rolls, stops
    plugins.py     gateways, upstreams and exporters, found by entry points
    gateway.py     gateways as supervised workers; upstream.py, the same for upstreams
    pushing.py     pushes what a process counts: ``--metrics``
    relaying.py    relays a database's outbox: ``--outbox``
    pings.py       warns of a server that would notice late that a machine has died
    lifeline.py    a worker's connection, which its parent can cut
    watchdog.py    does that for a worker without a parent, from a thread
    levels.py      log levels for a while, by orders from the bus
    ending.py      ends a process whose threads hang
    health.py      ``/healthz``, ``/readyz``, ``/metrics``, ``/debug/vars`` on the parent
    pages.py       the small HTTP of such pages
    traces.py      the exporters of a process's spans, and their last flush
    here.py        one worker in this process: ``kitmsg.run(Greeter())``

The parent serves nothing itself and stays small.  Workers are new Python processes, not
forks, so nothing that the parent opened leaks into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitmsg.service import Service
    from kitmsg.worker.load import Factory

__all__ = ["run_here"]


def run_here(*services: Service | Factory) -> None:
    """Serve in this process until SIGTERM or Ctrl-C; see `kitmsg.worker.here`."""
    from kitmsg.worker.here import run_here

    run_here(*services)
