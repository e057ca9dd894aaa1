"""OpenAPI documents as endpoints: names, places, schemas, and what is refused."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import kitmsg
from kitmsg.context import Context
from kitmsg.errors import InvalidArgument, Unavailable
from kitmsg_gateways.http.upstream import (
    OpenApi,
    Upstream,
    UpstreamOptions,
    open_upstream,
)
from kitmsg_gateways.http.upstream.describe import read_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kitmsg.bus.memory import MemoryBus
    from tests.gateways.http.upstream.conftest import Remote

PETS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1.2.0"},
    "servers": [{"url": "/relative"}, {"url": "https://pets.example/v1"}],
    "paths": {
        "/pets/{pet-id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "get": {
                "operationId": "pets.get",
                "summary": "Get a pet.",
                "parameters": [
                    {"name": "X-Tenant", "in": "header", "schema": {"type": "string"}},
                    {"name": "Accept", "in": "header", "schema": {"type": "string"}},
                    {"name": "tag", "in": "cookie", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {
                        "description": "A pet.",
                        "content": {
                            "application/json": {
                                "schema": {"$ref": "#/components/schemas/Pet"}
                            }
                        },
                    }
                },
            },
            "put": {
                "operationId": "pets.put",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Pet"}
                        }
                    },
                },
                "responses": {"204": {"description": "Done."}},
            },
        },
        "/pets": {
            "get": {
                "parameters": [
                    {
                        "name": "limit",
                        "in": "query",
                        "required": True,
                        "schema": {"type": "integer", "minimum": 1},
                    },
                    {
                        "name": "tags",
                        "in": "query",
                        "explode": False,
                        "schema": {"type": "array", "items": {"type": "string"}},
                    },
                    {
                        "name": "filter",
                        "in": "query",
                        "style": "deepObject",
                        "schema": {"type": "object"},
                    },
                    {
                        "name": "where",
                        "in": "query",
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                ],
                "responses": {"default": {"description": "Whatever."}},
            },
            "post": {
                "operationId": "pets.add-many",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "array",
                                "items": {"$ref": "#/components/schemas/Pet"},
                            }
                        }
                    }
                },
                "responses": {
                    "201": {
                        "description": "Text.",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            },
        },
        "/login": {
            "post": {
                "operationId": "login",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "required": ["user"],
                                "properties": {
                                    "user": {"type": "string"},
                                    "roles": {
                                        "type": "array",
                                        "items": {"type": "string"},
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {"200": {"description": "In."}},
            }
        },
        "/photo": {
            "put": {
                "operationId": "photo",
                "requestBody": {
                    "required": True,
                    "content": {"image/png": {"schema": {"format": "binary"}}},
                },
                "responses": {
                    "200": {"description": "A picture.", "content": {"image/png": {}}}
                },
            }
        },
    },
    "components": {
        "parameters": {
            "Id": {
                "name": "pet-id",
                "in": "path",
                "required": True,
                "description": "Which pet.",
                "schema": {"type": "integer", "format": "int64"},
            }
        },
        "schemas": {
            "Pet": {
                "type": "object",
                "required": ["id", "name"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "integer", "readOnly": True},
                    "name": {"type": "string", "nullable": True, "example": "Rex"},
                    "photo": {"type": "string", "format": "byte"},
                    "age": {
                        "type": "number",
                        "minimum": 0,
                        "exclusiveMinimum": True,
                    },
                    "parent": {
                        "nullable": True,
                        "allOf": [{"$ref": "#/components/schemas/Pet"}],
                    },
                },
            }
        },
    },
}


def pets(**changes: Any) -> dict[str, Any]:
    """Return the document with some paths changed."""
    document = copy.deepcopy(PETS)
    for path, item in changes.pop("paths", {}).items():
        document["paths"].setdefault(path, {}).update(item)
    document.update(changes)
    return document


@pytest.fixture
async def described(
    remote: Remote,
) -> AsyncIterator[Upstream]:
    """The pets, on the test's server."""
    async with Upstream(remote.url, OpenApi(PETS), name="pets") as made:
        yield made


