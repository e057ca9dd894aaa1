"""Gateways, upstreams and exporters of other packages are commands like our own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest

from kitmsg.worker.plugins import EXPORTERS, GATEWAYS, UPSTREAMS
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kitmsg_gateways.grpc.export
    import kitmsg_gateways.grpc.upstream
    import kitmsg_gateways.http.upstream
    import kitmsg_gateways.thrift.export
    import kitmsg_gateways.thrift.upstream
    from kitmsg import asyncapi
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.worker.plugins import EventExporter, Exporter, Gateway, UpstreamKind
    from tests.cli.conftest import Ran

    # mypy holds that our own keep to the seam.
    OUR_GATEWAYS: list[Gateway] = [
        kitmsg_gateways.grpc,
        kitmsg_gateways.http,
        kitmsg_gateways.thrift,
    ]
    OUR_UPSTREAMS: list[UpstreamKind] = [
        kitmsg_gateways.grpc.upstream,
        kitmsg_gateways.http.upstream,
        kitmsg_gateways.thrift.upstream,
    ]
    OUR_EXPORTERS: list[Exporter] = [
        kitmsg_gateways.grpc.export,
        kitmsg_gateways.thrift.export,
    ]
    OUR_EVENT_EXPORTERS: list[EventExporter] = [asyncapi]

ENTRY_POINTS = """\
[kitmsg.gateways]
toy = toy_kit.gateway
broken = toy_kit.broken
half = toy_kit.half
absent = toy_kit.absent

[kitmsg.upstreams]
toy = toy_kit.upstream

[kitmsg.exporters]
toy = toy_kit.export
"""

GATEWAY = '''\
"""One line in, one line out: SERVICE.ENDPOINT JSON."""
import asyncio, json, socket
from dataclasses import dataclass

TITLE = "Toy"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Options.

    Attributes:
        host: Address to listen on.
        port: Port to listen on.
        greeting: First line that a client reads.
        workers: Processes.
        drain_timeout: Seconds for the calls in flight when stopping.
    """

    host: str = "127.0.0.1"
    port: int = 0
    greeting: str = "hello"
    workers: int = 1
    drain_timeout: float = 1.0


class Server:
    def __init__(self, kit, options):
        self.kit, self.options = kit, options

    async def start(self, sockets):
        given = {"host": self.options.host, "port": self.options.port}
        given = {"sock": sockets[0]} if sockets else given
        self.server = await asyncio.start_server(self.talk, **given)
        host, port = self.server.sockets[0].getsockname()
        self.url = f"toy://{host}:{port}"
        print("toy at", self.url, flush=True)

    async def talk(self, reader, writer):
        writer.write(self.options.greeting.encode() + b"\\n")
        async for line in reader:
            name, _, request = line.decode().partition(" ")
            answer = await self.kit.call(name, **json.loads(request))
            writer.write(json.dumps(answer).encode() + b"\\n")
        writer.close()

    async def stop(self):
        self.server.close()
        print("toy stopped", flush=True)


async def serve(kit, options=None, *, sockets=(), port=None):
    server = Server(kit, options or GatewayOptions())
    await server.start(sockets)
    return server


def listen(options):
    return [socket.create_server((options.host, options.port))]


def check(options):
    from kitmsg.errors import InvalidArgument
    if not options.greeting:
        raise InvalidArgument("a toy greets: give --greeting")
'''

UPSTREAM = '''\
"""Upper-cases, and says with which words."""
from dataclasses import dataclass
from kitmsg.service.described import describe
from kitmsg_gateways.upstream import Remote, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Options.

    Attributes:
        mark: Put at the end.
    """

    mark: str = "!"


async def open_upstream(name, addresses, options):
    if not addresses:
        raise ValueError("a toy has an address")

    async def shout(ctx, request):
        return request["text"].upper() + options.mark + addresses[0]

    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    declaration = describe(name, "shout", request=schema, response={"type": "string"})
    return Upstream(name, [Remote(declaration, shout)], kind="toy")
'''

EXPORT = """\
TITLE, LOCK, SUFFIX = "Toy", "kitmsg.toy.lock", ".toy"

def generate(services, lock):
    return "".join(f"toy {each.service}\\n" for each in services)
"""

SERVICE = '''\
from kitmsg import Service, endpoint

class Greeter(Service):
    """Greets."""

    @endpoint
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"
'''


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the package ``toy-kit`` installed."""
    site = tmp_path / "site"
    package, info = site / "toy_kit", site / "toy_kit-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-kit\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    modules = {
        "__init__": "",
        "gateway": GATEWAY,
        "upstream": UPSTREAM,
        "export": EXPORT,
        "broken": "raise RuntimeError('no licence')",
        "half": "GatewayOptions = object",
    }
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return {"PYTHONPATH": str(site)}


