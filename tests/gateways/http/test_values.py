"""One value, every place of an HTTP request: path, query and body, and back."""
# the services here are props

from __future__ import annotations

import datetime as dt  # noqa: TC003  found in annotations
import enum
from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel, Field, computed_field

from kitmsg import Kit, Service, endpoint
from kitmsg.codec import JSON

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from tests.gateways.http.conftest import Outside

    Begin: TypeAlias = Callable[..., Awaitable[Outside]]


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    HIGH = 30
    LOW = 10


class Account(BaseModel):
    number: int = Field(validation_alias="no", serialization_alias="accountNumber")
    secret: str = Field(default="none", exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"#{self.number}"


class Values(Service):
    """Gives back what it takes."""

    @endpoint(http="GET /rights")
    async def rights(self, given: Rights) -> Rights:
        return given

    @endpoint(http="GET /level")
    async def level(self, given: Level) -> Level:
        return given

    @endpoint(http="GET /when")
    async def when(self, given: dt.datetime) -> dt.datetime:
        return given

    @endpoint(http="GET /count")
    async def count(self, given: int) -> int:
        return given

    @endpoint
    async def keys(self, given: dict[Level, int]) -> dict[Level, int]:
        return given

    @endpoint
    async def account(self, given: list[Account]) -> list[Account]:
        return given


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("rights", "3", 3),
        ("rights", "0", 0),
        ("level", "30", 30),
        ("when", "2024-01-01T00:00:00+02:00", "2024-01-01T00:00:00+02:00"),
        ("when", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("when", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59-12:00"),
        ("when", "2024-01-01T00:00:00", "2024-01-01T00:00:00"),
    ],
)
async def test_a_value_is_the_same_in_query_and_body(
    hub: Kit, start: Begin, name: str, text: str, value: object
) -> None:
    """Flags, enums and offsets."""
    await hub.serve(Values())
    outside = await start(hub)
    _, body = await outside("GET", f"/{name}", params={"given": text})
    assert body == value
    _, body = await outside("POST", f"/values/{name}", json={"given": value})
    assert body == value


async def test_what_only_a_body_holds(hub: Kit, start: Begin) -> None:
    """Keys of a dict, models in two forms, and whole numbers that are written as floats."""
    await hub.serve(Values())
    outside = await start(hub)
    _, body = await outside("POST", "/values/keys", json={"given": {"30": 1}})
    assert body == {"30": 1}
    given = {"given": [{"no": 7, "secret": "s"}]}
    _, body = await outside("POST", "/values/account", json=given)
    assert body == [{"accountNumber": 7, "label": "#7"}]
    whole = {
        "data": b'{"given":19209.0}',
        "headers": {"Content-Type": JSON.content_type},
    }
    _, body = await outside("POST", "/values/count", **whole)
    assert body == 19209


async def test_the_document_names_both_forms(hub: Kit, start: Begin) -> None:
    """Of a model, by its own name; flags are integers."""
    await hub.serve(Values())
    outside = await start(hub)
    _, document = await outside("GET", "/openapi.json")
    schemas = document["components"]["schemas"]
    assert {"Level", "Rights"} <= set(schemas)
    assert schemas["Rights"]["type"] == "integer"
    fields = [set(s["properties"]) for n, s in schemas.items() if "Account" in n]
    assert {"no", "secret"} in fields
    assert {"accountNumber", "label"} in fields
