"""Schemas of strangers: whatever they are, there is a tool, and it can be listed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from mcp_types import ListToolsResult, methods
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg_gateways.edge.plain import PlainEndpoint
from kitmsg_gateways.mcp.methods import _tool

WORDS = [
    *("type", "properties", "required", "items", "$ref", "$defs", "title", "anyOf"),
    *("additionalProperties", "enum", "default", "description", "A", "B"),
]
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.sampled_from(
        ["object", "array", "string", "null", "#/$defs/A", "#/$defs/B", "#", "x#y"]
    ),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.sampled_from(WORDS), inner, max_size=5)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=15,
)


def endpoint(schema: Any, stream: str) -> CatalogEndpoint:
    """Return an endpoint with a schema."""
    return CatalogEndpoint(
        service="s",
        version="1.0.0",
        name="e",
        subject="s.e",
        description="",
        metadata={"kit.stream": stream},
        hash="x",
        schema=schema,
    )


def check(schema: Any, stream: str) -> None:
    """Check that there is a tool that every version can list."""
    tool = _tool("s.e", PlainEndpoint.of(endpoint(schema, stream)))
    assert tool.input_schema["type"] == "object"
    for version in (*HANDSHAKE_PROTOCOL_VERSIONS, *MODERN_PROTOCOL_VERSIONS):
        listed: Any = ListToolsResult(tools=[tool], ttl_ms=0, cache_scope="public")
        data = listed.model_dump(by_alias=True, mode="json", exclude_none=True)
        methods.serialize_server_result("tools/list", version, data)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={"request": SCHEMAS, "response": SCHEMAS, "items": SCHEMAS}
    ),
    st.sampled_from(["", "in", "out", "both"]),
)
def test_any_schema_makes_a_tool(schema: Any, stream: str) -> None:
    """Its root is an object's."""
    check(schema, stream)


@pytest.mark.parametrize("part", ["request", "response", "items"])
def test_a_deep_schema_makes_a_tool(part: str) -> None:
    """It does not keep others from being served."""
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"type": "object", "properties": {"x": deep}}
    check({part: deep}, "both")
