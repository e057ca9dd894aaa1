"""The numbers of fields, kept in a file, so that no release moves one.

A lock is text to be kept under version control: one line for each field, enum value and
method, in a fixed order.

    # Numbers that clients rely on.  Made by kitmsg; keep it under version control.

    [greeter.HelloRequest]
    name = "1 string"
    title = "2 string, removed"

A new field gets a number that nobody had.  One that is gone stays as ``removed``: its
number is never given again, and it may come back as what it was.  What would make old
clients misread a message is refused.

protobuf and Thrift have a lock each, of this one format; the types in it are spelled as
their generator spells them.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BreakingChange", "Entry", "Lock"]

_HEAD: Final = (
    "# Numbers that clients rely on.  Made by kitmsg; keep it under version control.\n"
)
_ENTRY: Final = re.compile(r"(-?\d+)(?: (.+?))??(, removed)?")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_MAX_NUMBER: Final = 2**31 - 1


class BreakingChange(ValueError):
    """A change that would make clients misread a message."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a lock.

    Attributes:
        number: The number on the wire.
        type: As the generator spells it; "" for an enum's value.
        is_removed: Whether it is kept only so that its number is not given again.
    """

    number: int
    type: str = ""
    is_removed: bool = False

    def __str__(self) -> str:
        kind = f" {self.type}" if self.type else ""
        return f"{self.number}{kind}{', removed' if self.is_removed else ''}"


class Lock:
    """Numbers by service, type and name.

    Args:
        name: Name of its file, for messages.
        cure: How to be rid of a number that no client has; by default, to delete its line.
    """

    def __init__(self, name: str = "the lock", *, cure: str = "") -> None:
        self.name = name
        self._cure = cure or f"delete its line in {name}"
        self._sections: dict[tuple[str, str], dict[str, Entry]] = {}

    @classmethod
    def parse(cls, text: str, name: str = "the lock", *, cure: str = "") -> Lock:
        """Return the lock that `text` is; one without lines is new.

        Args:
            text: As `dump` returned it.
            name: Name of its file, for messages.
            cure: As of the class.

        Raises:
            ValueError: It cannot be read; the message says where.
        """
        lock = cls(name, cure=cure)
        try:
            services = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{name} cannot be read: {error}") from error
        for service, sections in services.items():
            if not isinstance(sections, dict):
                raise lock._unreadable(service)
            for section, lines in sections.items():
                if not isinstance(lines, dict):
                    raise lock._unreadable(f"{service}.{section}")
                lock._sections[service, section] = lock._entries(
                    f"{service}.{section}", lines
                )
        return lock

    def _entries(self, where: str, lines: Mapping[str, object]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        holders: dict[int, str] = {}
        for key, line in lines.items():
            match = _ENTRY.fullmatch(line) if isinstance(line, str) else None
            if match is None:
                raise self._unreadable(f"{where}.{key}")
            entry = Entry(int(match[1]), match[2] or "", match[3] is not None)
            if abs(entry.number) > _MAX_NUMBER:
                raise self._unreadable(f"{where}.{key}")
            there = holders.setdefault(entry.number, key)
            if there != key:
                raise ValueError(
                    f"{self.name}: {where} gives number {entry.number} to {there!r} and"
                    f" to {key!r}; each needs its own"
                )
            entries[key] = entry
        return entries

    def _unreadable(self, where: str) -> ValueError:
        return ValueError(
            f"{self.name}: {where} is not a line such as"
            ' name = "1 string"; restore the file from version control'
        )

    def copy(self) -> Lock:
        """Return a lock that is equal and changes by itself."""
        lock = Lock(self.name, cure=self._cure)
        lock._sections = dict(self._sections)  # what is in them never changes
        return lock

    def dump(self) -> str:
        """Return the lock as text, the same for equal locks; `parse` reads it."""
        blocks = [_HEAD]
        for (service, section), entries in sorted(self._sections.items()):
            lines = [f"[{_key(service)}.{_key(section)}]"]
            ranked = sorted(entries.items(), key=lambda item: item[1].number)
            lines += [f'{_key(key)} = "{entry}"' for key, entry in ranked]
            blocks.append("\n".join(lines) + "\n")
        return "\n".join(blocks)

    def assign(
        self,
        service: str,
        section: str,
        wanted: Mapping[str, str],
        *,
        fixed: Mapping[str, int] | None = None,
        first: int = 1,
        skip: range = range(0),
        most: int = 2**29 - 1,
    ) -> dict[str, int]:
        """Return a number for each name, and remember it.

        Names that are not wanted any more become removed.  Nothing is remembered if the
        change is refused.

        Args:
            service: The service.
            section: The type, or what else the names belong to.
            wanted: Types by name, in the order in which new ones are numbered.
            fixed: Numbers that new names have to get.
            first: The lowest number to give.
            skip: Numbers not to give.
            most: The highest number to give.

        Raises:
            BreakingChange: A name had another type or number, and clients have it.
            ValueError: There are no numbers left.
        """
        where = f"{service}.{section}"
        known = self._sections.get((service, section), {})
        taken = {entry.number for entry in known.values()} | set((fixed or {}).values())
        entries = {key: replace(entry, is_removed=True) for key, entry in known.items()}
        following = first
        for name, type_ in wanted.items():
            number = (fixed or {}).get(name)
            if name in known:
                entries[name] = self._kept(
                    f"{where}.{name}", known[name], type_, number
                )
                continue
            if number is None:
                while following in taken or following in skip:
                    following += 1
                number = following
            if number > most:
                raise ValueError(
                    f"{where}.{name}: the numbers up to {most} are used up"
                )
            self._check_free(f"{where}.{name}", number, known)
            taken.add(number)
            entries[name] = Entry(number, type_)
        self._sections[service, section] = entries
        return {name: entries[name].number for name in wanted}

    def knows(self, service: str, section: str) -> bool:
        """Tell whether numbers of a type were given before."""
        return (service, section) in self._sections

    def removed(self, service: str, section: str) -> dict[str, int]:
        """Return the numbers of names that are gone, by name."""
        entries = self._sections.get((service, section), {})
        return {key: entry.number for key, entry in entries.items() if entry.is_removed}

    def _kept(self, where: str, entry: Entry, type_: str, number: int | None) -> Entry:
        if entry.type != type_:
            before = "once was" if entry.is_removed else "was"
            raise BreakingChange(
                f"{where} {before} {entry.type or 'a value'!r} and is now {type_!r}:"
                " clients made before would misread it; give the new one another name,"
                f" or {self._cure} if there are no such clients"
            )
        if number is not None and number != entry.number:
            raise BreakingChange(
                f"{where} was number {entry.number} and is now {number}: clients made"
                f" before would misread it; give it its number back, or {self._cure} if"
                f" there are no such clients"
            )
        return replace(entry, is_removed=False)

    def _check_free(self, where: str, number: int, known: Mapping[str, Entry]) -> None:
        there = next((k for k, entry in known.items() if entry.number == number), None)
        if there is not None:
            raise BreakingChange(
                f"{where} is number {number}, which was {there!r}: clients made before"
                f" would take one for the other; keep the name {there!r}, or {self._cure}"
                f" if there are no such clients"
            )


def _key(text: str) -> str:
    """Return a key as TOML writes it."""
    if _BARE.fullmatch(text):
        return text
    escaped = "".join(
        f"\\U{ord(char):08x}" if ord(char) < ord(" ") or char in '"\\\x7f' else char
        for char in text
    )
    return f'"{escaped}"'
