"""The AsyncAPI document of the events on a bus.  Sources: AsyncAPI 3.0.0, CloudEvents 1.0.2.

Each event is a channel with one message; each service that publishes it has an operation
that sends, each that subscribes one that receives.  The same events give the same document,
byte for byte.  `generate` makes this module an exporter, see `kitmsg.worker.plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import JSON
from kitmsg.events.stream import PREFIX
from kitmsg.schema.definitions import Definitions
from kitmsg.schema.pointers import resolve
from kitmsg.schema.samples import Samples
from kitmsg.wire import (
    CE_ID,
    CE_SCHEMA,
    CE_SOURCE,
    CE_SPEC,
    CE_TIME,
    CE_TYPE,
    CONTENT_TYPE,
    TRACEPARENT,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.discovery.events import CatalogEvent
    from kitmsg.discovery.subject import ServiceInfo

__all__ = ["LOCK", "READS", "SUFFIX", "TITLE", "document", "generate"]

TITLE: Final = "AsyncAPI"
LOCK: Final = ""
SUFFIX: Final = ".json"
READS: Final = "events"

_SCHEMAS: Final = "#/components/schemas/"
_SERVER: Final = {
    "host": "{address}",
    "protocol": "nats",
    "description": "The bus: NATS with JetStream.",
    "variables": {
        "address": {
            "default": "localhost:4222",
            "description": "Host and port of nats-server.",
        }
    },
}


def generate(
    services: Sequence[ServiceInfo], events: Sequence[CatalogEvent]
) -> dict[str, str]:
    """Return the document of some services' events as text, by file name.

    Raises:
        ValueError: There are no events.
    """
    if not events:
        raise ValueError("nothing to export: no service has events")
    is_one = len(services) == 1
    found = document(
        events,
        services,
        title=services[0].name if is_one else "Events",
        version=services[0].version if is_one else "1.0.0",
    )
    return {"asyncapi.json": msgspec.json.format(msgspec.json.encode(found)).decode()}


def document(
    events: Sequence[CatalogEvent],
    services: Iterable[ServiceInfo],
    *,
    title: str,
    version: str,
    conflicts: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the document of some events.

    Args:
        events: The events.
        services: One instance of each service that publishes or subscribes to them.
        title: Of the document.
        version: Of the document.
        conflicts: Sentences about what services say differently.
    """
    schemas = Definitions(
        [(event.name, event.schema) for event in events if event.schema], _SCHEMAS
    )
    used = {name for e in events for name in (*e.publishers, *e.subscribers)}
    by_name = {info.name: info for info in services if info.name in used}
    tags = [_tag(by_name[name]) for name in sorted(by_name)]
    found: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version, "tags": tags},
        "defaultContentType": JSON.content_type,
        "servers": {"bus": _SERVER},
        "channels": {event.name: _channel(event) for event in events},
        "operations": {
            key: operation for event in events for key, operation in _operations(event)
        },
        "components": {
            "messages": {event.name: _message(event, schemas) for event in events},
            "schemas": schemas.schemas,
        },
    }
    return {**found, "x-conflicts": list(conflicts)} if conflicts else found


def _tag(info: ServiceInfo) -> dict[str, Any]:
    said = {"description": info.description} if info.description else {}
    return {"name": info.name, **said, "x-version": info.version}


def _channel(event: CatalogEvent) -> dict[str, Any]:
    reference = {"$ref": f"#/components/messages/{event.name}"}
    found: dict[str, Any] = {
        "address": f"{PREFIX}.{event.subject}",
        "messages": {event.name: reference},
        "servers": [{"$ref": "#/servers/bus"}],
        "x-stream": event.stream,
    }
    if event.fields:
        found["parameters"] = {
            field: {
                "description": f"The field {field!r}, percent-encoded.",
                "location": f"$message.payload#/{field}",
            }
            for field in event.fields
        }
    return found


def _operations(event: CatalogEvent) -> Iterable[tuple[str, dict[str, Any]]]:
    for action, verb, services in (
        ("send", "publishes", event.publishers),
        ("receive", "subscribes", event.subscribers),
    ):
        for service in services:
            yield (
                f"{service}.{verb}.{event.name}",
                {
                    "action": action,
                    "title": f"{service} {verb} {event.name}",
                    "channel": {"$ref": f"#/channels/{event.name}"},
                    "messages": [
                        {"$ref": f"#/channels/{event.name}/messages/{event.name}"}
                    ],
                    "tags": [{"name": service}],
                    "x-service": service,
                },
            )


def _message(event: CatalogEvent, schemas: Definitions) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": event.name,
        "title": event.name,
        "contentType": JSON.content_type,
        "headers": _headers(event),
        "x-version": event.version,
    }
    if event.schema is None:
        return found
    payload = schemas.placed(event.name, event.schema)
    placed = {"components": {"schemas": schemas.schemas}}
    plain = resolve(payload, placed)
    said = plain.get("description")
    if isinstance(said, str) and said.strip():
        paragraph = " ".join(said.strip().split("\n\n")[0].split())
        summary = paragraph.partition(". ")[0].rstrip(".")
        found |= {"summary": summary, "description": paragraph}
    sample = Samples(lambda schema: resolve(schema, placed)).of(payload)
    if isinstance(sample, dict):
        found["examples"] = [{"payload": sample}]
    return {**found, "payload": payload}


def _headers(event: CatalogEvent) -> dict[str, Any]:
    """Return the schema of the headers: CloudEvents' attributes in binary mode."""
    text = {"type": "string", "minLength": 1}
    properties: Mapping[str, Any] = {
        CONTENT_TYPE: {"type": "string", "examples": [JSON.content_type]},
        CE_SPEC: {"const": "1.0"},
        CE_ID: {**text, "description": "Unique with the source; the message id."},
        CE_TYPE: {"const": event.name},
        CE_SOURCE: {
            "type": "string",
            "format": "uri-reference",
            "description": "The service that published it, after a slash.",
        },
        CE_TIME: {"type": "string", "format": "date-time"},
        CE_SCHEMA: {
            "type": "string",
            "description": "Version, and hash of the JSON Schema.",
            "examples": [f"kit:{event.name}:{event.version}:{event.hash}"],
        },
        TRACEPARENT: {"type": "string", "description": "W3C Trace Context."},
    }
    needed = [CE_SPEC, CE_ID, CE_TYPE, CE_SOURCE]
    return {"type": "object", "properties": properties, "required": needed}
