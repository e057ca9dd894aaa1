"""The OpenAPI document says what is mounted."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from kitmsg import BusinessError, Kit, Service, endpoint


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1


@dataclasses.dataclass
class Order:
    """An order."""

    id: str
    lines: list[Line]
    parent: Order | None = None


class OutOfStock(BusinessError):
    """Nothing left."""

    sku: str


class Shop(Service):
    """Sells things."""

    version = "1.2.3"

    @endpoint(http="GET /orders/{id}", idempotent=True, timeout=2.0)
    async def get(
        self,
        id: str,  # noqa: A002
        colour: Colour = Colour.RED,
        tags: list[str] = [],  # noqa: B006
        limit: dict[str, int] | None = None,
        full: bool = False,
    ) -> Order:
        """Return an order.

        With its lines.
        """
        raise NotImplementedError

    @endpoint(http="PUT /orders/{id}", raises=[OutOfStock])
    async def put(self, order: Order) -> Order:
        raise NotImplementedError

    @endpoint(http="DELETE /orders/{order_id}")
    async def drop(self, order_id: str) -> None:
        raise NotImplementedError

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        raise NotImplementedError


class Other(Service):
    """Has an Order of its own."""

    @endpoint
    async def order(self, order: Any) -> Line:
        raise NotImplementedError


@pytest.fixture
async def document(hub: Kit, start: Any, foreign: Any) -> dict[str, Any]:
    """The document of two kitmsg services and a foreign one."""
    await hub.serve(Shop())
    await hub.serve(Other())
    foreign("far", "far.do")
    call = await start(hub, title="Test")
    _, body = await call("GET", "/openapi.json")
    _, again = await call("GET", "/openapi.json")
    assert msgspec.json.encode(body) == msgspec.json.encode(again)
    found: dict[str, Any] = body
    return found


async def test_it_is_valid_and_complete(document):
    """By the specification's own schema; every route is there."""
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "Test"
    assert {
        (method, path) for path, item in document["paths"].items() for method in item
    } == {
        ("get", "/orders/{id}"),
        ("put", "/orders/{id}"),
        ("delete", "/orders/{id}"),
        ("post", "/shop/get"),
        ("post", "/shop/put"),
        ("post", "/shop/drop"),
        ("post", "/shop/sum"),
        ("post", "/other/order"),
        ("post", "/far/do"),
    }


async def test_parameters_are_where_they_belong(document):
    """Path first, then the rest of the request as query, each with its schema."""
    operation = document["paths"]["/orders/{id}"]["get"]
    found = {
        p["name"]: (p["in"], p["required"])
        for p in operation["parameters"]
        if "$ref" not in p
    }
    assert found == {
        "id": ("path", True),
        "colour": ("query", False),
        "tags": ("query", False),
        "limit": ("query", False),
        "full": ("query", False),
    }
    assert operation["summary"] == "Return an order"
    assert operation["operationId"] == "shop.get.get"
    assert operation["x-subject"] == "shop.get"
    assert operation["x-idempotent"] is True
    assert operation["x-timeout"] == 2.0
    assert "requestBody" not in operation


async def test_a_body_lacks_what_the_path_has(document):
    """And needs only what is left."""
    body = document["paths"]["/orders/{id}"]["put"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"lines", "parent"}
    assert schema["required"] == ["lines"]
    whole = document["paths"]["/shop/put"]["post"]["requestBody"]
    assert whole["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Order"
    }


async def test_references_lead_somewhere(document):
    """Every one of them, inside the document."""

    def references(node: Any) -> Any:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(document))
    assert found
    for reference in found:
        at = document
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]
    assert "$defs" not in str(document)


async def test_own_errors_are_described(document):
    """By name, with their fields."""
    default = document["paths"]["/shop/put"]["post"]["responses"]["default"]
    variants = default["content"]["application/problem+json"]["schema"]["anyOf"]
    own = variants[0]["allOf"][1]["properties"]
    assert own["error"] == {"const": "OutOfStock"}
    assert own["details"] == {"$ref": "#/components/schemas/OutOfStock"}


async def test_go_kits_wire_and_foreign_services(document):
    """A bare result travels under `v`; without a schema anything goes."""

    def success(path: str) -> Any:
        ok = document["paths"][path]["post"]["responses"]["200"]
        return ok["content"]["application/json"]["schema"]

    assert success("/shop/sum")["properties"]["v"]["type"] == "integer"
    assert success("/far/do") == {}
    body = document["paths"]["/far/do"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["type"] == "object"
