"""The declarative face: a class with typed methods is a service.

    declare.py       `Service`: the class that a user writes, read when it is defined
    mark.py          `endpoint`: the decorator
    declaration.py   `Options`, `Declaration`: one endpoint, its options checked
    methods.py       wrappers, partials, objects and plain functions as awaited methods
    members.py       the endpoints of a class and its bases; type variables bound
    settings.py      the attributes of a class, checked
    described.py     `describe`, `described_service`: services that are made at run time
    quarantine.py    refuses requests that restart an instance again and again
    work.py          the work of a class beside its calls: events, schedules, background
    stored.py        the streams and consumers that it needs
    employed.py      carries that work out, for one instance
    told.py          the typed teller: a service's own methods, stored to be done
    host.py          `ServiceHost`: serves one instance on a bus; lifecycle, supervision
    inject.py        gives a service the clients that its constructor asks for
    proxy.py         the typed client: a service's own methods, called over the bus
    peers.py         the codec of a service that is called: kitmsg's own, or JSON
    rights.py        the subjects that a service, a gateway or a client needs
    detach.py        `detached`: work that outlives the call it began in
    plain.py         requests and responses of calls by name
    storing.py       the half of a kit that stores: events, tells, logs
    report.py        counters and gauges of what is served, and of the process
    counted.py       such reports as metric families
    kit.py           `Kit`: one bus connection, the services and clients on it
    connecting.py    `connect`: from servers and keys to a kit

All that a class says is checked where it is defined.
"""

from __future__ import annotations

from kitmsg.service.connecting import connect
from kitmsg.service.declare import Service, Supervision, endpoint
from kitmsg.service.detach import detached
from kitmsg.service.host import ServiceHost
from kitmsg.service.kit import Kit

__all__ = [
    "Kit",
    "Service",
    "ServiceHost",
    "Supervision",
    "connect",
    "detached",
    "endpoint",
]
