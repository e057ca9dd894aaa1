"""Names and numbers of a service's declarations, as every generator gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from kitmsg.idl.binding import are_numbers
from kitmsg.idl.naming import plain, unique

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import Enum, ServiceShapes

__all__ = ["Declarer"]

_MAX_VALUE: Final = 2**31 - 1


class Declarer:
    """Declares the types of one service in an IDL; a generator inherits it.

    Args:
        shapes: The service.
        lock: Numbers that clients rely on; gets those that are new.
    """

    MOST: ClassVar[int]
    """The highest number of a field."""

    SKIPPED: ClassVar[range] = range(0)
    """Numbers that the IDL keeps for itself."""

    def __init__(self, shapes: ServiceShapes, lock: Lock) -> None:
        self._shapes = shapes
        self._lock = lock
        self._taken = {plain(name) for name in (*shapes.types, shapes.name)}

    def _claimed(self, name: str) -> str:
        """Return `name`, or one like it that no type has; it is taken from now on."""
        chosen = unique(name, self._taken)
        self._taken.add(plain(chosen))
        return chosen

    def _numbers(
        self, section: str, types: Mapping[str, str], **fixed: int
    ) -> dict[str, int]:
        """Return the number of each field of a type, by key.

        Args:
            section: The type, or what else the fields belong to.
            types: By key, as the IDL spells them.
            fixed: Numbers that keys must have.

        Raises:
            BreakingChange: The lock refuses them.
        """
        return self._lock.assign(
            self._shapes.service,
            section,
            types,
            fixed=fixed,
            skip=self.SKIPPED,
            most=self.MOST,
        )

    def _values(self, enum: Enum) -> dict[str, tuple[str | int, int]]:
        """Return each value of an enum and its number, by the value's text.

        Values that are numbers are their own.

        Raises:
            BreakingChange: The lock refuses them.
            ValueError: Two of them have one text.
        """
        values = {str(value): value for value in enum.values}
        if len(values) < len(enum.values):
            raise ValueError(
                f"{self._shapes.service}.{enum.name}: it holds a number and the same number"
                " as text; rename one"
            )
        numbers = self._lock.assign(
            self._shapes.service,
            enum.name,
            dict.fromkeys(values, ""),
            fixed={text: int(text) for text in values}
            if are_numbers(enum.values)
            else {},
            most=_MAX_VALUE,
        )
        return {text: (value, numbers[text]) for text, value in values.items()}
