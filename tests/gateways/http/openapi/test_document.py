"""The OpenAPI document says what is mounted."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any

import msgspec
import pytest
from openapi_spec_validator import validate

from kitmsg import BusinessError, Code, Kit, Service, endpoint
from kitmsg.auth.allow import known, role, scope
from kitmsg.auth.basic import make_hash
from kitmsg.schema import header


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

    code = Code.ALREADY_EXISTS
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

    @endpoint(http="GET /prices/{sku}", cache=60)
    async def price(
        self, sku: str, currency: Annotated[str, header("X-Currency")] = "EUR"
    ) -> int:
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
        ("get", "/prices/{sku}"),
        ("post", "/shop/price"),
        ("post", "/other/order"),
        ("post", "/far/do"),
        ("post", "/rpc"),
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
    """By name, with their fields, under the status that they have."""
    responses = document["paths"]["/shop/put"]["post"]["responses"]
    conflict = responses["409"]["content"]["application/problem+json"]["schema"][
        "anyOf"
    ]
    own = conflict[0]["allOf"][1]["properties"]
    assert own["error"] == {"const": "OutOfStock"}
    assert own["details"] == {"$ref": "#/components/schemas/OutOfStock"}
    assert {"200", "400", "413", "415", "429", "502", "503", "504", "default"} < {
        *responses
    }
    bodyless = document["paths"]["/orders/{id}"]["get"]["responses"]
    assert "413" not in bodyless


async def test_examples_are_given(document):
    """For bodies, results and parameters, and they fit."""
    get = document["paths"]["/orders/{id}"]["get"]
    examples = {p["name"]: p.get("example") for p in get["parameters"] if "name" in p}
    assert examples == {
        "id": "text",
        "colour": "red",
        "tags": ["text"],
        "limit": {},
        "full": False,
    }
    body = document["paths"]["/shop/put"]["post"]["requestBody"]
    assert body["content"]["application/json"]["example"]["lines"] == [{"sku": "text"}]
    result = get["responses"]["200"]["content"]["application/json"]["example"]
    assert result["id"] == "text"


class Codes(Service):
    @endpoint
    async def use(
        self, code: Annotated[str, msgspec.Meta(pattern="^[A-Z]{4}$")], note: str = ""
    ) -> None: ...


async def test_a_body_without_an_example_has_a_sample_for_the_page(
    hub: Kit, start: Any
) -> None:
    """It may not fit, and is there to be changed; generators do not look at it."""
    await hub.serve(Codes())
    call = await start(hub)
    _, document = await call("GET", "/openapi.json")
    body = document["paths"]["/codes/use"]["post"]["requestBody"]["content"]
    found = body["application/json"]
    assert "example" not in found
    assert found["x-sample"] == {"code": "text"}


async def test_what_a_client_may_keep_is_described(document):
    """The headers, and 304; only where a time is declared, and only for GET."""
    kept = document["paths"]["/prices/{sku}"]["get"]["responses"]
    assert set(kept["200"]["headers"]) == {"ETag", "Cache-Control"}
    assert "304" in kept
    assert "304" not in document["paths"]["/shop/price"]["post"]["responses"]
    assert "304" not in document["paths"]["/orders/{id}"]["get"]["responses"]


async def test_a_header_is_a_parameter(document):
    """And neither in the query nor in the body."""
    get = document["paths"]["/prices/{sku}"]["get"]
    found = {p["name"]: p["in"] for p in get["parameters"] if "name" in p}
    assert found == {"sku": "path", "X-Currency": "header"}
    post = document["paths"]["/shop/price"]["post"]
    found = {p["name"]: p["in"] for p in post["parameters"] if "name" in p}
    assert found == {"X-Currency": "header"}
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == {"sku"}


async def test_each_schema_has_a_place(document, hub, start):
    """The operation says where, and it is there to stay."""
    call = await start(hub)
    place = document["paths"]["/shop/put"]["post"]["x-schema"]
    response, body = await call("GET", place)
    assert response.status == 200
    assert set(body) == {"request", "response", "errors", "hash"}
    assert place == f"/schemas/{body['hash']}"
    assert "immutable" in response.headers["Cache-Control"]
    assert (await call("POST", place))[0].status == 405
    assert (await call("GET", "/schemas/0000"))[0].status == 404


async def test_go_kits_wire_and_foreign_services(document):
    """A bare result travels under `v`; without a schema anything goes."""

    def success(path: str) -> Any:
        ok = document["paths"][path]["post"]["responses"]["200"]
        return ok["content"]["application/json"]["schema"]

    assert success("/shop/sum")["properties"]["v"]["type"] == "integer"
    body = document["paths"]["/shop/sum"]["post"]["requestBody"]
    assert not body["required"]
    assert "required" not in body["content"]["application/json"]["schema"]
    assert success("/far/do") == {}
    body = document["paths"]["/far/do"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"]["type"] == "object"
    errors = document["paths"]["/shop/sum"]["post"]["responses"]["400"]["content"]
    assert set(errors) == {"application/json", "application/problem+json"}
    assert errors["application/json"]["schema"]["required"] == ["error"]


async def test_media_types_are_those_that_are_spoken(document):
    """Msgpack with kitmsg's own wire, where there is a body to say so; else JSON alone."""

    def spoken(path: str, method: str) -> tuple[set[str], set[str]]:
        operation = document["paths"][path][method]
        body = operation.get("requestBody", {"content": {}})["content"]
        return {*body}, {*operation["responses"]["200"]["content"]}

    both = {"application/json", "application/msgpack"}
    assert spoken("/shop/put", "post") == (both, both)
    assert spoken("/orders/{id}", "get") == (set(), {"application/json"})
    assert spoken("/shop/sum", "post") == ({"application/json"}, {"application/json"})
    assert spoken("/far/do", "post") == ({"application/json"}, {"application/json"})


