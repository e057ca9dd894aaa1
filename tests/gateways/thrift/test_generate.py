"""IDL from schemas: the same text for the same services, numbers from the lock."""

from __future__ import annotations

import dataclasses
import enum
import subprocess
from collections.abc import AsyncIterator  # noqa: TC003  # read at run time
from typing import Any

import msgspec
import pytest

from kitmsg import BusinessError, Service, endpoint
from kitmsg.errors import FailedPrecondition
from kitmsg.idl.lock import BreakingChange, Lock
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.thrift.generate import generate, left_out
from kitmsg_gateways.thrift.load import parse
from tests.require import need


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Level(enum.IntEnum):
    LOW = -1
    HIGH = 10


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    name: str


class Node(msgspec.Struct):
    """A node of a tree."""

    value: int
    left: Node | None = None
    children: list[Node] = []


class Gone(BusinessError):
    """It is gone."""

    what: str


@dataclasses.dataclass
class Everything:
    color: Color
    level: Level
    pair: tuple[int, str]
    counts: dict[str, int]
    pet: Cat | Dog
    either: int | str | None
    holes: list[int | None]
    end: bytes = b""
    three: int | None = 5
    anything: Any = None


class Zoo(Service):
    """Keeps animals."""

    name = "zoo"

    @endpoint(raises=[Gone])
    async def show(self, everything: Everything, node: Node) -> Everything | None:
        """Show it."""
        raise NotImplementedError

    @endpoint
    async def double(self) -> None:
        raise NotImplementedError

    @endpoint
    async def watch(self) -> AsyncIterator[int]:
        yield 1


EXPECTED = """\
// Made by kitmsg from the schemas of the services.

enum Color {
  RED = 1 (kit.name = "red"),
  DARK_BLUE = 2 (kit.name = "dark blue"),
}

enum Level {
  LOW = -1 (kit.name = "-1"),
  HIGH = 10 (kit.name = "10"),
}

struct EverythingPair {
  1: i64 item_1
  2: string item_2
}

struct Cat {
  1: optional i64 lives
}

struct Dog {
  1: string name
}

union EverythingPet {
  1: Cat cat
  2: Dog dog
}

union EverythingEither {
  1: i64 int
  2: string str
}

struct OptionalI64 {
  1: optional i64 value
} (kit.optional = "true")

struct Everything {
  1: Color color
  2: Level level
  3: EverythingPair pair
  4: map<string, i64> counts
  5: EverythingPet pet
  6: optional EverythingEither either (kit.null = "true")
  7: list<OptionalI64> holes
  8: optional binary end_ (kit.name = "end")
  9: optional OptionalI64 three
  10: optional string anything
}

/** A node of a tree. */
struct Node {
  1: i64 value
  2: optional Node left
  3: optional list<Node> children
}

struct OptionalEverything {
  1: optional Everything value
} (kit.optional = "true")

/** It is gone. */
exception Gone {
  1: string what
  2: string message
}

/** Keeps animals. */
service Zoo {
  void double_() (kit.name = "double")
  /** Show it. */
  OptionalEverything show(1: Everything everything, 2: Node node) throws (1: Gone gone)
  // zoo.watch is a stream, which has no form in Thrift
} (kit.name = "zoo")
"""


async def test_the_text_is_as_expected(hub, start):
    """Every kind of type, in its one form."""
    await hub.serve(Zoo())
    outside = await start(hub)
    assert without_doc(outside.idl()) == without_doc(EXPECTED)
    assert outside.idl() == outside.idl()


def without_doc(text: str) -> list[str]:
    """Return lines without those that describe the service, which a catalog lacks."""
    return [line for line in text.splitlines() if line != "/** Keeps animals. */"]