async def call(upstream: Upstream, name: str, /, **request: Any) -> Any:
    """Call an endpoint as code without a bus does."""
    return await upstream.endpoint(name)(Context(), request)


def test_operations_are_endpoints() -> None:
    """Named by operationId, or by method and path; the document gives version and text."""
    found = read_document(PETS, service="pets")
    assert [o.declaration.name for o in found.offers] == [
        "pets_get",
        "pets_put",
        "get_pets",
        "pets_add-many",
        "login",
        "photo",
    ]
    assert (found.title, found.version) == ("Pets", "1.2.0")
    assert found.servers == ("https://pets.example/v1",)
    assert not found.left_out
    by_name = {o.declaration.name: o.declaration for o in found.offers}
    assert by_name["pets_get"].options.idempotent
    assert not by_name["pets_add-many"].options.idempotent
    assert by_name["pets_get"].signature.doc == "Get a pet."
    assert by_name["login"].options.http == ""  # where its own route is already
    assert by_name["get_pets"].options.http == "GET /pets/pets"


def test_schemas_are_modern_and_whole() -> None:
    """References lead into the schema itself, and 3.0's words are JSON Schema's."""
    found = {
        o.declaration.name: o.declaration
        for o in read_document(PETS, service="pets").offers
    }
    request = found["pets_get"].signature.request_schema()
    assert request == {
        "type": "object",
        "properties": {
            "pet-id": {
                "description": "Which pet.",
                "type": "integer",
                "format": "int64",
            },
            "X-Tenant": {"type": "string", "x-header": "X-Tenant"},
        },
        "required": ["pet-id"],
        "additionalProperties": False,
    }
    response = found["pets_get"].signature.response_schema()
    assert response["$ref"] == "#/$defs/Pet"
    pet = response["$defs"]["Pet"]["properties"]
    assert pet["name"] == {"type": ["string", "null"]}
    assert pet["photo"] == {"type": "string", "contentEncoding": "base64"}
    assert pet["age"] == {"type": "number", "exclusiveMinimum": 0}
    assert pet["parent"] == {
        "anyOf": [{"allOf": [{"$ref": "#/$defs/Pet"}]}, {"type": "null"}]
    }
    put = found["pets_put"].signature.request_schema()
    assert put["required"] == ["pet-id", "name"]  # the id is read-only
    assert found["pets_put"].signature.response_schema() == {"type": "null"}
    assert found["get_pets"].signature.response_schema() == {}


async def test_parameters_go_where_the_document_says(
    remote: Remote, described: Upstream
) -> None:
    """Path, header, and each way of writing a query; the body beside them."""
    await call(described, "pets_get", **{"pet-id": 7, "X-Tenant": "acme"})
    assert remote.seen[-1].target == "/pets/7"
    assert remote.seen[-1].headers["X-Tenant"] == "acme"
    await call(
        described, "get_pets", limit=3, tags=["a", "b"], filter={"x": 1}, where={"y": 2}
    )
    assert remote.seen[-1].target == (
        "/pets?limit=3&tags=a%2Cb&filter%5Bx%5D=1&where=%7B%22y%22%3A2%7D"
    )
    await call(described, "pets_put", **{"pet-id": 7, "name": "Rex"})
    assert remote.seen[-1].target == "/pets/7"
    assert remote.seen[-1].body == b'{"name":"Rex"}'
    with pytest.raises(InvalidArgument, match="'colour' is not known"):
        await call(described, "pets_put", **{"pet-id": 7, "name": "Rex", "colour": 1})


async def test_bodies_have_the_form_that_is_asked_for(
    remote: Remote, described: Upstream
) -> None:
    """A list as the field body, a form as a form, bytes as bytes."""
    remote.says(b"two", Content_Type="text/plain")
    assert await call(described, "pets_add-many", body=[{"name": "Rex"}]) == "two"
    assert remote.seen[-1].body == b'[{"name":"Rex"}]'
    await call(described, "login", user="a&b", roles=["x", "y"])
    assert remote.seen[-1].body == b"user=a%26b&roles=x&roles=y"
    assert "form-urlencoded" in remote.seen[-1].headers["Content-Type"]
    remote.says(b"\x89PNG", Content_Type="image/png")
    assert await call(described, "photo", body=b"\x00\xff") == b"\x89PNG"
    assert remote.seen[-1].body == b"\x00\xff"
    assert remote.seen[-1].headers["Content-Type"] == "image/png"


