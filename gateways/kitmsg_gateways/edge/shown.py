"""Choice of what a door serves of the bus: the operator's, and the services' own.

What is not shown does not exist for the door: it is in no route, list, document, hint or
count.  A hidden endpoint stays callable on the bus.
"""

from __future__ import annotations

import copy
import dataclasses
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.discovery.events import CatalogEvent
    from kitmsg_gateways.edge.options import ShownOptions

__all__ = ["Shown"]


class Shown:
    """Chooses the services and endpoints that a door serves.

    Args:
        options: What the operator said.
    """

    def __init__(self, options: ShownOptions) -> None:
        self._only = options.only
        self._hide = options.hide

    def of(self, found: Catalog) -> Catalog:
        """Return a snapshot of `found`, with what is shown of it and no more."""
        shown = copy.copy(found)  # nobody starts it: its lists are all that is read
        shown.endpoints = [each for each in found.endpoints if self.shows(each)]
        served = {each.service for each in shown.endpoints}
        hidden = {each.service for each in found.endpoints} - served
        shown.services = {
            name: info
            for name, info in found.services.items()
            if name in served or (name not in hidden and self._names(name, ""))
        }
        shown.events = [
            self._without_hidden(each)
            for each in found.events
            if self.shows_event(each)
        ]
        if self._only or self._hide:  # they name services, and what those say
            shown.event_conflicts = []
        shown.refused = [
            sentence
            for sentence in found.refused
            if self._names(*sentence.partition(" ")[0].partition(".")[::2])
        ]
        return shown

    def shows(self, endpoint: CatalogEndpoint) -> bool:
        """Tell whether an endpoint is served."""
        return not endpoint.is_internal and self._names(endpoint.service, endpoint.name)

    def shows_event(self, event: CatalogEvent) -> bool:
        """Tell whether an event is shown: whether a service that publishes it may be.

        Where none says that it publishes it, those count that subscribe to it.
        """
        owners = event.publishers or event.subscribers
        return any(self._names(service, "") for service in owners)

    def _without_hidden(self, event: CatalogEvent) -> CatalogEvent:
        """Return an event with those of its services that are shown."""
        return dataclasses.replace(
            event,
            publishers=tuple(n for n in event.publishers if self._names(n, "")),
            subscribers=tuple(n for n in event.subscribers if self._names(n, "")),
        )

    def _names(self, service: str, endpoint: str) -> bool:
        """Tell whether the operator lets a name through; "" for any endpoint of it."""
        if _match(service, endpoint, self._hide):
            return False
        if not endpoint:  # a service of which nothing is known but its name
            return not self._only or any(
                fnmatchcase(service, pattern.partition(".")[0])
                for pattern in self._only
            )
        return not self._only or _match(service, endpoint, self._only)


def _match(service: str, endpoint: str, patterns: Sequence[str]) -> bool:
    return any(
        fnmatchcase(f"{service}.{endpoint}" if "." in pattern else service, pattern)
        for pattern in patterns
    )
