"""An event as its services describe it: subject, stream and schema, ready for a door."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from kitmsg.codec import JSON
from kitmsg.errors import InvalidArgument
from kitmsg.events.envelope import schema_text, version_in
from kitmsg.events.stream import PREFIX
from kitmsg.events.template import Template
from kitmsg.jetstream import Outgoing
from kitmsg.message import encode_headers
from kitmsg.schema.instances import validator
from kitmsg.schema.pointers import alternatives, resolve
from kitmsg.wire import (
    CE_ID,
    CE_SCHEMA,
    CE_SOURCE,
    CE_SPEC,
    CE_TIME,
    CE_TYPE,
    CONTENT_TYPE,
)

if TYPE_CHECKING:
    from kitmsg.discovery.events import CatalogEvent
    from kitmsg_gateways.edge.events.posted import Posted

__all__ = ["Known"]

_SPEC: Final = "1.0"
_TYPES: Final[dict[str, type]] = {"uuid": UUID, "date": date, "date-time": datetime}


class Known:
    """One event, as a door publishes and reads it.

    Args:
        event: As its services describe it.

    Attributes:
        name: The literal words of its subject; its type on the wire.
        stream: Name of the stream that stores it.
        template: Its subject, below `PREFIX`.
        schema: JSON Schema of its fields; None if unknown: then any object fits.

    Raises:
        ValueError: The description makes no sense.
    """

    def __init__(self, event: CatalogEvent) -> None:
        self.name = event.name
        self.stream = event.stream
        self.template = Template.parse(event.subject)
        self.schema = event.schema
        self._version = event.version
        self._schema_text = schema_text(event.name, event.version, event.hash)
        self._subject = self.template.writer(PREFIX)
        found = event.schema or {"type": "object"}
        self._fit = validator(found, formats=True)
        properties = resolve(found, found).get("properties")
        self._properties = properties if isinstance(properties, dict) else {}
        self._forms = {name: self._form(name) for name in self.template.fields}

    @property
    def pattern(self) -> str:
        """The subjects of all its events."""
        return self.template.pattern(PREFIX)

    @property
    def key(self) -> tuple[str, str]:
        """Stream and subjects: where it is read."""
        return self.stream, self.pattern

    def outgoing(self, posted: Posted, more: Mapping[str, str]) -> Outgoing:
        """Return the message of an event.

        Args:
            posted: The event.
            more: Other header fields, such as the trace's.

        Raises:
            InvalidArgument: An attribute or a field does not fit, naming it.
        """
        posted.check(self.name)
        self._check_version(posted)
        headers = {
            CE_SPEC: _SPEC,
            CE_TYPE: self.name,
            CE_SCHEMA: self._schema_text,
            CE_ID: posted.id,
            CE_SOURCE: posted.source,
            CE_TIME: posted.time or _now(),
            CONTENT_TYPE: JSON.content_type,
            **posted.extensions(),
            **more,
        }
        try:
            fields = self._fit(posted.data)
            subject = self._subject(SimpleNamespace(**self._tokens(fields)))
        except InvalidArgument as error:
            path = ".".join(filter(None, (posted.place, "data", error.field)))
            raise InvalidArgument(
                f"{posted.place or self.name}: {error}", field=path
            ) from None
        data = posted.raw or msgspec.json.encode(posted.data)
        block = encode_headers(headers)
        return Outgoing(subject, data, block, message_id=posted.id)

    def values(self, where: Mapping[str, str]) -> dict[str, Any]:
        """Return values of fields of the subject, given as text, in their one form."""
        same: Callable[[Any], Any] = str
        return {n: self._forms.get(n, same)(text) for n, text in where.items()}

    def _check_version(self, posted: Posted) -> None:
        """Refuse an event that says it is of another version."""
        said = version_in(posted.schema)
        if said not in (None, self._version):
            raise posted.refusal(
                "dataschema",
                f"is of version {said}; {self.name} is at version {self._version}",
            )

    def _tokens(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the fields that are in the subject."""
        found = {}
        for name, form in self._forms.items():
            schema = self._properties.get(name, {})
            if name not in fields and "default" not in schema:
                raise InvalidArgument(
                    f"{name} is missing; it is part of the subject", field=name
                )
            found[name] = form(fields.get(name, schema.get("default")))
        return found

    def _form(self, name: str) -> Callable[[Any], Any]:
        """Return what brings a field's value into the one form that it has in a subject."""
        root: Any = self.schema or {}
        schema = self._properties.get(name, {})
        types = {
            _TYPES[str(one["format"])]
            for one in alternatives(schema, root)
            if str(one.get("format", "")) in _TYPES
        }

        def form(value: Any) -> Any:
            for type_ in types:
                try:
                    return msgspec.convert(value, type_)
                except msgspec.ValidationError:
                    continue
            return value

        return form


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat().replace("+00:00", "Z")
