"""What the OpenAPI document says of streams and files."""

from __future__ import annotations

from collections import Counter

from openapi_spec_validator import validate

from kitmsg_gateways.http.streams.formats import NDJSON, OCTETS, SSE


async def test_the_document_is_valid_and_says_what_there_is(call):
    """Forms of items, bodies of items, WebSockets, and files in part."""
    _, document = await call("GET", "/openapi.json")
    validate(document)
    paths = document["paths"]
    count = paths["/count/{n}"]["get"]
    assert set(count["responses"]["200"]["content"]) == {NDJSON, SSE}
    assert count["x-stream"] == "out"
    total = paths["/feed/total"]
    assert set(total["post"]["requestBody"]["content"]) == {NDJSON}
    assert [p["name"] for p in total["post"]["parameters"][:-1]] == ["start"]
    assert set(total["get"]["responses"]) == {"101", "426", "default"}
    whole = paths["/whole/{name}"]["get"]["responses"]
    assert set(whole["200"]["content"]) == {OCTETS, "application/json"}
    assert {"206", "304", "416"} <= set(whole)
    ids = Counter(
        operation["operationId"]
        for path in paths.values()
        for operation in path.values()
    )
    assert set(ids.values()) == {1}