async def test_the_apache_compiler_takes_it(hub, start, tmp_path):
    """For several languages, strictly."""
    await hub.serve(Zoo())
    outside = await start(hub)
    (tmp_path / "zoo.thrift").write_text(outside.idl())
    for language in ("py", "cpp", "java", "go", "js"):
        done = subprocess.run(
            [need("thrift"), "-strict", "--gen", language, "zoo.thrift"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def simple(**properties: str) -> Any:
    """Return the shapes of a service whose endpoint takes some fields."""
    request = {
        "title": "Ask",
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in properties.items()},
        "required": list(properties),
    }
    return shape_service("svc", [Description("ask", {"request": request})])


def test_numbers_stay_when_fields_come_and_go():
    """A new one gets a number that nobody had."""
    lock = Lock()
    assert "ask(1: i64 a, 2: string b)" in generate(
        [simple(a="integer", b="string")], lock
    )
    assert "ask(2: string b, 3: boo" not in generate([simple(b="string")], lock)
    text = generate([simple(c="boolean", b="string")], lock)
    assert "ask(3: bool c, 2: string b)" in text
    assert "ask(1: i64 a)" in generate([simple(a="integer")], lock)


@pytest.mark.parametrize(
    "change", [simple(a="string"), simple(a="number")], ids=["string", "number"]
)
def test_a_change_of_type_is_refused(change):
    """The message names the field."""
    lock = Lock()
    generate([simple(a="integer")], lock)
    with pytest.raises(BreakingChange, match=r"svc\.AskRequest\.a was 'i64'"):
        generate([change], lock)


async def test_a_change_of_the_result_is_refused():
    """Clients would misread it too."""
    lock = Lock()
    request = {"title": "Q", "type": "object", "properties": {}}

    def answering(kind: str) -> Any:
        schema = {"request": request, "response": {"type": kind}}
        return shape_service("svc", [Description("ask", schema)])

    generate([answering("integer")], lock)
    with pytest.raises(BreakingChange, match="success was 'i64' and is now 'string'"):
        generate([answering("string")], lock)


async def test_a_gateway_uses_the_lock(hub, start, tmp_path):
    """As exported, so clients made before go on."""

    class Svc(Service):
        name = "svc"

        @endpoint
        async def ask(self, b: str) -> str:
            return b

    await hub.serve(Svc())
    (tmp_path / "lock").write_text(
        '[svc.AskRequest]\na = "1 i64, removed"\nb = "7 string"\n'
    )
    outside = await start(hub, lock=str(tmp_path / "lock"))
    served = outside.server.table.methods[b"ask"]
    assert served.binding.method.args["b"].id == 7
    (tmp_path / "lock").write_text("[")
    with pytest.raises(FailedPrecondition, match="the lock .* cannot be used"):
        await start(hub, lock=str(tmp_path / "lock"))


def test_types_of_two_services_do_not_meet():
    """Where names are the same, the service's stands in front."""
    texts = [simple(a="integer")]
    other = shape_service(
        "other",
        [
            Description(
                "ask",
                {
                    "request": {"title": "Q", "type": "object", "properties": {}},
                    "response": {
                        "title": "Reply",
                        "type": "object",
                        "properties": {"x": {"type": "integer"}},
                    },
                },
            )
        ],
    )
    again = dataclasses.replace(other, service="third", name="Third")
    text = generate([other, again, *texts])
    assert "OtherAskResult ask()" in text
    assert "ThirdAskResult ask()" in text
    assert list(parse(text, "all").services) == ["Other", "Svc", "Third"]


async def test_structs_around_nothing_are_each_service_s_own(hub, start):
    """Two services whose results may be null do not define one struct twice."""

    class One(Service):
        name = "one"

        @endpoint
        async def find(self) -> int | None:
            return None

    class Two(Service):
        name = "two"

        @endpoint
        async def look(self) -> int | None:
            return None

    await hub.serve(One())
    await hub.serve(Two())
    outside = await start(hub)
    text = outside.idl()
    assert "struct OneOptionalI64" in text
    assert "struct TwoOptionalI64" in text


def test_names_that_thrift_does_not_allow_are_changed_and_noted():
    """And found again by their annotation."""
    properties = {
        "class": "string",
        "two words": "string",
        "ä": "string",
        "1st": "string",
    }
    text = generate([simple(**properties)])
    (service,) = parse(text, "svc")
    assert [field.key for field in service.methods["ask"].args.fields] == [*properties]


def test_any_name_can_be_written():
    """What has no place in a literal is escaped."""
    properties = {'a"b': "string", "": "string", "%": "string", "\n\\": "string"}
    (service,) = parse(generate([simple(**properties)]), "svc")
    fields = service.methods["ask"].args.fields
    assert [field.key for field in fields] == [*properties]


def test_what_is_left_out_is_told():
    """With the reason."""
    assert left_out(shape_service("svc", [Description("ask", None)])) == {
        "ask": "svc.ask: it does not tell its types"
    }


@pytest.mark.parametrize(
    "words",
    ["*/ x", "a * / b", "2*x/y", "**/", "***a/b//", "/* / *", "/", 'a "q" <b> #'],
)
def test_a_description_is_a_comment(words: str) -> None:
    """Whatever stands in it."""
    ask = Description("ask", {"request": {"type": "object"}}, description=words)
    text = generate([shape_service("svc", [ask], doc=words)], Lock())
    assert parse(text, "svc").services
