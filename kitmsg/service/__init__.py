"""The declarative face: a class with typed methods is a service.

declare.py    `Service`, `endpoint`: what a class says of itself
described.py  `describe`, `described_service`: services that are made at run time
quarantine.py refuses requests that restart an instance again and again
host.py       `ServiceHost`: serves one instance on a bus; lifecycle and supervision
inject.py     gives a service the clients that its constructor asks for
proxy.py      the typed client: a service's own methods, called over the bus
kit.py        `Kit`, `connect`: one bus connection, the services and clients on it
"""

from __future__ import annotations

from kitmsg.service.declare import Service, Supervision, endpoint
from kitmsg.service.host import ServiceHost
from kitmsg.service.kit import Kit, connect

__all__ = ["Kit", "Service", "ServiceHost", "Supervision", "connect", "endpoint"]
