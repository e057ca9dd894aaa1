"""A result that does not fit its annotation is the service's fault, and is told there."""
# the services here are props

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
import pytest
from msgspec import Meta, Struct
from pydantic import BaseModel, Field, computed_field, field_serializer

from kitmsg import Context, Kit, Service, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import Internal
from kitmsg.schema import signature

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)


class User(Struct):
    id: int
    tags: list[str] = []


@dataclass
class Point:
    x: Annotated[int, Meta(ge=0)]


class Model(BaseModel):
    id: int


def giving(annotation: Any) -> Any:
    """Return the signature of a function that gives this type."""

    async def f() -> Any: ...

    f.__annotations__ = {"return": annotation}
    return signature(f)


@BOTH
@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (int, "a", r"expected int, got str"),
        (int, True, r"expected int, got bool"),
        (str, None, r"expected str, got null"),
        (str | None, 3, r"got int"),
        (None, 3, r"expected null, got int"),
        (bool, 1, r"expected bool, got int"),
        (Annotated[int, Meta(ge=1)], 0, r"expected int >= 1"),
        (Annotated[int, Field(ge=1)], 0, r"expected int >= 1"),
        (User, User(cast("Any", "a")), r"field 'id': expected int, got str"),
        (User, User(1, [cast("Any", 2)]), r"field 'tags\[0\]': expected str"),
        (list[User], [User(1), User(cast("Any", None))], r"field '\[1\].id'"),
        (dict[str, User], {"a": {"tags": []}}, r"field '\[...\].id' is missing"),
        (Point, Point(-1), r"field 'x': expected int >= 0"),
        (tuple[int, str], (1, 2), r"field '\[1\]': expected str"),
        (Model, Model.model_construct(id=cast("Any", "a")), r"field 'id'"),
        (Model, {"id": "a"}, r"field 'id'"),
        (list[Model], [Model.model_construct(id=cast("Any", "a"))], r"'\[0\].id'"),
        (User | None, {"id": None}, r"field 'id'"),
    ],
)
def test_a_result_that_does_not_fit_is_not_encoded(
    annotation: Any, value: Any, problem: str, codec: Codec
) -> None:
    """The error names the field."""
    encode = giving(annotation).response_encoder(codec)
    with pytest.raises(ValueError, match=rf"the result does not fit .*: .*{problem}"):
        encode(value)


@BOTH
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 3),
        (float, 3),
        (str | None, None),
        (list[int], (1, 2)),
        (User, User(1, ["a"])),
        (User, {"id": 1}),
        (Model, Model(id=1)),
        (Model, {"id": 1}),
        (list[Model], [Model(id=1)]),
        (dict[int, Point], {1: Point(0)}),
        (Any, User(1)),
        (dict, {"a": dt.datetime(2024, 1, 1, tzinfo=dt.UTC)}),
    ],
)
def test_a_result_that_fits_is_what_a_caller_reads(
    annotation: Any, value: Any, codec: Codec
) -> None:
    """In any of its Python forms."""
    read = giving(annotation)
    assert codec.decoder(annotation)(read.response_encoder(codec)(value)) is not msgspec


class Wrong(Service):
    """Gives what it did not announce."""

    @endpoint
    async def user(self) -> User:
        return User(cast("Any", "seven"))

    @endpoint
    async def each(self) -> AsyncIterator[User]:
        yield User(1)
        yield User(cast("Any", "seven"))

    @endpoint(wire="gokit")
    async def plain(self) -> int:
        return cast("Any", "seven")  # type: ignore[no-any-return]


@BOTH
async def test_it_is_internal_with_the_field_in_the_log(
    kit: Kit, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns no details; the stream ends with the item that misfits."""
    await kit.serve(Wrong())
    client = kit.client(Wrong, codec=codec)
    with pytest.raises(Internal) as caught:
        await client.user()
    assert "seven" not in str(caught.value)
    assert "field 'id'" not in str(caught.value)
    assert "field 'id': expected int, got str" in caplog.text
    caplog.clear()
    with pytest.raises(Internal):
        assert [item async for item in client.each()] == [User(1)]
    assert "field 'id': expected int, got str" in caplog.text


class Account(BaseModel):
    """Read and written in two forms."""

    number: int = Field(validation_alias="no", serialization_alias="accountNumber")
    secret: str = Field(default="none", exclude=True)
    opened: dt.date = dt.date(2020, 1, 1)
    when: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"#{self.number}"

    @field_serializer("opened")
    def written(self, value: dt.date) -> int:
        return value.year

    @field_serializer("when")
    def as_text(self, value: dt.datetime) -> str:
        return value.isoformat()


class Ledger(BaseModel):
    """Holds them in every way."""

    one: Account
    many: list[Account] = []
    named: dict[str, Account] = {}
    maybe: Account | None = None
    either: Account | Model | int = 3
    pair: tuple[int, Account] | None = None


class Bank(Service):
    """A prop."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    @endpoint
    async def open(self, account: Account) -> Account:
        self.seen.append(account)
        return account

    @endpoint
    async def all(self, accounts: list[Account]) -> list[Account]:
        self.seen += accounts
        return accounts

    @endpoint
    async def keep(self, ctx: Context, ledger: Ledger) -> Ledger:
        self.seen.append(ledger)
        return ledger


PLAIN = {"accountNumber": 7, "opened": 2024, "label": "#7"}


def given() -> Account:
    return Account(no=7, secret="s", opened=dt.date(2024, 5, 6))  # type: ignore[call-arg]


def check(read: Account) -> None:
    """Assert that an account is as a caller can know it."""
    assert (read.number, read.label, read.secret) == (7, "#7", "none")
    assert read.when == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert read.opened == cast("Any", 2024)  # what its own serializer made of it


@BOTH
async def test_a_model_with_two_forms_crosses_both_ways(kit: Kit, codec: Codec) -> None:
    """The service gets all that its validation takes, the caller what is serialized."""
    bank = Bank()
    await kit.serve(bank)
    client = kit.client(Bank, codec=codec)
    check(await client.open(given()))
    check((await client.all([given()]))[0])
    assert bank.seen == [given(), given()]
    plain = await kit.call("bank.open", no=7, opened="2024-05-06")
    assert {**PLAIN, "when": plain["when"]} == plain


@BOTH
async def test_models_in_models_cross_both_ways(kit: Kit, codec: Codec) -> None:
    """In lists, dicts, tuples, optionals and unions."""
    bank = Bank()
    await kit.serve(bank)
    ledger = Ledger(
        one=given(),
        many=[given()],
        named={"a": given()},
        maybe=given(),
        either=Model(id=3),
        pair=(1, given()),
    )
    read = await kit.client(Bank, codec=codec).keep(ledger)
    assert bank.seen == [ledger]
    assert read.maybe is not None
    assert read.pair is not None
    for account in (read.one, read.many[0], read.named["a"], read.maybe, read.pair[1]):
        check(account)
    assert read.either == Model(id=3)


def test_a_serialized_model_that_does_not_fit_is_named() -> None:
    """Down to the field."""
    from kitmsg.errors import DataLoss

    decode = giving(Ledger).response_decoder(JSON)
    with pytest.raises(DataLoss, match=r"field 'many\[0\].accountNumber' is missing"):
        decode(b'{"one":{"accountNumber":1},"many":[{"label":"x"}]}')
    with pytest.raises(DataLoss, match=r"field 'one.accountNumber'"):
        decode(b'{"one":{"accountNumber":"x"}}')
