"""JSON-RPC in the OpenAPI document: one operation, and the shape of a call and its answer."""

from __future__ import annotations

from typing import Any, Final

from kitmsg.codec import JSON
from kitmsg_gateways.http.responses import error

__all__ = ["OPERATION", "SCHEMAS"]

_REQUEST: Final = {"$ref": "#/components/schemas/RpcRequest"}
_RESPONSE: Final = {"$ref": "#/components/schemas/RpcResponse"}
_CALL: Final = {"jsonrpc": "2.0", "method": "service.endpoint", "params": {}, "id": 1}

SCHEMAS: Final[dict[str, Any]] = {
    "RpcRequest": {
        "type": "object",
        "description": "A JSON-RPC 2.0 call; without `id` it is not answered.",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "method": {"type": "string"},
            "params": {"type": ["object", "array"]},
            "id": {"type": ["string", "number", "null"]},
        },
    },
    "RpcResponse": {
        "type": "object",
        "description": "The answer: `result` or `error`.",
        "required": ["jsonrpc", "id"],
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "result": {},
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "integer"},
                    "message": {"type": "string"},
                    "data": {"type": "object"},
                },
            },
            "id": {"type": ["string", "number", "null"]},
        },
    },
}
"""Schemas for the components of the document."""


def _one_or_many(schema: Any) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "array", "items": schema}]}


OPERATION: Final[dict[str, Any]] = {
    "operationId": "json-rpc",
    "summary": "JSON-RPC 2.0",
    "description": (
        "Calls any endpoint as the method `service.endpoint`, or `endpoint` where one"
        " service only has it; params by name or by position, batches, notifications."
    ),
    "requestBody": {
        "required": True,
        "content": {
            JSON.content_type: {"schema": _one_or_many(_REQUEST), "example": _CALL}
        },
    },
    "responses": {
        "200": {
            "description": "The answer, be it an error.",
            "content": {JSON.content_type: {"schema": _one_or_many(_RESPONSE)}},
        },
        "204": {"description": "There were notifications only."},
        "default": error("HTTP itself went wrong."),
    },
}
"""``POST /rpc``."""
