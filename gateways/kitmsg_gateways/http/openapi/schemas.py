"""Named schemas of all services, brought together under ``#/components/schemas``.

Types of one name that mean the same are one component; where they differ, each has its
service's name in front.  Requests refuse fields that they do not name and results promise
nothing of the kind: a type used in both is one component, and refuses them.

Example values are what a schema declares, else something that fits.  Where nothing simple
fits (a pattern, a ``not``), there is no example rather than a wrong one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.schema.live import Budget, check_size
from kitmsg.schema.pointers import alternatives, references, resolve, rewritten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kitmsg.discovery.catalog import CatalogEndpoint

__all__ = ["NONE", "Components", "Samples"]

_PREFIX: Final = "#/components/schemas/"
_DEFS: Final = "#/$defs/"
_DATA: Final = ("default", "enum", "const", "examples", "example")
_BAD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FORBIDDEN: Final = frozenset({"Problem", "RpcRequest", "RpcResponse"})


class Components:
    """The schemas of some endpoints, with references that fit an OpenAPI document.

    Args:
        schemas: The schemas of an endpoint as its service tells them, with the service's
            name; in the order that decides who is named first.

    Attributes:
        schemas: The components by name, sorted.
    """

    def __init__(self, schemas: Iterable[tuple[str, dict[str, Any]]]) -> None:
        documents = [
            (service, document)
            for service, schema in schemas
            for document in _documents(schema)
        ]
        meanings: dict[str, set[str]] = {}
        for _, document in documents:
            for name in _definitions(document):
                meanings.setdefault(name, set()).add(_meaning(document, name))
        self._ambiguous = {name for name, all_ in meanings.items() if len(all_) > 1}
        self._names: dict[tuple[str, str, str], str] = {}
        found: dict[str, Any] = {}
        for service, document in documents:
            rename = self._renamer(service, document)
            for name, schema in _definitions(document).items():
                placed = rewritten(schema, rename)
                known = found.setdefault(self._name(service, document, name), placed)
                if known != placed:
                    closest = max(known, placed, key=_refusals)
                    found[self._name(service, document, name)] = closest
        self.schemas = dict(sorted(found.items()))

    def request(self, endpoint: CatalogEndpoint) -> dict[str, Any] | None:
        """Return the schema of a request, as it is on the wire; None if it is not known.

        Go kit ignores fields that nobody knows, and those that are missing are zero.
        """
        schema = _part(endpoint, "request")
        if schema is None:
            return None
        placed = self._placed(endpoint.service, schema)
        if endpoint.wire != "gokit":
            return placed
        loose = {"required", "additionalProperties"}
        plain = self.resolve(placed)
        return {key: value for key, value in plain.items() if key not in loose}

    def response(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schema of a result, as it is on the wire; ``{}`` for anything."""
        schema = _part(endpoint, "response")
        if schema is None:
            return {}
        placed = self._placed(endpoint.service, schema)
        if endpoint.wire == "gokit" and self.resolve(placed).get("type") != "object":
            return {"type": "object", "properties": {"v": placed}}
        return placed

    def items(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schema of the items that go in; ``{}`` for anything."""
        schema = _part(endpoint, "items")
        return {} if schema is None else self._placed(endpoint.service, schema)

    def errors(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schemas of an endpoint's own errors, by name."""
        errors = (endpoint.schema or {}).get("errors")
        if not isinstance(errors, dict):
            return {}
        return {
            name: self._placed(endpoint.service, schema)
            for name, schema in sorted(errors.items())
            if isinstance(schema, dict)
        }

    def resolve(self, schema: Any) -> Mapping[str, Any]:
        """Return `schema` itself, or the component that it refers to."""
        return resolve(schema, {"components": {"schemas": self.schemas}})

    def is_bytes(self, schema: Any) -> bool:
        """Tell whether a value may be bytes: in JSON, base64."""
        document = {"components": {"schemas": self.schemas}}
        return any("contentEncoding" in one for one in alternatives(schema, document))

    def _placed(self, service: str, document: dict[str, Any]) -> dict[str, Any]:
        bare = {key: value for key, value in document.items() if key != "$defs"}
        found = rewritten(bare, self._renamer(service, document))
        return found if isinstance(found, dict) else {}

    def _renamer(self, service: str, document: dict[str, Any]) -> Callable[[str], str]:
        """Return what makes references to definitions lead to components."""

        def rename(reference: str) -> str:
            if not reference.startswith(_DEFS):
                return reference
            name = reference.removeprefix(_DEFS)
            return _PREFIX + self._name(service, document, name)

        return rename

    def _name(self, service: str, document: dict[str, Any], name: str) -> str:
        """Return the component's name for a definition in one service's document."""
        plain = _BAD.sub("_", name) or "_"
        if name not in self._ambiguous and plain not in _FORBIDDEN:
            return plain
        key = service, name, _meaning(document, name)
        if key not in self._names:
            base = f"{service}.{plain}"
            taken = set(self._names.values())
            number = 1
            while (chosen := base if number == 1 else f"{base}-{number}") in taken:
                number += 1
            self._names[key] = chosen
        return self._names[key]


def _documents(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an endpoint's schemas, each with its ``$defs``."""
    errors = schema.get("errors")
    parts = [schema.get("request"), schema.get("response"), schema.get("items")]
    parts += errors.values() if isinstance(errors, dict) else ()
    for part in parts:
        if isinstance(part, dict):
            yield part


def _part(endpoint: CatalogEndpoint, name: str) -> dict[str, Any] | None:
    part = (endpoint.schema or {}).get(name)
    return part if isinstance(part, dict) else None


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


Resolve: TypeAlias = Callable[[Any], Mapping[str, Any]]

NONE: Final = object()
"""Stands for no example; None is one."""

_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 16
_MAX_STEPS: Final = 1000  # for one example, and values in it
_MAX_STEPS_IN_ALL: Final = 200_000  # for the examples of a document
_TEXT: Final = "text"
_BY_FORMAT: Final = {
    "date": "2030-01-31",
    "date-time": "2030-01-31T12:00:00Z",
    "decimal": "1.5",
    "duration": "PT1S",
    "time": "12:00:00Z",
    "uuid": "6f1c9f5e-2f6b-4d3a-9a51-0c3f9d0b7c11",
}
_HARD: Final = frozenset({"pattern", "not", "if", "allOf", "dependentSchemas"})


class Samples:
    """Makes examples."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._all = Budget(_MAX_STEPS_IN_ALL)
        self._steps = Budget(_MAX_STEPS)

    def of(self, schema: Any) -> Any:
        """Return a value that fits `schema`; `NONE` if none is easily found."""
        self._steps = Budget(_MAX_STEPS)
        try:
            found = self._of(schema, 0)
            check_size(found, _MAX_STEPS)
        except (TypeError, ValueError, AttributeError, ArithmeticError):
            return NONE  # a service may say what it likes
        return found

    def _of(self, schema: Any, depth: int) -> Any:
        self._all.spend()
        self._steps.spend()
        plain = self._resolve(schema)
        if not plain:
            return {}
        for said in (schema, plain):  # beside a reference, then behind it
            told = _told(said)
            if told is not NONE:
                return told
        if depth > _MAX_DEPTH or _HARD & plain.keys():
            return NONE
        branches = [*plain.get("anyOf", ()), *plain.get("oneOf", ())]
        if branches:
            found = (self._of(branch, depth + 1) for branch in branches)
            return next((one for one in found if one is not NONE), NONE)
        named = plain.get("type", "object" if "properties" in plain else "")
        kind = named[0] if isinstance(named, list) and named else named
        make = _MAKERS.get(kind if isinstance(kind, str) else "")
        return NONE if make is None else make(self, plain, depth)

    def _object(self, plain: Mapping[str, Any], depth: int) -> Any:
        required = set(plain.get("required", ()))
        if plain.get("minProperties", 0) > len(required):
            return NONE
        made: dict[str, Any] = {}
        for name, schema in plain.get("properties", {}).items():
            if name not in required and depth:
                continue
            value = self._of(schema, depth + 1)
            if value is not NONE:
                made[name] = value
            elif name in required:
                return NONE
        return made if required <= made.keys() else NONE

    def _array(self, plain: Mapping[str, Any], depth: int) -> Any:
        fixed = [self._of(one, depth + 1) for one in plain.get("prefixItems", ())]
        least = plain.get("minItems", 0)
        most = plain.get("maxItems", _MAX_ITEMS)
        if NONE in fixed or least > _MAX_ITEMS:
            return NONE
        wanted = max(least, min(len(fixed) or 1, most))
        more = NONE
        if wanted > len(fixed) and plain.get("items") is not False:
            more = self._of(plain.get("items", {}), depth + 1)
        if more is NONE:
            return fixed if len(fixed) >= least else NONE
        is_set = plain.get("uniqueItems") and wanted - len(fixed) > 1
        return NONE if is_set else fixed + [more] * (wanted - len(fixed))


def _told(plain: Mapping[str, Any]) -> Any:
    """Return the value that a schema itself gives; `NONE` for none."""
    examples = plain.get("examples")
    if isinstance(examples, list) and examples:
        return examples[0]
    for name in ("example", "const"):
        if name in plain:
            return plain[name]
    choices = plain.get("enum")
    if isinstance(choices, list) and choices:
        return choices[0]
    default = plain.get("default")
    return default if default not in (None, "", [], {}) else NONE


def _text(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    if "contentEncoding" in plain:
        return "aGk="
    least, most = plain.get("minLength", 0), plain.get("maxLength", math.inf)
    named = plain.get("format")
    if named is not None:
        made = _BY_FORMAT.get(named, NONE)
        return made if isinstance(made, str) and least <= len(made) <= most else NONE
    if least > _MAX_ITEMS * _MAX_ITEMS:
        return NONE
    made = _TEXT + "a" * (least - len(_TEXT))
    return made if len(made) <= most else made[: int(most)]


def _integer(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    step = plain.get("multipleOf", 1)
    low, high = _bounds(plain, 1)
    if step != int(step):
        return NONE
    made = 1 if low <= 1 <= high else int(low if low > -math.inf else high)
    made = math.ceil(made / step) * int(step)
    return made if low <= made <= high else NONE


def _number(_: Samples, plain: Mapping[str, Any], __: int) -> Any:
    if "multipleOf" in plain:
        return NONE
    low, high = _bounds(plain, 0.5)
    if low <= 1.5 <= high:  # noqa: PLR2004  shows that it need not be whole
        return 1.5
    made = low if low > -math.inf else high
    return made if low <= made <= high else NONE


def _bounds(plain: Mapping[str, Any], inside: float) -> tuple[float, float]:
    """Return the bounds of a number; exclusive ones are drawn in by `inside`."""
    low = max(
        plain.get("minimum", -math.inf),
        plain.get("exclusiveMinimum", -math.inf) + inside,
    )
    high = min(
        plain.get("maximum", math.inf), plain.get("exclusiveMaximum", math.inf) - inside
    )
    return low, high


_Maker: TypeAlias = Callable[[Samples, Mapping[str, Any], int], Any]
_MAKERS: Final[dict[str, _Maker]] = {
    "object": Samples._object,  # noqa: SLF001  the same file
    "array": Samples._array,  # noqa: SLF001
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": lambda *_: True,
    "null": lambda *_: None,
}
