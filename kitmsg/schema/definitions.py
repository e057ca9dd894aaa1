"""Named schemas of many documents, brought together in one place of another document.

Types of one name that mean the same are one definition; where they differ, each has its
owner's name in front.  Requests refuse fields that they do not name and results promise
nothing of the kind: a type used in both is one definition, and refuses them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.schema.pointers import references, rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["Definitions"]

_DEFS: Final = "#/$defs/"
_DATA: Final = ("default", "enum", "const", "examples", "example")
_BAD: Final = re.compile(r"[^A-Za-z0-9._-]+")


class Definitions:
    """The definitions of some documents, with references that fit another one.

    Args:
        documents: Schemas with their ``$defs``, each with its owner's name; in the order
            that decides who is named first.
        prefix: In front of a name in a reference, such as ``#/components/schemas/``.
        reserved: Names that no definition may have.

    Attributes:
        schemas: The definitions by name, sorted.
    """

    def __init__(
        self,
        documents: Iterable[tuple[str, dict[str, Any]]],
        prefix: str,
        reserved: Collection[str] = (),
    ) -> None:
        given = list(documents)
        self._prefix = prefix
        self._reserved = reserved
        meanings: dict[str, set[str]] = {}
        for _, document in given:
            for name in _definitions(document):
                meanings.setdefault(name, set()).add(_meaning(document, name))
        self._ambiguous = {name for name, all_ in meanings.items() if len(all_) > 1}
        self._names: dict[tuple[str, str, str], str] = {}
        found: dict[str, Any] = {}
        for owner, document in given:
            rename = self._renamer(owner, document)
            for name, schema in _definitions(document).items():
                placed = rewritten(schema, rename)
                known = found.setdefault(self._name(owner, document, name), placed)
                if known != placed:
                    closest = max(known, placed, key=_refusals)
                    found[self._name(owner, document, name)] = closest
        self.schemas = dict(sorted(found.items()))

    def placed(self, owner: str, document: dict[str, Any]) -> dict[str, Any]:
        """Return one of the documents without its ``$defs``, referring to those here."""
        bare = {key: value for key, value in document.items() if key != "$defs"}
        found = rewritten(bare, self._renamer(owner, document))
        return found if isinstance(found, dict) else {}

    def _renamer(self, owner: str, document: dict[str, Any]) -> Callable[[str], str]:
        """Return what makes references to a document's definitions lead here."""

        def rename(reference: str) -> str:
            if not reference.startswith(_DEFS):
                return reference
            name = reference.removeprefix(_DEFS)
            return self._prefix + self._name(owner, document, name)

        return rename

    def _name(self, owner: str, document: dict[str, Any], name: str) -> str:
        """Return the name here of a definition in one owner's document."""
        plain = _BAD.sub("_", name) or "_"
        if name not in self._ambiguous and plain not in self._reserved:
            return plain
        key = owner, name, _meaning(document, name)
        if key not in self._names:
            base = f"{owner}.{plain}"
            taken = set(self._names.values())
            number = 1
            while (chosen := base if number == 1 else f"{base}-{number}") in taken:
                number += 1
            self._names[key] = chosen
        return self._names[key]


def _definitions(document: dict[str, Any]) -> dict[str, Any]:
    definitions = document.get("$defs")
    return definitions if isinstance(definitions, dict) else {}


def _meaning(document: dict[str, Any], name: str) -> str:
    """Return text that is the same for types that mean the same."""
    definitions = _definitions(document)
    seen: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen[at] = definitions.get(at, {})
            waiting += [found.removeprefix(_DEFS) for found in references(seen[at])]
    return json.dumps(_opened(seen), sort_keys=True, default=str)


def _opened(schema: Any) -> Any:
    """Return `schema` without the word that other fields are refused."""
    if isinstance(schema, list):
        return [_opened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _DATA else _opened(value)
        for key, value in schema.items()
        if (key, value) != ("additionalProperties", False)
    }


def _refusals(schema: Any) -> int:
    """Return in how many places a schema refuses other fields."""
    return json.dumps(schema, default=str).count('"additionalProperties": false')
