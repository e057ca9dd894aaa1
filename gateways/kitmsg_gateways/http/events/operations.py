"""The open events in the OpenAPI document: one path for each, to publish and to follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.codec import JSON
from kitmsg_gateways.http.events.cloudevents import BATCH, STRUCTURED
from kitmsg_gateways.http.streams.formats import LAST_EVENT_ID, NDJSON, SSE

if TYPE_CHECKING:
    from kitmsg_gateways.edge.events import EventDoor
    from kitmsg_gateways.edge.events.known import Known
    from kitmsg_gateways.http.openapi.schemas import Components

__all__ = ["OWNER", "event_paths", "event_schemas"]

OWNER: Final = "events"
"""Owner of the events' schemas among the components; tag of their operations."""

_TEXT: Final = {"type": "string"}
_PROBLEM: Final = {"$ref": "#/components/responses/Problem"}
_TIMEOUT: Final = {"$ref": "#/components/parameters/RequestTimeout"}
_ATTRIBUTES: Final[dict[str, Any]] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "minLength": 1, "maxLength": 256},
    "source": {"type": "string", "format": "uri-reference", "minLength": 1},
    "type": _TEXT,
    "time": {"type": "string", "format": "date-time"},
}
_REQUIRED: Final = ["specversion", "id", "source", "type"]
_STORED: Final = {
    "type": "object",
    "required": ["sequence", "duplicate"],
    "properties": {
        "sequence": {
            "type": "integer",
            "description": "Number of the event in its log.",
        },
        "duplicate": {
            "type": "boolean",
            "description": "Whether the log had an event of that id already.",
        },
    },
}
_SINCE: Final = {
    "name": "since",
    "in": "query",
    "required": False,
    "description": "Where to begin: a sequence such as 120, a time ago such as 1h, a time"
    " such as 2026-11-28T12:00:00Z; by default with what comes from now on.",
    "schema": _TEXT,
}
_FOLLOW: Final = {
    "name": "follow",
    "in": "query",
    "required": False,
    "description": "Whether to go on with what comes, at the end of the log.",
    "schema": {"type": "boolean", "default": True},
}
_LAST: Final = {
    "name": LAST_EVENT_ID,
    "in": "header",
    "required": False,
    "description": "Sequence of the last event that the client has: it goes on behind it.",
    "schema": _TEXT,
}


def event_schemas(door: EventDoor | None) -> list[tuple[str, dict[str, Any]]]:
    """Return the schemas of the open events, as `Components` takes them."""
    known = [] if door is None else door.listed()
    return [(OWNER, {"request": dict(each.schema)}) for each in known if each.schema]


def event_paths(door: EventDoor | None, components: Components) -> dict[str, Any]:
    """Return the paths of the open events."""
    found: dict[str, Any] = {}
    for known in [] if door is None else door.listed():
        data = components.placed(OWNER, dict(known.schema or {"type": "object"}))
        event = _event(known.name, data)
        operations = {}
        if door is not None and door.may(known.name, "read"):
            operations["get"] = _read(known, event)
        if door is not None and door.may(known.name, "publish"):
            operations["post"] = _publish(known, event, data)
        found[f"/events/{known.name}"] = operations
    return found


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    properties = {**_ATTRIBUTES, "type": {"const": name}, "data": data}
    return {"type": "object", "required": _REQUIRED, "properties": properties}


def _publish(
    known: Known, event: dict[str, Any], data: dict[str, Any]
) -> dict[str, Any]:
    headers = [
        {
            "name": f"ce-{name}",
            "in": "header",
            "required": False,
            "description": "An attribute, where the body is the data alone.",
            "schema": schema,
        }
        for name, schema in _ATTRIBUTES.items()
    ]
    content = {
        STRUCTURED: {"schema": event},
        BATCH: {"schema": {"type": "array", "items": event}},
        JSON.content_type: {"schema": data},
    }
    told = {"oneOf": [_STORED, {"type": "array", "items": _STORED}]}
    return {
        "operationId": f"{OWNER}.{known.name}.publish",
        "tags": [OWNER],
        "summary": f"Publish {known.name}",
        "description": "Takes a CloudEvent, or a batch; answers when it is stored. One that"
        " is sent again with its id is stored once.",
        "parameters": [*headers, _TIMEOUT],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "202": {
                "description": "It is stored.",
                "content": {JSON.content_type: {"schema": told}},
            },
            "default": _PROBLEM,
        },
    }


def _read(known: Known, event: dict[str, Any]) -> dict[str, Any]:
    fields = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": "Only events where the field has this value.",
            "schema": _TEXT,
        }
        for name in known.template.fields
    ]
    text = {"schema": {**_TEXT, "x-items": event}}
    return {
        "operationId": f"{OWNER}.{known.name}.follow",
        "tags": [OWNER],
        "summary": f"Follow {known.name}",
        "description": "The log of the event, and what comes; also over a WebSocket.",
        "parameters": [_SINCE, _FOLLOW, *fields, _LAST],
        "responses": {
            "200": {
                "description": "The events, one after the other.",
                "content": {NDJSON: text, SSE: text},
            },
            "default": _PROBLEM,
        },
    }
