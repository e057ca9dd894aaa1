"""Rights on the bus: the subjects that a service, a gateway, a client or the CLI needs.

Computed from service classes, in the terms of NATS permissions.  No I/O here; `kitmsg acl`
prints them.  Answers go to inboxes by the right to respond to what was received (NATS:
``allow_responses``), so nobody may publish to anybody's inbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kitmsg.wire import (
    DOWN,
    SRV,
    UP,
    cancel_subject,
    direct_subject,
    kv_subject,
    schema_subject,
    schemas_subject,
)

if TYPE_CHECKING:
    from kitmsg.service.declare import Service

__all__ = [
    "RESPONSE_SECONDS",
    "Rights",
    "cli_rights",
    "client_rights",
    "gateway_rights",
    "service_rights",
    "together",
]

RESPONSE_SECONDS: Final = 60.0
"""Seconds for which a message may be answered; a stream's heartbeats renew them."""

_AFTER: Final = 30.0  # for an answer after the longest turn, a drain included
_VERBS: Final = ("PING", "INFO", "STATS")


@dataclass(frozen=True, kw_only=True)
class Rights:
    """The least rights of one user.

    Attributes:
        name: Of the user.
        publish: Subjects that it may publish to, sorted.
        subscribe: Subjects that it may subscribe to, sorted; one with a queue group has
            that behind a space, and may be subscribed to in that group only.
        seconds: For which it may answer what it received.
    """

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    seconds: float = RESPONSE_SECONDS

    @property
    def inbox(self) -> str:
        """Its inbox prefix, which nobody else may listen to."""
        return f"_INBOX_{self.name}"


def service_rights(
    cls: type[Service],
    calls: Iterable[type[Service]] = (),
    *,
    buckets: Sequence[str] = (),
) -> Rights:
    """Return the rights of a service: to be it, and to call others.

    Args:
        cls: Its class.
        calls: The classes of the services that it calls.
        buckets: Key-value buckets with the keys that it trusts.
    """
    name, queue = cls.name, cls.queue
    subjects = [declaration.subject for declaration in cls.__declarations__.values()]
    subscribe = {
        *(f"{subject} {queue}".strip() for subject in subjects),
        *(cancel_subject(subject) for subject in subjects),
        direct_subject(name, "*", ">"),
        f"{schemas_subject(name)} q",
        f"{schema_subject(name, '*')} q",
        *(
            f"{SRV}.{verb}{end}"
            for verb in _VERBS
            for end in ("", f".{name}", f".{name}.*")
        ),
    }
    publish = {f"{UP}.{name}", f"{DOWN}.{name}", *_keys(buckets), *_calls(calls)}
    longest = [d.options.timeout or 0.0 for d in cls.__declarations__.values()]
    return _user(name, publish, subscribe, max([0.0, *longest]))


def client_rights(
    name: str, calls: Iterable[type[Service]], *, buckets: Sequence[str] = ()
) -> Rights:
    """Return the rights of a program that calls services, and is none."""
    return _user(name, {*_calls(calls), *_keys(buckets)}, set())


def gateway_rights(name: str, services: Iterable[type[Service]]) -> Rights:
    """Return the rights of a gateway: to find services, read their schemas, and call them."""
    services = list(services)
    return _user(name, {*_calls(services), *_finds(services)}, _presence())


def cli_rights(name: str, services: Iterable[type[Service]]) -> Rights:
    """Return the rights of the command line: those of a gateway, and to read counters."""
    services = list(services)
    stats = {f"{SRV}.STATS", f"{SRV}.STATS.>"}
    publish = {*_calls(services), *_finds(services), *stats}
    return _user(name, publish, _presence())


def together(name: str, several: Iterable[Rights]) -> Rights:
    """Return the rights of services that one worker serves on one connection."""
    several = list(several)
    mine = {each.inbox for each in several}
    heard = {s for each in several for s in each.subscribe if _start(s) not in mine}
    said = {subject for each in several for subject in each.publish}
    return Rights(
        name=name,
        publish=tuple(sorted(said)),
        subscribe=tuple(sorted({*heard, f"_INBOX_{name}.>"})),
        seconds=max(each.seconds for each in several),
    )


def _user(
    name: str, publish: set[str], subscribe: set[str], longest: float = 0.0
) -> Rights:
    seconds = max(RESPONSE_SECONDS, longest + _AFTER)
    heard = {*subscribe, f"_INBOX_{name}.>"}
    return Rights(
        name=name,
        publish=tuple(sorted(publish)),
        subscribe=tuple(sorted(heard)),
        seconds=seconds,
    )


def _start(subject: str) -> str:
    return subject.partition(".")[0]


def _calls(services: Iterable[type[Service]]) -> set[str]:
    """Return where a caller of services publishes: asks, cancels, INFO for codec and hint."""
    found: set[str] = set()
    for cls in services:
        found |= {f"{SRV}.INFO", f"{SRV}.INFO.{cls.name}", f"{SRV}.INFO.{cls.name}.*"}
        for declaration in cls.__declarations__.values():
            subject = declaration.subject
            found |= {subject, direct_subject(cls.name, "*", subject)}
            found.add(cancel_subject(subject))
    return found


def _finds(services: Iterable[type[Service]]) -> set[str]:
    """Return where a follower of discovery publishes: who is there, and their schemas."""
    found = {f"{SRV}.{verb}{end}" for verb in ("PING", "INFO") for end in ("", ".>")}
    for cls in services:
        found |= {schemas_subject(cls.name), schema_subject(cls.name, "*")}
    return found


def _presence() -> set[str]:
    return {f"{UP}.*", f"{DOWN}.*"}


def _keys(buckets: Iterable[str]) -> set[str]:
    return {kv_subject(bucket, "*") for bucket in buckets}