async def test_json_rpc_has_schemas_that_generators_take(document):
    """No list of types, which many do not know."""
    schemas = document["components"]["schemas"]
    assert not [
        name
        for name in ("RpcRequest", "RpcResponse")
        for property_ in schemas[name]["properties"].values()
        if isinstance(property_.get("type"), list)
    ]


async def test_who_may_call_is_described(document, hub, start, tmp_path):
    """Nobody is asked for anything by default; else one of the schemes will do."""
    assert document["security"] == []
    assert document["servers"] == [{"url": "/"}]
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('sesame')}\n")
    call = await start(hub, basic_file=str(users), auth_public=("/openapi.json",))
    _, body = await call("GET", "/openapi.json")
    validate(body)
    assert body["security"] == [{"basic": []}]
    schemes = body["components"]["securitySchemes"]
    assert schemes == {"basic": {"type": "http", "scheme": "basic"}}


async def test_who_may_call_an_endpoint_is_described(hub, start, tmp_path):
    """Its scopes and roles stand with each scheme (OpenAPI 3.1), the policy beside."""

    class Shut(Service):
        @endpoint(http="GET /shut", allow=scope("a") & scope("b") | role("admin"))
        async def look(self) -> str:
            return "in"

        @endpoint(http="GET /known", allow=known)
        async def see(self) -> str:
            return "in"

    await hub.serve(Shut())
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('sesame')}\n")
    call = await start(hub, basic_file=str(users), auth_public=("/openapi.json",))
    _, body = await call("GET", "/openapi.json")
    validate(body)
    shut, seen = (body["paths"][path]["get"] for path in ("/shut", "/known"))
    assert shut["security"] == [{"basic": ["a", "b"]}, {"basic": ["admin"]}]
    assert shut["x-allow"] == "scope:a scope:b | role:admin"
    assert ("security" in seen, seen["x-allow"]) == (False, "known")
