"""A .thrift of the user's own: found by name, checked field by field."""

from __future__ import annotations

import dataclasses
import enum
import struct
from typing import Any

import msgspec
import pytest

from kitmsg import Service, endpoint
from kitmsg.discovery.subject import EndpointInfo, Responder, ServiceInfo, ServiceReport
from kitmsg.errors import FailedPrecondition
from kitmsg_gateways.thrift.load import parse
from tests.gateways.thrift.messages import call, text
from tests.gateways.thrift.services import Greeter, Rude


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1
    color: Color | None = None


class Shop(Service):
    name = "shop"

    @endpoint(raises=[Rude])
    async def place_order(self, lines: list[Line], note: str = "") -> Line:
        if note == "rude":
            raise Rude("you", 1)
        return lines[0]

    @endpoint
    async def count(self, words: dict[str, int], data: bytes) -> int | None:
        return sum(words.values()) if words else None

    @endpoint
    async def whole(self, line: Line) -> list[int | None]:
        return [line.count, None]


OWN = """
enum Color { Red = 7, BLUE = 9 }
struct Line { 3: string sku, 1: i32 count, 2: Color color }
struct Count { 1: optional i64 value }
exception Rude { 1: string message, 5: string name, 6: i16 times }
service Shop {
  Line placeOrder(1: list<Line> lines, 2: string note) throws (1: Rude r)
  Count count(1: map<string, i64> words, 2: binary data)
  list<Count> whole(1: Line line)
}
"""


@pytest.mark.parametrize("protocol", ["binary", "compact"])
async def test_an_own_idl_is_served_by_names(hub, start, write, protocol):
    """Numbers, order, width and style of names are the IDL's."""
    await hub.serve(Shop())
    outside = await start(hub, thrift=(write(OWN),))
    client, module = await outside.client("Shop", OWN, protocol=protocol)
    line = module.Line(sku="tea", count=3, color=module.Color.BLUE)
    assert await client.placeOrder([line], None) == line
    assert await client.placeOrder([module.Line(sku="x")], "") == module.Line("x", 1)
    with pytest.raises(module.Rude) as caught:
        await client.placeOrder([line], "rude")
    assert (caught.value.name, caught.value.times) == ("you", 1)
    assert (await client.count({"a": 1, "b": 2}, b"\xff")).value == 3
    assert (await client.count({}, b"")).value is None
    assert [c.value for c in await client.whole(line)] == [3, None]


async def test_an_enum_number_that_does_not_exist_is_refused(hub, start, write):
    """The answer names the field."""
    await hub.serve(Shop())
    outside = await start(hub, thrift=(write(OWN),))
    line = text("x", 3) + struct.pack(">bhi", 8, 2, 1) + b"\0"
    args = struct.pack(">bhbi", 15, 1, 12, 1) + line + b"\0"
    answer = await outside.raw(call(b"placeOrder", 1, args))
    assert b"invalid_argument: shop.place_order: " in answer
    assert b"field 'color': 1 is no Color" in answer


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "2: string note",
            "2: i64 note",
            "field 'note': the service has str, the IDL i64",
        ),
        (
            "2: string note",
            "2: string nota",
            "args.nota: the service does not take it; it has",
        ),
        (
            "1: list<Line> lines, ",
            "",
            "args lacks the field 'lines', which the service needs",
        ),
        (
            "list<Line> lines",
            "list<string> lines",
            "field 'lines': the service has struct",
        ),
        ("list<Line> lines", "Line lines", "the service has list, the IDL Line"),
        ("3: string sku, ", "", "Line lacks the field 'sku', which the service needs"),
        (
            "BLUE = 9",
            "GREEN = 9",
            "Color.GREEN: the service does not take it",
        ),
        (", BLUE = 9", "", "Color lacks the value 'blue', which the service gives"),
        ("Count count", "i64 count", "the result may be null, for which Thrift needs"),
        ("list<Count> whole", "list<i64> whole", "items may be null, for which Thrift"),
        (
            "Rude { 1: string message, 5: string name",
            "Rude { 5: string nano",
            "Rude.nano: the service does not give it",
        ),
        ("exception Rude", "exception Cross", "Cross"),
        (
            "Line placeOrder",
            "string placeOrder",
            "the service has struct Line, the IDL string",
        ),
        ("whole(1", "holy(1", "shop has no endpoint 'holy'; did you mean 'whole'?"),
        ("map<string, i64>", "map<double, i64>", "keys of a map are texts on the bus"),
        (
            "binary data",
            "string data",
            "field 'data': the service has bytes, the IDL string",
        ),
    ],
)
async def test_what_does_not_fit_is_said_at_start(
    hub, start, write, old, new, sentence
):
    """With the service, the endpoint and the field."""
    await hub.serve(Shop())
    own = OWN.replace(old, new)
    if "Cross" in own:
        own = own.replace("1: Rude r", "1: Cross r")
    with pytest.raises(FailedPrecondition) as caught:
        await start(hub, thrift=(write(own),))
    assert sentence in str(caught.value)
    assert "shop" in str(caught.value)


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ("service", "is no Thrift IDL"),
        ("struct A {}", "has no service"),
        (
            "struct K {1: i64 a} service S { void f(1: map<K, i64> m) }",
            "f_args.m is a map",
        ),
    ],
)
async def test_an_idl_that_cannot_be_used_is_said(hub, start, write, own, sentence):
    """The file is named."""
    with pytest.raises(FailedPrecondition, match=sentence):
        await start(hub, thrift=(write(own),))
    with pytest.raises(FailedPrecondition, match="nowhere.thrift cannot be read"):
        await start(hub, thrift=("nowhere.thrift",))


