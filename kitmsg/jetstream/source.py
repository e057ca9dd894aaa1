"""The consumer behind a reader: the seam of `Messages`, its pace, and what is forbidden."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import PermissionDenied
from kitmsg.wire import JS_API

if TYPE_CHECKING:
    from kitmsg.bus import Bus

__all__ = ["Pace", "Reader", "Source", "denial", "pull_subject", "watch_denials"]

_ACK: Final = "$js.ack."


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of pulls.

    Attributes:
        expires: Seconds after which one that is not full ends; infinite for never.
        heartbeat: Seconds between the consumer's signs of life; 0.0 for none.
        note: Seconds between looks at how far everybody has acked, while messages come.
    """

    expires: float = 30.0
    heartbeat: float = 5.0
    note: float = 5.0


class Source(Protocol):
    """The consumer that messages are pulled from."""

    @property
    def path(self) -> str:
        """Its stream and name, as they stand in subjects."""
        ...

    async def look(self) -> None:
        """Note how far all is acked.

        Raises:
            NotFound: It is gone.
        """
        ...

    async def restore(self) -> None:
        """Make it again, if it is gone, from the last message that is known to be acked.

        Raises:
            NotFound: The stream is gone too.
        """
        ...


class Reader(Protocol):
    """One that hears what the server forbids; held weakly."""

    def denied(self, subject: str) -> None:
        """Note a subject, in lower case, that this user may not use."""
        ...


# One listener for each bus, which has no way to take one back.
_readers: weakref.WeakKeyDictionary[Bus, weakref.WeakSet[Reader]] = (
    weakref.WeakKeyDictionary()
)


def watch_denials(bus: Bus, reader: Reader) -> None:
    """Tell `reader` what the server behind `bus` forbids, as long as it is there."""
    if isinstance(bus, MemoryBus):
        return  # where nothing is forbidden
    readers = _readers.get(bus)
    if readers is None:
        readers = _readers[bus] = weakref.WeakSet()
        bus.watch_denials(partial(_tell, readers))
    readers.add(reader)


def _tell(readers: weakref.WeakSet[Reader], subject: str) -> None:
    for reader in list(readers):
        reader.denied(subject)


def pull_subject(path: str) -> str:
    """Return where a consumer, by its `Source.path`, takes pulls."""
    return f"{JS_API}.CONSUMER.MSG.NEXT.{path}"


def denial(subject: str, path: str, inbox: str) -> PermissionDenied | None:
    """Return the error of a reader that may not use `subject`, in lower case.

    Args:
        subject: The subject.
        path: The reader's consumer, as in `Source.path`.
        inbox: What the subjects begin with that its messages come on.
    """
    subjects = pull_subject(path), f"$JS.ACK.{path}.>", f"{inbox}>"
    of_ours = (
        subject == subjects[0].lower(),
        subject.startswith(_ACK) and f".{path.lower()}." in subject,
        subject.startswith(inbox.lower()),
    )
    for ours, name in zip(of_ours, subjects, strict=True):
        if ours:
            verb = "subscribe" if name is subjects[2] else "publish"
            return PermissionDenied(
                f"this user of the NATS server may not {verb} to {name!r}, which a reader"
                f" of the consumer {path} needs: allow it, or give another user"
            )
    return None
