"""The events of services, for `kitmsg export`: of classes, or of those on the bus."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING

from kitmsg.cli.output import UsageError
from kitmsg.cli.remote import on_bus
from kitmsg.cli.stored import services_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from kitmsg.discovery.catalog import Catalog
    from kitmsg.discovery.events import CatalogEvent
    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.service import Kit

__all__ = ["check_names", "events_of_classes", "events_on_bus", "look_around"]


def events_of_classes(
    options: argparse.Namespace,
) -> tuple[list[ServiceInfo], list[CatalogEvent]]:
    """Return the services that targets define, and their events.

    Raises:
        UsageError: There are none, or two define an event differently.
    """
    from kitmsg.discovery.events import event_conflicts, merge_events
    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.service.host import first_line
    from kitmsg.service.work import event_schemas, told_by

    classes = services_of(options, example=f"kitmsg export {options.kind} shop.py")
    services = [
        ServiceInfo(
            name=cls.name,
            id=cls.name,
            version=cls.version,
            description=first_line(cls),
            metadata=told_by(cls),
        )
        for cls in classes
    ]
    if conflicts := event_conflicts(services):
        raise UsageError("; ".join(conflicts))
    schemas = {
        document["hash"]: document
        for cls in classes
        for document in event_schemas(cls).values()
    }
    return services, merge_events([[info] for info in services], schemas)


def events_on_bus(
    options: argparse.Namespace,
) -> tuple[list[ServiceInfo], list[CatalogEvent]]:
    """Return the services on the bus, and the events of those that are named.

    What they define differently is told.
    """
    names = options.targets
    catalog = on_bus(options, lambda kit: look_around(kit, names))
    for sentence in catalog.event_conflicts:
        print(f"warning: {sentence}", file=sys.stderr)
    events = [
        event
        for event in catalog.events
        if not names or {*names} & {*event.publishers, *event.subscribers}
    ]
    # Both sides of an event are told, whichever was named.
    used = {name for e in events for name in (*e.publishers, *e.subscribers)}
    return [
        catalog.services[name] for name in sorted(used & {*catalog.services})
    ], events


async def look_around(kit: Kit, names: Sequence[str]) -> Catalog:
    """Return a catalog of what is on the bus now.

    Raises:
        NotFound: One of `names` is not there, or nothing is.
    """
    from kitmsg.discovery.catalog import Catalog

    catalog = Catalog(kit.bus)
    await catalog.start()
    await catalog.stop()
    check_names(names, sorted(catalog.services))
    return catalog


def check_names(names: Iterable[str], there: Sequence[str]) -> None:
    """Refuse names of services that are not there.

    Raises:
        NotFound: One is not, or nothing is there; the message says what is near.
    """
    from kitmsg.errors import NotFound

    for name in names:
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else _listed(there)
            raise NotFound(f"there is no service {name!r} on the bus; {hint}")
    if not there:
        raise NotFound("there is no service on the bus")


def _listed(names: Iterable[str]) -> str:
    return f"there are: {', '.join(names)}" if names else "there is none"