async def test_a_service_that_is_not_there_yet_is_waited_for(hub, start, write, until):
    """Its methods are unavailable until it comes."""
    outside = await start(hub, thrift=(write(OWN, "shop.thrift"),))
    answer = await outside.raw(call(b"whole"))
    assert b"unavailable: there is no service 'shop' on the bus for Shop now" in answer
    await hub.serve(Shop())
    await until(lambda: b"whole" in outside.server.table.methods)


async def test_one_that_comes_and_does_not_fit_is_logged(
    hub, start, write, until, caplog
):
    """The gateway goes on; that method is not served."""
    own = OWN.replace("2: string note", "2: i64 note")
    outside = await start(hub, thrift=(write(own, "shop.thrift"),))
    await hub.serve(Shop())
    await until(lambda: b"whole" in outside.server.table.methods)
    assert b"placeOrder" not in outside.server.table.methods
    assert any("Shop.placeOrder is not served" in line for line in caplog.messages)


async def test_names_that_do_not_tell_are_mapped(hub, start, write):
    """A service and a method; by the option, or in the IDL itself."""
    await hub.serve(Greeter())
    own = write("service Welcome { string Greet(1: string name) }")
    outside = await start(
        hub, thrift=(own,), map=("Welcome=greeter", "Welcome.Greet=greeter.hello")
    )
    message = call(b"Welcome:Greet", 1, text("Ann") + b"\0")
    assert b"Hello, Ann!" in await outside.raw(message)
    noted = write(
        'service Welcome { string Greet(1: string who (kit.name = "name"))'
        ' (kit.name = "hello") } (kit.name = "greeter")'
    )
    outside = await start(hub, thrift=(noted,))
    assert b"Hello, Ann!" in await outside.raw(message)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("Shop", "write Shop=SERVICE"),
        ("Shopp=shop", "there is no 'Shopp' in the .thrift; did you mean 'Shop'"),
    ],
)
async def test_a_mapping_that_is_wrong_is_said(hub, start, write, given, sentence):
    """At once."""
    with pytest.raises((ValueError, FailedPrecondition), match=sentence):
        await start(hub, thrift=(write(OWN),), map=(given,))


async def test_an_include_is_found_in_the_folders_that_are_named(
    hub, start, write, tmp_path
):
    """Types of another file are types like any other."""
    folder = tmp_path / "types"
    folder.mkdir()
    (folder / "names.thrift").write_text("struct Name { 1: string name }")
    await hub.serve(Greeter())
    own = write(
        'include "names.thrift"\nservice Greeter { string hello(1: names.Name request) }'
    )
    outside = await start(hub, thrift=(own,), thrift_path=(str(folder),))
    args = struct.pack(">bh", 12, 1) + text("Ann") + b"\0\0"
    assert b"Hello, Ann!" in await outside.raw(call(b"hello", 1, args))


