"""Orders of ``kitmsg log-level`` from the bus, and their answers.

Each process listens under every name that it goes by: its services, or ``gateway.KIND``.
Answers come from the bus's own callback, beside the mailbox, so a full service obeys too.
"""

from __future__ import annotations

import logging
import os
import platform
from typing import TYPE_CHECKING, Final

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg.logs.levels import LEVELS, LevelOrder, LevelReport
from kitmsg.wire import level_subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.bus import Bus, Subscription
    from kitmsg.message import Message

__all__ = ["LevelResponder", "ask_levels", "gateway_name"]

_MAX_BYTES: Final = 4096


def gateway_name(kind: str) -> str:
    """Return the name that a gateway is given orders under."""
    return f"gateway.{kind}"


class LevelResponder:
    """Listens to orders about this process's log levels.

    Args:
        bus: Where they come from.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._subscriptions: list[Subscription] = []

    def start(self, names: Iterable[tuple[str, str]]) -> None:
        """Listen under names.

        Args:
            names: Each with the id of the instance.
        """
        for name, id_ in names:
            self._listen(name, id_)

    def stop(self) -> None:
        """Listen no more; levels that are set go back at their time."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()
        self._subscriptions.clear()

    def _listen(self, name: str, id_: str) -> None:
        def answer(message: Message) -> None:
            report = _obey(message.data, name, id_)
            if message.reply and self._bus.inboxes.takes(message.reply):
                self._bus.publish(message.reply, msgspec.json.encode(report))

        subject = level_subject(name)
        self._subscriptions.append(self._bus.subscribe(subject, answer))


async def ask_levels(bus: Bus, name: str, order: LevelOrder) -> list[LevelReport]:
    """Give an order to all processes of a name, and return their answers.

    Args:
        bus: What carries it.
        name: A service's, or ``gateway.KIND``.
        order: With no level, to be told only.

    Raises:
        Disconnected: There is no connection.
    """
    from kitmsg.discovery.subject import ask_many
    from kitmsg.message import all_printable

    data = msgspec.json.encode(order)
    reports = []
    for reply in await ask_many(bus, level_subject(name), data):
        try:
            said = all_printable(msgspec.json.decode(reply.data))
            reports.append(msgspec.convert(said, LevelReport))
        except msgspec.DecodeError:
            continue  # no process of ours
    return sorted(reports, key=lambda report: (report.place, report.id))


def _obey(data: bytes, name: str, id_: str) -> LevelReport:
    error = ""
    try:
        LEVELS.obey(_read(data))
    except InvalidArgument as exc:
        error = str(exc)
    return LevelReport(
        name=name,
        id=id_,
        place=f"{platform.node()}:{os.getpid()}",
        level=logging.getLevelName(logging.root.level).lower(),
        changes=LEVELS.changes(),
        error=error,
    )


def _read(data: bytes) -> LevelOrder:
    """Return the order in a message; an empty one asks to be told only.

    Raises:
        InvalidArgument: It is none.
    """
    if not data:
        return LevelOrder()
    if len(data) > _MAX_BYTES:
        raise InvalidArgument(f"an order of {len(data)} bytes is not read")
    try:
        return msgspec.json.decode(data, type=LevelOrder)
    except msgspec.DecodeError as exc:
        raise InvalidArgument(f"this is no order about log levels: {exc}") from exc
