"""Schemas that somebody else tells: believed under their own hash, read within a budget.

A schema of a peer is as large, as deep and as tangled as it likes.  It is weighed once,
where it comes in, with every reference followed and nothing visited twice; one over the
limits is read by nobody, and its endpoint counts as one without a schema.  Readers that
make something of a schema, such as an example, spend a `Budget`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.schema.pointers import lookup, references

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_WEIGHT",
    "Budget",
    "TooLarge",
    "check_size",
    "document_hash",
    "weigh",
    "why_unread",
]

MAX_DEPTH: Final = 64
"""Levels of an endpoint's schemas."""

MAX_NODES: Final = 20_000
"""Objects, lists and values in an endpoint's schemas."""

MAX_WEIGHT: Final = 200_000
"""Nodes that a reader may meet which follows the references of each definition."""

_DIGITS: Final = 16
_SECTIONS: Final = ("$defs", "definitions")


class TooLarge(ValueError):
    """A schema that is too large, too deep or too tangled to be read."""


class Budget:
    """The steps that a reader of a schema may take.

    Args:
        steps: How many.
    """

    __slots__ = ("left",)

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Take `steps` away.

        Raises:
            TooLarge: There are not so many left.
        """
        self.left -= steps
        if self.left < 0:
            raise TooLarge("the schema is too large")


def check_size(value: Any, most: int) -> None:
    """Refuse a value of more than `most` objects, lists and other values, or characters.

    Raises:
        TooLarge: It has more; or a text in it is longer.
    """
    budget = Budget(most)
    waiting = [value]
    while waiting:
        found = waiting.pop()
        budget.spend(len(found) if isinstance(found, str) else 1)
        waiting += _children(found)


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the hash of an endpoint's schemas, whatever hash stands in them.

    It is the first 16 hexadecimal digits of the SHA-256 of the document without its
    ``hash``, as JSON in UTF-8 with sorted keys and no white space.
    """
    bare = {key: value for key, value in document.items() if key != "hash"}
    text = msgspec.json.encode(bare, order="sorted")
    return hashlib.sha256(text).hexdigest()[:_DIGITS]


def why_unread(document: Mapping[str, Any], hash_: str) -> str:
    """Return why an endpoint's schemas are not read that were asked for as `hash_`.

    Returns:
        The rest of a sentence about them; "" if they are.
    """
    try:
        found = document_hash(document)
        if found != hash_:
            return f"its hash is {found}"
        weigh(document)
    except (TooLarge, msgspec.MsgspecError, RecursionError, TypeError) as exc:
        return str(exc) or "it cannot be read"
    return ""


def weigh(document: Any) -> int:
    """Return the nodes that the readers of an endpoint's schemas meet.

    That is its size, and for each definition the size of all that it leads to.

    Raises:
        TooLarge: It is over `MAX_NODES`, `MAX_DEPTH` or `MAX_WEIGHT`.
    """
    budget = Budget(MAX_WEIGHT)
    _measure(document)
    for part in _parts(document):
        for name, definition in _definitions(part):
            _walk(name, definition, part, budget)
    return MAX_WEIGHT - budget.left


def _measure(document: Any) -> None:
    """Refuse a document of too many nodes, or levels."""
    nodes = 0
    level = [document]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise TooLarge(f"it has more than {MAX_NODES} nodes")
        level = [child for node in level for child in _children(node)]
        if not level:
            return
    raise TooLarge(f"it is deeper than {MAX_DEPTH} levels")


def _walk(name: str, definition: Any, part: Any, budget: Budget) -> None:
    """Spend the size of a definition and of all that it leads to, each once."""
    seen = {name}
    waiting = [definition]
    while waiting:
        found = waiting.pop()
        budget.spend(_size(found))
        for reference in references(found):
            if reference not in seen:
                seen.add(reference)
                waiting.append(lookup(reference, part))


def _size(node: Any) -> int:
    size, waiting = 0, [node]
    while waiting:
        size += 1
        waiting += _children(waiting.pop())
    return size


def _children(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else []


def _parts(document: Any) -> Iterator[Any]:
    """Yield the schemas of an endpoint or an event, each with its definitions."""
    if not isinstance(document, Mapping):
        return
    yield document  # the schema of an event, which has its definitions itself
    errors = document.get("errors")
    yield from (document.get(name) for name in ("request", "response", "items"))
    if isinstance(errors, Mapping):
        yield from errors.values()


def _definitions(part: Any) -> Iterator[tuple[str, Any]]:
    for section in _SECTIONS:
        found = part.get(section) if isinstance(part, Mapping) else None
        if isinstance(found, Mapping):
            yield from ((f"#/{section}/{name}", each) for name, each in found.items())