def kitmsg(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kitmsg.cli", *words],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def ask(url: str, name: str, **request: str) -> tuple[str, str]:
    """Return the greeting of a toy, and its answer to a call."""
    host, _, port = url.removeprefix("toy://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        lines = connection.makefile("rw")
        greeting = lines.readline().strip()
        lines.write(f"{name} {json.dumps(request)}\n")
        lines.flush()
        return greeting, json.loads(lines.readline())


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
def test_a_gateway_of_another_package_runs(
    shop: str, tmp_path: Path, environ: dict[str, str], flags: tuple[str, ...]
) -> None:
    """Its options are flags; it serves in one process or in several, and drains."""
    words = ["-m", "kitmsg.cli", "gateway", "toy", "--greeting", "hey", *flags]
    with Command(words, tmp_path, nats_url=shop, environ=environ) as command:
        command.says("toy at", 2 if flags else 1)
        found = re.search(r"toy at (\S+)", command.output)
        assert found
        assert ask(found[1], "shop.shout", text="tea") == ("hey", "TEA")
        command.send(signal.SIGTERM)
        assert command.ends() == 0
        assert command.output.count("toy stopped") == (2 if flags else 1)


def test_an_upstream_of_another_package_runs(
    nats_server: EmbeddedServer,
    tmp_path: Path,
    environ: dict[str, str],
    cli: Callable[..., Ran],
) -> None:
    """It is served by a worker and called like any service."""
    words = ["-m", "kitmsg.cli", "upstream", "toy", "there", "--as", "toys"]
    words += ["--mark", "?"]
    with Command(words, tmp_path, nats_url=nats_server.url, environ=environ) as command:
        command.says("toys 0.1.0 is serving")
        ran = cli("call", "toys.shout", "text=tea", nats_url=nats_server.url)
        assert ran.out == "TEA?there\n"
        command.send(signal.SIGTERM)
        assert command.ends() == 0


def test_an_exporter_of_another_package_runs(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """It writes files with the suffix of its own."""
    (tmp_path / "greet.py").write_text(SERVICE)
    out = tmp_path / "out"
    words = ("export", "toy", f"{tmp_path / 'greet.py'}", "--out", str(out))
    ran = kitmsg(environ, *words, "--lock", str(tmp_path / "lock"))
    assert ran.returncode == 0, ran.stderr
    assert (out / "services.toy").read_text() == "toy greeter\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("gateway", "broken"),
            "the gateway 'broken' of toy-kit cannot be loaded: RuntimeError: no licence",
        ),
        (
            ("gateway", "absent", "--help"),
            "the gateway 'absent' of toy-kit cannot be loaded: ModuleNotFoundError",
        ),
        (
            ("gateway", "half"),
            "the gateway 'half' of toy-kit lacks serve in toy_kit.half",
        ),
        (("gateway", "toy", "--greeting", ""), "a toy greets: give --greeting"),
        (("gateway", "none"), "'none'"),
        (("upstream", "toy", "--as", "toys"), "a toy has an address"),
    ],
)
def test_a_plugin_that_cannot_work_is_a_sentence(
    environ: dict[str, str], words: tuple[str, ...], sentence: str
) -> None:
    """One that is broken, absent or incomplete names its package; exit code 2."""
    ran = kitmsg(environ, *words)
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_broken_plugin_is_in_nobodys_way(environ: dict[str, str]) -> None:
    """Kinds are listed, and others run, without an import of it."""
    ran = kitmsg(environ, "gateway", "--help")
    assert all(f"    {name} " in ran.stdout for name in ("broken", "http", "toy"))
    ran = kitmsg(environ, "gateway", "toy", "--help")
    assert "First line that a client reads (default: hello)" in ran.stdout
    assert "Serve every service found on the bus over Toy." in ran.stdout


def test_one_kind_of_two_packages_is_refused(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """Which of them would run is not left to chance."""
    info = tmp_path / "site" / "other-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[kitmsg.gateways]\ntoy = other\n")
    ran = kitmsg(environ, "gateway", "toy")
    assert ran.returncode == 2
    assert re.search(
        r"the gateway 'toy' comes from \S+ and \S+: uninstall one", ran.stderr
    )


@pytest.mark.parametrize("verb", ["gateway", "upstream", "export"])
def test_the_list_of_kinds_imports_no_kind(verb: str) -> None:
    """``--help`` reads the names of the entry points, and stays as quick as it is."""
    code = (
        "import sys\nfrom kitmsg.cli import main\n"
        f"try:\n    main(['{verb}', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = ran.stderr.split()
    assert "kitmsg.worker.plugins" in loaded
    heavy = {
        "kitmsg_gateways",
        "aiohttp",
        "grpc",
        "google.protobuf",
        "thriftpy2",
        "mcp",
    }
    assert not heavy & set(loaded)


@pytest.mark.parametrize("kinds", [GATEWAYS, UPSTREAMS, EXPORTERS])
def test_our_own_are_plugins_too(kinds: object) -> None:
    """Each of them loads by its name."""
    assert isinstance(kinds, type(GATEWAYS))
    names = kinds.names()
    assert {"thrift"} < set(names)
    for name in names:
        module = kinds.load(name)
        assert import_module(getattr(module, "__name__", "")) is module
