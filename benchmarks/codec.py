"""Writing and reading messages: kitmsg's coders beside msgspec's own, json and pydantic.

kitmsg's are made from a signature and check what they read: types, ranges, unknown and
missing fields.  ``json`` checks nothing; pydantic and msgspec check types.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
from dataclasses import dataclass
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from benchmarks import table
from kitmsg.codec import JSON, MSGPACK
from kitmsg.schema import signature

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["measure", "report"]

_SHARE: Final = 10


class Pair(msgspec.Struct):
    """A small message."""

    a: int
    b: int


class Line(msgspec.Struct):
    """A line of an order."""

    sku: str
    quantity: int
    price: float


class Order(msgspec.Struct):
    """A medium message: some 800 bytes of JSON."""

    id: str
    customer: str
    placed: datetime.datetime
    lines: list[Line]
    notes: dict[str, str]
    total: float | None = None


async def add(a: int, b: int) -> int:
    """Take a small message."""
    return a + b


async def place(order: Order) -> Order:
    """Take and give a medium message."""
    return order


_ORDER: Final = Order(
    "0d1c2b3a-4958-6776-8594-a3b2c1d0e0f0",
    "Ann Example",
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
    [Line(f"sku-{n:04}", n, 9.5 * n) for n in range(1, 13)],
    {"gift": "yes", "message": "Happy birthday!"},
    741.0,
)


class Way(NamedTuple):
    """One way to write and read one message.

    Attributes:
        name: Of the library and the format.
        write: Makes bytes of `value`.
        read: Makes a value of what `write` made.
        value: What is written.
    """

    name: str
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    value: Any


def _ways(method: Callable[..., Any], value: Any, type_: type) -> list[Way]:
    made = signature(method)
    request = made.bind(1, 2) if type_ is Pair else made.bind(value)
    plain = msgspec.to_builtins(value)
    found = [
        Way(
            f"kitmsg {codec.name}",
            made.request_encoder(codec),
            made.request_decoder(codec),
            request,
        )
        for codec in (JSON, MSGPACK)
    ]
    found += [
        Way(
            "msgspec json",
            msgspec.json.Encoder().encode,
            msgspec.json.Decoder(type_).decode,
            value,
        ),
        Way(
            "msgspec msgpack",
            msgspec.msgpack.Encoder().encode,
            msgspec.msgpack.Decoder(type_).decode,
            value,
        ),
        Way("json, unchecked", lambda v: json.dumps(v).encode(), json.loads, plain),
    ]
    if importlib.util.find_spec("pydantic"):
        found.append(_pydantic(type_, plain))
    return found


def _pydantic(type_: type, plain: Any) -> Way:
    import pydantic

    def model(struct: type) -> type[Any]:
        fields: dict[str, Any] = {
            field.name: (_modelled(field.type), field.default)
            if not field.required
            else (_modelled(field.type), ...)
            for field in msgspec.structs.fields(struct)
        }
        made: type[Any] = pydantic.create_model(struct.__name__, **fields)
        return made

    def _modelled(kind: Any) -> Any:
        return list[model(Line)] if kind == list[Line] else kind  # type: ignore[misc]

    made = model(type_)
    return Way(
        "pydantic json",
        lambda value: value.model_dump_json().encode(),
        made.model_validate_json,
        made.model_validate(plain),
    )


@dataclass
class _Times:
    way: Way
    message: str
    writes: list[float]
    reads: list[float]


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return nanoseconds per message for each way, message and direction."""
    times = [
        _Times(way, message, [], [])
        for message, ways in (
            ("small", _ways(add, Pair(1, 2), Pair)),
            ("medium", _ways(place, _ORDER, Order)),
        )
        for way in ways
    ]
    number = max(1, options.calls // _SHARE)
    for _ in range(options.rounds):
        for each in times:
            data = each.way.write(each.way.value)
            each.writes.append(_nanoseconds(each.way.write, each.way.value, number))
            each.reads.append(_nanoseconds(each.way.read, data, number))
    ours = {each.message: each for each in reversed(times)}  # the first way of each
    return [
        {
            "message": each.message,
            "way": each.way.name,
            "bytes": len(each.way.write(each.way.value)),
            "write_ns": median(each.writes),
            "read_ns": median(each.reads),
            "write_ratio": table.ratio(each.writes, ours[each.message].writes),
            "read_ratio": table.ratio(each.reads, ours[each.message].reads),
        }
        for each in times
    ]


def _nanoseconds(function: Callable[[Any], Any], value: Any, number: int) -> float:
    timer = Timer("function(value)", globals={"function": function, "value": value})
    return timer.timeit(number) / number * 1e9


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found."""
    head = ("codec", "message", "bytes", "write ns", "read ns", "write x", "read x")
    lines = [
        (
            *(row["way"], row["message"], row["bytes"]),
            *(f"{row['write_ns']:,.0f}", f"{row['read_ns']:,.0f}"),
            *(row["write_ratio"], row["read_ratio"]),
        )
        for row in rows
    ]
    return (
        f"{table.draw(head, lines)}\n\nx: how many times kitmsg json's time; less is"
        " faster.\n"
    )