async def test_a_document_serves_the_bus(
    remote: Remote, described: Upstream, memory_bus: MemoryBus
) -> None:
    """Requests are checked against the document, and bytes are bytes on the bus."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        host = await kit.serve(described)
        assert (host.info.description, host.info.version) == ("Pets", "1.2.0")
        remote.says({"id": 1, "name": "Rex", "photo": "aGk="})
        assert await kit.call("pets.pets_get", {"pet-id": 1}) == {
            "id": 1,
            "name": "Rex",
            "photo": b"hi",
        }
        remote.seen.clear()
        with pytest.raises(InvalidArgument, match="expected integer") as caught:
            await kit.call("pets.pets_get", {"pet-id": "x"})
        assert caught.value.field == "pet-id"
        with pytest.raises(InvalidArgument, match=">= 1"):
            await kit.call("pets.get_pets", limit=0)
        assert remote.seen == []
        remote.says({"id": "not as the document says"})
        assert await kit.call("pets.pets_get", {"pet-id": 1}) == {
            "id": "not as the document says"
        }


def _operation(**given: Any) -> dict[str, Any]:
    return {"responses": {}, **given}


def _query(**given: Any) -> dict[str, Any]:
    return _operation(parameters=[{"name": "q", "in": "query", **given}])


@pytest.mark.parametrize(
    ("own", "why"),
    [
        (
            _operation(requestBody={"content": {"multipart/form-data": {}}}),
            "multipart/form-data, which is not supported",
        ),
        (
            _operation(parameters=[{"name": "s", "in": "cookie", "required": True}]),
            "needs the cookie 's'",
        ),
        (_query(style="matrix"), "style 'matrix'"),
        (_query(schema={"type": "object"}), "is an object"),
        (_query(content={"text/csv": {}}), "written as 'text/csv'"),
        (_operation(parameters=[{"$ref": "other.yaml#/x"}]), "outside the document"),
        (_operation(parameters=[{"$ref": "#/components/none"}]), "not there"),
        (
            _operation(parameters=[{"$ref": "#/paths/~1odd/post/parameters/0"}]),
            "object|there|circle",
        ),
        (_query(schema={"$ref": "#/info"}), "can be followed"),
        (
            _operation(
                requestBody={"content": {"application/x-www-form-urlencoded": {}}}
            ),
            "form whose fields",
        ),
    ],
)
def test_what_cannot_be_carried_is_left_out_with_a_reason(
    own: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are served; one that was asked for by name is an error."""
    document = pets(paths={"/odd": {"post": {"operationId": "odd", **own}}})
    found = read_document(document, service="pets")
    assert set(found.left_out) == {"odd"}
    assert "POST /odd (odd) is left out" in caplog.text
    with pytest.raises(ValueError, match=f"cannot be served.*({why})"):
        read_document(document, service="pets", only=["odd"])


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({}, "no OpenAPI 3 document"),
        ([], "no OpenAPI 3 document"),
        ({"swagger": "2.0"}, "no OpenAPI 3 document"),
        ({"openapi": "3.1.0"}, "no operation that can be served"),
        (
            pets(paths={"/x": {"get": {"operationId": "pets_get"}}}),
            "GET /pets/{pet-id} \\(pets.get\\) and GET /x \\(pets_get\\)",
        ),
    ],
)
def test_a_document_that_is_none_is_refused(document: Any, why: str) -> None:
    """And so are two operations of one name: which one would be called?"""
    with pytest.raises(ValueError, match=why):
        read_document(document, service="pets")


