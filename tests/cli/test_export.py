"""export writes services as files for other languages, from code and from the bus."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from kitmsg.idl.lock import Lock
from tests.asyncapi import check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran

ONE = """\
from kitmsg import Service, endpoint

class Greeter(Service):
    \"\"\"Says hello.\"\"\"

    @endpoint
    async def hello(self, name: {type}) -> str:
        return str(name)
"""
TWO = """
class Counter(Service):
    @endpoint
    async def count(self, words: list[str]) -> dict[str, int]:
        return {}

def make() -> Counter:
    raise RuntimeError("not needed for this")

def build():
    return Counter()

def need(what):
    return Counter()
"""
KINDS = ("proto", "thrift")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, whose modules no other test has seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def source(here: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Write a module; gives its name, which is new each time."""
    count = 0

    def write(type_: str = "str", more: str = "") -> str:
        nonlocal count
        count += 1
        name = f"m{abs(hash(request.node.nodeid))}_{count}"
        (here / f"{name}.py").write_text(ONE.format(type=type_) + more)
        return f"{name}.py"

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_is_printed(
    kind: str, cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """Without --out the file goes to standard output, and nothing is written."""
    ran = cli("export", kind, source())
    assert ran.code == 0
    assert "service Greeter {" in ran.out
    assert "Says hello." in ran.out
    assert not list(here.glob("*lock"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_and_its_lock_are_written(
    kind: str, cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """With --out the lock is written beside; after that nothing changes."""
    target = source()
    ran = cli("export", kind, target, "--out", f"out/x.{kind}")
    assert (ran.code, ran.out) == (0, "")
    lock = here / f"kitmsg.{kind}.lock"
    assert 'name = "1 string"' in lock.read_text()
    before = (here / f"out/x.{kind}").read_bytes(), lock.read_bytes()
    assert cli("export", kind, target, "--out", f"out/x.{kind}", "--check").code == 0
    assert cli("export", kind, target, "--out", f"out/x.{kind}").code == 0
    assert ((here / f"out/x.{kind}").read_bytes(), lock.read_bytes()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_check_tells_what_would_change(
    kind: str, cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """--check writes nothing, shows the change and exits with 1."""
    cli("export", kind, source(), "--out", "out/")
    ran = cli("export", kind, source("str, title: str"), "--out", "out/", "--check")
    assert ran.code == 1
    assert '+title = "2 string"' in ran.out
    assert f"out of date: out/{file_of(kind)}, kitmsg.{kind}.lock" in ran.err
    assert "title" not in (here / f"kitmsg.{kind}.lock").read_text()


def file_of(kind: str) -> str:
    return "greeter.proto" if kind == "proto" else "services.thrift"


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_that_breaks_clients_is_refused(
    kind: str, cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """A type that changes is one sentence and code 2; files stay as they were."""
    cli("export", kind, source(), "--out", "out/")
    before = (here / f"kitmsg.{kind}.lock").read_bytes()
    ran = cli("export", kind, source("int"), "--out", "out/")
    assert ran.code == 2
    assert "name was 'string' and is now 'i" in ran.err
    assert f"delete its line in kitmsg.{kind}.lock" in ran.err
    assert (here / f"kitmsg.{kind}.lock").read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_may_be_anywhere(
    kind: str, cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """--lock names the file, which is read before and written after."""
    (here / "my.lock").write_text('[greeter.gone]\nx = "1 string"\n')
    ran = cli("export", kind, source(), "--lock", "my.lock")
    assert ran.code == 0
    assert "service Greeter" in ran.out
    written = (here / "my.lock").read_text()
    assert Lock.parse(written).dump() == written
    assert "[greeter.gone]" in written


def test_two_services_need_a_folder(
    cli: Callable[..., Ran], source: Callable[..., str], here: Path
) -> None:
    """A .proto file has one package, so each service has a file of its own."""
    target = source(more=TWO)
    ran = cli("export", "proto", target, "--out", "all.proto")
    assert ran.code == 2
    assert "2 files to write, counter.proto, greeter.proto; give a folder" in ran.err
    assert cli("export", "proto", target, "--out", "protos").code == 0
    assert sorted(path.name for path in (here / "protos").iterdir()) == [
        "counter.proto",
        "greeter.proto",
    ]
    out = cli("export", "proto", target).out
    assert out.index("// counter.proto") < out.index("// greeter.proto")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 2, "kitmsg export needs asyncapi, proto or thrift; see"),
        (["soap"], 2, "takes asyncapi, proto or thrift, not 'soap'"),
        (["proto"], 2, "nothing to export: name a target such as greeter:Greeter"),
        (["proto", "nowhere.py"], 2, "there is no file 'nowhere.py'"),
        (["proto", "{}:Greter"], 2, "did you mean 'Greeter'?"),
        (["proto", "{}:Greeter", "{}:Greeter", "--out", "a.proto/b/"], 0, "wrote"),
        (["proto", "{}", "--lock", "."], 2, "'.'"),
        (["proto", "{}", "--lock", "bad.lock"], 2, "bad.lock cannot be read"),
        (["proto", "{}", "--out", "bad.lock/"], 2, "cannot be written"),
        (["proto", "{}:need"], 2, "annotate its result, or name the class"),
        (["proto", "{}:build"], 0, ""),
        (["proto", "{}:make"], 0, ""),
        (["proto", "--bus"], 3, "no NATS server"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    words: list[str],
    code: int,
    sentence: str,
    cli: Callable[..., Ran],
    source: Callable[..., str],
    here: Path,
) -> None:
    """Targets, paths and locks that do not fit say so; functions need not be called."""
    (here / "bad.lock").write_text("[")
    target = source(more=TWO)
    ran = cli("export", *(word.format(target) for word in words))
    assert ran.code == code, ran.err
    assert sentence in ran.err
    assert "Traceback" not in ran.err


def test_a_type_without_a_form_is_refused(
    cli: Callable[..., Ran], source: Callable[..., str]
) -> None:
    """What protobuf cannot say is told with endpoint and field."""
    more = """
from typing import Literal

class Odd(Service):
    @endpoint
    async def odd(self, x: Literal["a", 1] | list[int]) -> None: ...
"""
    ran = cli("export", "proto", source(more=more))
    assert ran.code == 2
    assert "odd.odd: the request, field 'x': one of its options is an enum" in ran.err


def test_services_on_the_bus_are_exported(
    cli: Callable[..., Ran], shop: str, here: Path
) -> None:
    """--bus takes what is served now; names choose some of it."""
    ran = cli("export", "proto", "--bus", "shop", "--out", "out/", nats_url=shop)
    assert ran.code == 0, ran.err
    text = (here / "out/shop.proto").read_text()
    assert "service Shop {\n" in text
    assert "  rpc Buy(BuyRequest) returns (BuyResponse);\n" in text
    assert "message SoldOut {" in text


def test_a_service_that_is_not_on_the_bus_is_named(
    cli: Callable[..., Ran], shop: str, here: Path
) -> None:
    """A name that is not there is told with the nearest that is."""
    ran = cli("export", "proto", "--bus", "shoop", nats_url=shop)
    assert ran.code == 3
    assert "there is no service 'shoop' on the bus; did you mean 'shop'?" in ran.err


def test_an_export_without_its_packages_names_the_extra(
    cli: Callable[..., Ran],
    source: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What has to be installed is in the sentence."""
    monkeypatch.setitem(sys.modules, "kitmsg_gateways.grpc.generate", None)
    ran = cli("export", "proto", source())
    assert ran.code == 2
    assert "pip install 'kitmsg[grpc]'" in ran.err


EVENTS = """
from kitmsg import Event, Service, endpoint, subscribe

class Placed(Event, subject="orders.placed.{{order_id}}"):
    order_id: {type}

class Orders(Service):
    name = "{name}"
    publishes = (Placed,)

    @endpoint
    async def place(self, order_id: str) -> None: ...

class Mail{name}(Service):
    name = "mail_{name}"

    @subscribe(Placed, stored=False)
    async def thank(self, event: Placed) -> None: ...
"""


@pytest.fixture
def events(here: Path, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Write a module with events; gives its name, which is new each time."""
    count = 0

    def write(type_: str = "str", service: str = "orders") -> str:
        nonlocal count
        count += 1
        name = f"e{abs(hash(request.node.nodeid))}_{count}"
        (here / f"{name}.py").write_text(EVENTS.format(type=type_, name=service))
        return f"{name}.py"

    return write


def test_events_are_exported_as_asyncapi(
    cli: Callable[..., Ran], events: Callable[..., str], here: Path
) -> None:
    """Valid, with both sides; there are no numbers to lock."""
    ran = cli("export", "asyncapi", events())
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    check(found)
    assert sorted(found["operations"]) == [
        "mail_orders.subscribes.orders.placed",
        "orders.publishes.orders.placed",
    ]
    assert not list(here.glob("*lock"))


def test_an_asyncapi_file_is_written_and_checked(
    cli: Callable[..., Ran], events: Callable[..., str], here: Path
) -> None:
    """In CI, --check tells what changed in an event."""
    assert cli("export", "asyncapi", events(), "--out", "api.json").code == 0
    check(json.loads((here / "api.json").read_text()))
    assert cli("export", "asyncapi", events(), "--out", "api.json", "--check").code == 0
    ran = cli("export", "asyncapi", events("int"), "--out", "api.json", "--check")
    assert ran.code == 1
    assert '+            "type": "integer"' in ran.out
    assert "out of date: api.json" in ran.err


def test_what_is_wrong_with_events_is_one_sentence(
    cli: Callable[..., Ran], events: Callable[..., str], source: Callable[..., str]
) -> None:
    """No events, none named, two that differ, nothing to compare with."""
    ran = cli("export", "asyncapi", source())
    assert (ran.code, ran.out) == (2, "")
    assert "no service has events" in ran.err
    assert "kitmsg export asyncapi shop.py" in cli("export", "asyncapi").err
    ran = cli("export", "asyncapi", events(), events("int", "others"))
    assert ran.code == 2
    assert "the event 'orders.placed' version 1 different schemas" in ran.err
    assert "--out" in cli("export", "asyncapi", events(), "--check").err


def test_events_on_the_bus_are_exported(cli: Callable[..., Ran], tales: str) -> None:
    """--bus takes those that are announced now; a name chooses the events of a service."""
    ran = cli("export", "asyncapi", "--bus", "reader", nats_url=tales)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    check(found)
    assert sorted(found["operations"]) == [
        "reader.subscribes.tales.told",
        "writer.publishes.tales.told",
    ]
    assert cli("export", "asyncapi", "--bus", nats_url=tales).code == 0
    ran = cli("export", "asyncapi", "--bus", "reeder", nats_url=tales)
    assert ran.code == 3
    assert "did you mean 'reader'?" in ran.err