async def test_a_go_kit_endpoint_is_reached(hub, start, write):
    """Its bare JSON, and its errors, which have no codes."""

    class Upper(Service):
        name = "upper"

        @endpoint(wire="gokit")
        async def uppercase(self, s: str) -> str:
            if not s:
                raise Rude("empty", 0)
            return s.upper()

    await hub.serve(Upper())
    outside = await start(hub)
    answer = await outside.raw(call(b"uppercase", 1, text("abc") + b"\0"))
    assert answer == call(b"uppercase", 1, text("ABC", 0) + b"\0", kind=2)
    assert b"empty was rude" in await outside.raw(
        call(b"uppercase", 1, text("") + b"\0")
    )
    own = "struct R { 1: string v, 2: string err } service Upper { R Uppercase(1: string s) }"
    outside = await start(hub, thrift=(write(own),))
    client, module = await outside.client("Upper", own)
    assert await client.Uppercase("abc") == module.R("ABC", "")
    assert await client.Uppercase("") == module.R("", "empty was rude 0 times")


def announce(bus: Any, name: str, subject: str) -> None:
    """Announce a service as a plain micro service does, without schemas."""
    info = ServiceInfo(
        name=name,
        id="x1",
        version="1.0.0",
        endpoints=[EndpointInfo(name=subject.rpartition(".")[2], subject=subject)],
    )
    report = ServiceReport(
        name=name, id="x1", version="1.0.0", started="", endpoints=[]
    )
    Responder(bus, info, lambda: report).start()


async def test_a_foreign_service_is_reached_by_the_idl_alone(hub, start, write):
    """It says no types, so the IDL's count; values are JSON."""
    seen: list[Any] = []

    def answer(message: Any) -> None:
        seen.append(msgspec.json.decode(message.data))
        bus.respond(message, b'{"Total": 3, "kind": "BIG", "raw": "AAE=", "extra": 1}')

    bus = hub.bus
    bus.subscribe("math.add", answer)
    announce(bus, "math", "math.add")
    own = """
    enum Kind { SMALL = 1, BIG = 2 }
    struct Sum { 1: i64 total, 2: Kind kind, 3: binary raw, 4: string none }
    service Math { Sum add(1: list<i64> values, 2: Kind kind, 3: binary raw) }
    """
    outside = await start(hub, thrift=(write(own),))
    client, module = await outside.client("Math", own)
    found = await client.add([1, 2], module.Kind.SMALL, b"\0\1")
    assert found == module.Sum(3, module.Kind.BIG, b"\0\1", None)
    assert seen == [{"values": [1, 2], "kind": "SMALL", "raw": "AAE="}]


async def test_a_reply_that_does_not_fit_is_internal(hub, start, write, caplog):
    """What it held is in the log only."""
    bus = hub.bus
    bus.subscribe(
        "math.add", lambda message: bus.respond(message, b'{"total": "secret"}')
    )
    announce(bus, "math", "math.add")
    own = "struct Sum { 1: i64 total } service Math { Sum add() }"
    outside = await start(hub, thrift=(write(own),))
    answer = await outside.raw(call(b"add"))
    assert b"internal: math.add answered what does not fit its types" in answer
    assert b"secret" not in answer


def test_types_are_read_once_and_may_hold_themselves():
    """Parents' methods are there, defaults and requirements too."""
    idl = parse(
        """
        struct Node { 1: required i64 value = 5, 2: optional Node rest }
        service Base { void ping() }
        service Tree extends Base { Node get(1: Node root) }
        """,
        "tree",
    )
    tree = idl.services["Tree"]
    assert sorted(tree.methods) == ["get", "ping"]
    node: Any = tree.methods["get"].success
    assert node["rest"].type is node
    assert (node["value"].is_required, node["value"].default) == (True, 5)