def test_only_what_is_wanted_is_served() -> None:
    """By the names of endpoints; one that is not there is an error."""
    found = read_document(PETS, service="pets", only=["photo"])
    assert [o.declaration.name for o in found.offers] == ["photo"]
    with pytest.raises(ValueError, match="no endpoint 'image'; it has get_pets, login"):
        read_document(PETS, service="pets", only=["image"])


def test_a_version_that_is_not_semantic_is_no_obstacle() -> None:
    """Many APIs have a date for a version."""
    document = pets(info={"title": "Pets", "version": "2024-01"})
    upstream = Upstream("http://h", OpenApi(document), name="pets")
    assert upstream.version == "0.1.0"


def test_a_stream_in_the_document_is_an_endpoint_that_streams() -> None:
    """An event stream gives items."""
    content = {"text/event-stream": {"schema": {"type": "integer"}}}
    ticks = _operation(operationId="ticks", responses={"200": {"content": content}})
    document = pets(paths={"/ticks": {"get": ticks}})
    found = read_document(document, service="pets", only=["ticks"])
    declared = found.offers[0].declaration
    assert declared.signature.stream == "out"
    assert declared.signature.response_schema() == {"type": "integer"}


async def test_a_document_is_found_in_a_file_or_at_a_url(
    remote: Remote, tmp_path: Path
) -> None:
    """JSON or YAML; the document names the server if nobody else does."""
    path = tmp_path / "pets.yaml"
    path.write_text(
        "openapi: 3.1.0\ninfo: {title: T, version: 1.0.0}\npaths: {/a: {get: {}}}"
    )
    made = await open_upstream("pets", [remote.url], UpstreamOptions(openapi=str(path)))
    assert list(made.remotes) == ["get_a"]
    assert await call(made, "get_a") == {"ok": True}
    await made.close()
    remote.says(PETS)
    url = UpstreamOptions(openapi=f"{remote.url}/openapi.json")
    made = await open_upstream("pets", [], url)
    assert len(made.remotes) == 6
    remote.says(b"", 404)
    with pytest.raises(ValueError, match="answered 404"):
        await open_upstream("pets", [], url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "it is no object"),
        ("a: [", "neither JSON nor YAML"),
        ("just text", "it is no object"),
    ],
)
async def test_a_file_that_is_no_document_is_refused(
    tmp_path: Path, text: str, why: str
) -> None:
    """With a sentence that names the file."""
    path = tmp_path / "spec"
    path.write_text(text)
    with pytest.raises(ValueError, match=why):
        await open_upstream("pets", [], UpstreamOptions(openapi=str(path)))


async def test_what_is_offered_is_said_in_one_way(
    remote: Remote, free_port: Callable[[], int]
) -> None:
    """A document or routes, not both and not neither; a file must be there."""
    with pytest.raises(ValueError, match="in one way"):
        await open_upstream("pets", [remote.url], UpstreamOptions())
    with pytest.raises(ValueError, match="cannot read /none"):
        await open_upstream("pets", [], UpstreamOptions(openapi="/none"))
    gone = UpstreamOptions(openapi=f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(Unavailable, match="cannot fetch"):
        await open_upstream("pets", [], gone)
    routes = UpstreamOptions(route=("get=GET /a/{id}",))
    made = await open_upstream("pets", [remote.url], routes)
    assert await call(made, "get", id="1") == {"ok": True}
    await made.close()


def test_no_document_breaks_the_reader(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever stands in place of a part, it is refused or read; nothing else is raised."""
    caplog.set_level("ERROR", "kitmsg_gateways.upstream")
    text = msgspec.json.encode(PETS).decode()
    wrong = 0
    for broken in ("null", "7", "[null]", "{}"):
        for path in list(_paths(PETS)):
            document = msgspec.json.decode(text)
            at = document
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = msgspec.json.decode(broken)
            try:
                read_document(document, service="pets")
            except ValueError:
                wrong += 1
    assert wrong


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if path:
        yield path
    pairs: Any = value.items() if isinstance(value, dict) else []
    if isinstance(value, list):
        pairs = enumerate(value)
    for key, item in pairs:
        yield from _paths(item, (*path, key))
